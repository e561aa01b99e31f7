#include "formats/device.cuh"
#include "formats/q4_1/q4_1.h"

MXGPT_DEFINE_DEVICE(q4_1, Q4_1)
