#include "formats/device.cuh"
#include "formats/q5_1/q5_1.h"

MXGPT_DEFINE_DEVICE(q5_1, Q5_1)
