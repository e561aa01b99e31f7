#include "backend/cuda/generic/gemm.cuh"
#include "quant/q4_1/q4_1.h"

MXGPT_DEFINE_CUDA(q4_1, Q4_1)
