#include "formats/iq4_nl/iq4_nl.h"

MXGPT_DEFINE_FORMAT(iq4_nl, IQ4_NL, nullptr)
