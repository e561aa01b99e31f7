#include "formats/device.cuh"
#include "formats/q4_0/q4_0.h"

MXGPT_DEFINE_DEVICE(q4_0, Q4_0)
