#include "backend/cuda/generic/gemm.cuh"
#include "quant/iq4_xs/iq4_xs.h"

MXGPT_DEFINE_CUDA(iq4_xs, IQ4_XS)
