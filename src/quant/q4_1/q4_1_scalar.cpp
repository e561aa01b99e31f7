#include "kernels/cpu/reference.h"
#include "quant/q4_1/q4_1.h"

MXGPT_DEFINE_SCALAR(q4_1, Q4_1)
