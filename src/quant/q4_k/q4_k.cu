#include "backend/cuda/generic/gemm.cuh"
#include "quant/q4_k/q4_k.h"

MXGPT_DEFINE_CUDA(q4_k, Q4_K)
