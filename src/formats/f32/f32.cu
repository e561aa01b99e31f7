#include "formats/device.cuh"
#include "formats/f32/f32.h"

MXGPT_DEFINE_DEVICE(f32, F32)
