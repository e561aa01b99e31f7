#include "kernels/cpu/reference.h"
#include "quant/q4_0/q4_0.h"

MXGPT_DEFINE_SCALAR(q4_0, Q4_0)
