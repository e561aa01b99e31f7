#include "kernels/cpu/reference.h"
#include "quant/q3_k/q3_k.h"

MXGPT_DEFINE_SCALAR(q3_k, Q3_K)
