#include "backend/cuda/generic/gemm.cuh"
#include "quant/f32/f32.h"

MXGPT_DEFINE_CUDA(f32, F32)
