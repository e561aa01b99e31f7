#include "formats/device.cuh"
#include "formats/q2_k/q2_k.h"

MXGPT_DEFINE_DEVICE(q2_k, Q2_K)
