#include "formats/q4_k/q4_k.h"

MXGPT_DEFINE_FORMAT(q4_k, Q4_K, nullptr)
