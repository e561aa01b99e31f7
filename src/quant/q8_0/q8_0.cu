#include "backend/cuda/generic/gemm.cuh"
#include "quant/q8_0/q8_0.h"

MXGPT_DEFINE_CUDA(q8_0, Q8_0)
