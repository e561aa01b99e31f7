#include "kernels/cpu/reference.h"
#include "quant/q4_k/q4_k.h"

MXGPT_DEFINE_SCALAR(q4_k, Q4_K)
