#include "backend/cuda/generic/gemm.cuh"
#include "quant/q3_k/q3_k.h"

MXGPT_DEFINE_CUDA(q3_k, Q3_K)
