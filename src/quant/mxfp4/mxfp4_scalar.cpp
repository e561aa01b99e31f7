#include "kernels/cpu/reference.h"
#include "quant/mxfp4/mxfp4.h"

MXGPT_DEFINE_SCALAR(mxfp4, Mxfp4)
