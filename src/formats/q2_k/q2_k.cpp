#include "formats/q2_k/q2_k.h"

MXGPT_DEFINE_FORMAT(q2_k, Q2_K, nullptr)
