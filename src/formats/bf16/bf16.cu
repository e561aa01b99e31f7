#include "formats/bf16/bf16.h"
#include "formats/device.cuh"

MXGPT_DEFINE_DEVICE(bf16, Bf16)
