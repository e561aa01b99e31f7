#include "backend/cuda/generic/gemm.cuh"
#include "quant/q5_k/q5_k.h"

MXGPT_DEFINE_CUDA(q5_k, Q5_K)
