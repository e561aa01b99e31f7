#include "backend/cuda/generic/gemm.cuh"
#include "quant/q5_0/q5_0.h"

MXGPT_DEFINE_CUDA(q5_0, Q5_0)
