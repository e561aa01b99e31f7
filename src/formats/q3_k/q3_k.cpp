#include "formats/q3_k/q3_k.h"

MXGPT_DEFINE_FORMAT(q3_k, Q3_K, nullptr)
