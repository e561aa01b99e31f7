#include "backend/cuda/generic/gemm.cuh"
#include "quant/iq4_nl/iq4_nl.h"

MXGPT_DEFINE_CUDA(iq4_nl, IQ4_NL)
