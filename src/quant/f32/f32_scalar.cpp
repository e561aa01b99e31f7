#include "kernels/cpu/reference.h"
#include "quant/f32/f32.h"

MXGPT_DEFINE_SCALAR(f32, F32)
