#include "formats/q6_k/q6_k.h"

MXGPT_DEFINE_FORMAT(q6_k, Q6_K, nullptr)
