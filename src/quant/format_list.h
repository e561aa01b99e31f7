// Every tensor format: a folder of quant/ and a line here. The line generates the enumerator, the
// traits, the kernel tables and the parameterized tests.
#pragma once

#define MXGPT_FORMATS(X) \
  X(f32)                 \
  X(f16)                 \
  X(bf16)                \
  X(mxfp4)               \
  X(q4_0)                \
  X(q4_1)                \
  X(q5_0)                \
  X(q5_1)                \
  X(q8_0)                \
  X(q2_k)                \
  X(q3_k)                \
  X(q4_k)                \
  X(q5_k)                \
  X(q6_k)                \
  X(iq4_nl)              \
  X(iq4_xs)
