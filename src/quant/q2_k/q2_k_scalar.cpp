#include "kernels/cpu/reference.h"
#include "quant/q2_k/q2_k.h"

MXGPT_DEFINE_SCALAR(q2_k, Q2_K)
