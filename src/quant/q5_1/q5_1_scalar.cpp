#include "kernels/cpu/reference.h"
#include "quant/q5_1/q5_1.h"

MXGPT_DEFINE_SCALAR(q5_1, Q5_1)
