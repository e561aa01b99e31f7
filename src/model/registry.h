// All supported architectures: a file model/arch/<name>.cpp that defines `const Architecture
// <name>`, and a line here.
#pragma once

#define MXGPT_ARCHITECTURES(X) \
  X(gpt_oss)                   \
  X(gpt2)                      \
  X(llama)                     \
  X(qwen2)                     \
  X(qwen3)                     \
  X(phi3)                      \
  X(gemma3)
