#include "formats/device.cuh"
#include "formats/f16/f16.h"

MXGPT_DEFINE_DEVICE(f16, F16)
