#include "backend/cuda/generic/gemm.cuh"
#include "quant/bf16/bf16.h"

MXGPT_DEFINE_CUDA(bf16, Bf16)
