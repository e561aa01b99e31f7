#include "formats/toy/toy.h"

MXGPT_DEFINE_FORMAT(toy, Toy, nullptr)
