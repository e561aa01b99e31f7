#include "kernels/cpu/reference.h"
#include "quant/f16/f16.h"

MXGPT_DEFINE_SCALAR(f16, F16)
