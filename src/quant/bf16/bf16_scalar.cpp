#include "kernels/cpu/reference.h"
#include "quant/bf16/bf16.h"

MXGPT_DEFINE_SCALAR(bf16, Bf16)
