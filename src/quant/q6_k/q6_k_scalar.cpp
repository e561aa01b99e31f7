#include "kernels/cpu/reference.h"
#include "quant/q6_k/q6_k.h"

MXGPT_DEFINE_SCALAR(q6_k, Q6_K)
