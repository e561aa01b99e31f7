#include "backend/cuda/generic/gemm.cuh"
#include "quant/mxfp4/mxfp4.h"

MXGPT_DEFINE_CUDA(mxfp4, Mxfp4)
