#include "formats/device.cuh"
#include "formats/q5_0/q5_0.h"

MXGPT_DEFINE_DEVICE(q5_0, Q5_0)
