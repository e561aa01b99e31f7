#include "formats/device.cuh"
#include "formats/q5_k/q5_k.h"

MXGPT_DEFINE_DEVICE(q5_k, Q5_K)
