// Instruction sets that kernels are written for. A kernel of one lives in a file with its suffix
// (`_avx2.cpp`, `_avx512.cpp`), which is entered only after the run-time check here.
#pragma once

/// For what files of several instruction sets include: of an inline function's copies the linker
/// keeps one, and that must not be the one made for another processor. So such functions have no
/// copies.
#define MXGPT_ALWAYS_INLINE [[gnu::always_inline]] inline

namespace mxgpt::kernels {

/// From the slowest to the fastest; who has one has those before it. avx512 is that of Cascade Lake
/// and Zen 4 and later: F, BW, DQ, VL and VNNI.
enum class Isa { scalar, avx2, avx512 };
inline constexpr int kIsaCount = 3;

/// The best instruction set of this processor, or the one that the environment variable MXGPT_ISA
/// names (isa_name). Read once. Throws Error if the variable asks for what the processor lacks.
Isa isa();
const char* isa_name(Isa isa);
/// Whether this processor has it, and the operating system keeps its registers.
bool isa_supported(Isa isa);

}  // namespace mxgpt::kernels
