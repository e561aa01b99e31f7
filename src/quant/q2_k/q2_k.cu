#include "backend/cuda/generic/gemm.cuh"
#include "quant/q2_k/q2_k.h"

MXGPT_DEFINE_CUDA(q2_k, Q2_K)
