#include "kernels/cpu/reference.h"
#include "quant/toy/toy.h"

MXGPT_DEFINE_SCALAR(toy, Toy)
