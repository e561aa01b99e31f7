#include "formats/device.cuh"
#include "formats/q6_k/q6_k.h"

MXGPT_DEFINE_DEVICE(q6_k, Q6_K)
