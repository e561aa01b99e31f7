#include "formats/device.cuh"
#include "formats/iq4_nl/iq4_nl.h"

MXGPT_DEFINE_DEVICE(iq4_nl, IQ4_NL)
