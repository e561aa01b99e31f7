// Every tensor format mxgpt knows: a folder of formats/ and a line here. The line makes the enumerator, the
// traits row, the dispatch and the typed tests.
#pragma once

#define MXGPT_FORMATS(X) \
  X(f32)                 \
  X(f16)                 \
  X(bf16)                \
  X(mxfp4)               \
  X(q8_0)
