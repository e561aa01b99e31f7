#include "formats/device.cuh"
#include "formats/q3_k/q3_k.h"

MXGPT_DEFINE_DEVICE(q3_k, Q3_K)
