#include "backend/cuda/generic/gemm.cuh"
#include "quant/q5_1/q5_1.h"

MXGPT_DEFINE_CUDA(q5_1, Q5_1)
