// Instruction sets with kernels of their own. The kernels of one are in files with its suffix
// (`_avx2.cpp`, `_avx512.cpp`), which run only after the check at run time here.
#pragma once

namespace mxgpt::kernels {

/// In order of speed; each includes those before it. avx512 means F, BW, DQ, VL and VNNI: Cascade
/// Lake, Zen 4 and later.
enum class Isa { scalar, avx2, avx512 };
inline constexpr int kIsaCount = 3;

/// The best instruction set of this processor, or the one named (isa_name) by the environment
/// variable MXGPT_ISA. Determined once. Throws Error if the processor lacks the named one.
Isa isa();
const char* isa_name(Isa isa);
/// Whether this processor has the instruction set and the operating system saves its registers.
bool isa_supported(Isa isa);

}  // namespace mxgpt::kernels
