#include "formats/device.cuh"
#include "formats/mxfp4/mxfp4.h"

MXGPT_DEFINE_DEVICE(mxfp4, Mxfp4)
