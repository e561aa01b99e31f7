#include "kernels/cpu/reference.h"
#include "quant/q8_0/q8_0.h"

MXGPT_DEFINE_SCALAR(q8_0, Q8_0)
