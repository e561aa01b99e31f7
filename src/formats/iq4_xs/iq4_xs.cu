#include "formats/device.cuh"
#include "formats/iq4_xs/iq4_xs.h"

MXGPT_DEFINE_DEVICE(iq4_xs, IQ4_XS)
