// Instruction sets that kernels are written for. A kernel of one lives in a file with its suffix
// (`_avx2.cpp`), which is entered only after the run-time check here.
#pragma once

/// For what files of several instruction sets include: of an inline function's copies the linker
/// keeps one, and that must not be the one made with AVX2. So such functions have no copies.
#define MXGPT_ALWAYS_INLINE [[gnu::always_inline]] inline

namespace mxgpt {

enum class Isa { scalar, avx2 };
inline constexpr int kIsaCount = 2;

/// The best instruction set of this processor, or the one that the environment variable MXGPT_ISA
/// names
/// (`scalar`, `avx2`). Read once. Throws Error if the variable asks for what the processor lacks.
Isa isa();
const char* isa_name(Isa isa);
/// Whether this processor has it.
bool isa_supported(Isa isa);

}  // namespace mxgpt
