#include "backend/cuda/generic/gemm.cuh"
#include "quant/f16/f16.h"

MXGPT_DEFINE_CUDA(f16, F16)
