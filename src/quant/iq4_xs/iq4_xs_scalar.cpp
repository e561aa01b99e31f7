#include "kernels/cpu/reference.h"
#include "quant/iq4_xs/iq4_xs.h"

MXGPT_DEFINE_SCALAR(iq4_xs, IQ4_XS)
