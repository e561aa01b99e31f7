#include "formats/device.cuh"
#include "formats/q8_0/q8_0.h"

MXGPT_DEFINE_DEVICE(q8_0, Q8_0)
