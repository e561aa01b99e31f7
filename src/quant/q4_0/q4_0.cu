#include "backend/cuda/generic/gemm.cuh"
#include "quant/q4_0/q4_0.h"

MXGPT_DEFINE_CUDA(q4_0, Q4_0)
