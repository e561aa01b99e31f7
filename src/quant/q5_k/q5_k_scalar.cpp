#include "kernels/cpu/reference.h"
#include "quant/q5_k/q5_k.h"

MXGPT_DEFINE_SCALAR(q5_k, Q5_K)
