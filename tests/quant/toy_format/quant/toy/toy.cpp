#include "quant/toy/toy.h"

MXGPT_DEFINE_FORMAT(toy, Toy, nullptr)
