#include "kernels/cpu/reference.h"
#include "quant/q5_0/q5_0.h"

MXGPT_DEFINE_SCALAR(q5_0, Q5_0)
