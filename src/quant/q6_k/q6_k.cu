#include "backend/cuda/generic/gemm.cuh"
#include "quant/q6_k/q6_k.h"

MXGPT_DEFINE_CUDA(q6_k, Q6_K)
