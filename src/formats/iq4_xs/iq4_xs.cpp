#include "formats/iq4_xs/iq4_xs.h"

MXGPT_DEFINE_FORMAT(iq4_xs, IQ4_XS, nullptr)
