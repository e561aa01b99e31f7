#include "kernels/cpu/reference.h"
#include "quant/iq4_nl/iq4_nl.h"

MXGPT_DEFINE_SCALAR(iq4_nl, IQ4_NL)
