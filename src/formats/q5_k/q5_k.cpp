#include "formats/q5_k/q5_k.h"

MXGPT_DEFINE_FORMAT(q5_k, Q5_K, nullptr)
