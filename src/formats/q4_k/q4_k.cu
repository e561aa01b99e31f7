#include "formats/device.cuh"
#include "formats/q4_k/q4_k.h"

MXGPT_DEFINE_DEVICE(q4_k, Q4_K)
