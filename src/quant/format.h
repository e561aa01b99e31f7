// Tensor formats: how weights lie in memory. A tensor is rows of `k` elements, a row is whole
// blocks.
//
// A quantized format is a folder with its Block, one `unpack` that gives 32 elements as integers
// with scales (the scalar oracle), and for AVX2 `load` and `scales`; dequantize and matrix products
// follow from those in scalar.h and avx2_matmul.h. A floating-point format gives `value(Block)`
// instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/cpu/isa.h"
#include "quant/format_list.h"

namespace mxgpt::quant {

enum class Format : uint8_t {
#define MXGPT_ENUMERATOR(folder) folder,
  MXGPT_FORMATS(MXGPT_ENUMERATOR)
#undef MXGPT_ENUMERATOR
};

#define MXGPT_COUNT(folder) +1
inline constexpr int kFormatCount = 0 MXGPT_FORMATS(MXGPT_COUNT);
#undef MXGPT_COUNT

/// Elements that share one scale of 16-bit activations; every quantized block is a multiple of it.
inline constexpr int kQuantGroup = 32;

/// Where element i of a group of 16-bit activations lies: in each half of the group the even
/// elements come first, then the odd ones. A mask and a shift take the weights' bytes apart so.
constexpr int interleaved_index(int i) {
  return i / 16 * 16 + i % 2 * 8 + i % 16 / 2;
}

/// Largest magnitude of an activation in 16 bits: 127 · 256 + 127, so that q = 256 · high + low
/// with two signed bytes.
inline constexpr int kMaxInt16Activation = 32639;

/// Quads of a group of activations that may exceed a byte, see OutlierSplitGroup. A quad is
/// elements 4i to 4i + 3.
inline constexpr int kOutlierDwords = 2;

/// A limit on the sum of magnitudes of sixteen low bytes: with weights of 0 to 24 their products
/// add up in 16 bits.
inline constexpr int kMaxLowSum = 1365;

/// A group of 16-bit activations in which all quads but two fit in bytes, cut for kernels that
/// multiply bytes: q = low + 256 · high, where `high` is zero but for those of two quads. All that
/// such kernels need lies in one cache line.
struct alignas(64) OutlierSplitGroup {
  /// In the order of k. |low| of the first two of all quads add up to kMaxLowSum at most, and so do
  /// those of the other two.
  int8_t low[kQuantGroup];
  int8_t outlier_high[kOutlierDwords][4];
  /// The first elements of those quads; of any, with zeros in `high`, where there is none.
  uint16_t outlier_offset[kOutlierDwords];
  int32_t bias_products[3];  ///< Σ q times 8, 12 and 16, for weights held as q + 8, 12 or 16
  float scale, sum;          ///< as in Int16Activations, `sum` over the whole group

  MXGPT_ALWAYS_INLINE void set_sums(float scale_of_q, const float (&sums)[2],
                                    const int32_t (&totals)[2]) {
    scale = scale_of_q;
    sum = sums[0] + sums[1];
    const uint32_t total = static_cast<uint32_t>(totals[0]) + static_cast<uint32_t>(totals[1]);
    for (int i = 0; i < 3; ++i)  // of a NaN, any: it may wrap
      bias_products[i] = static_cast<int32_t>(total * static_cast<uint32_t>(8 + 4 * i));
  }
  /// bias · Σ q
  MXGPT_ALWAYS_INLINE int32_t bias_product(int bias) const { return bias_products[bias / 4 - 2]; }
};
static_assert(sizeof(OutlierSplitGroup) == 64);

/// Activations in 16 bits: x ≈ scale · q in groups of 32, |q| <= kQ16Most. They are rounded either
/// to all the 16 bits, or so that all quads but the two largest of a group fit in 8 (FormatTraits::
/// int8_activations). With 8 bits throughout, as others have them, models change too many of their
/// answers (docs/numerics.md): the step would be that of a few large values.
struct Int16Activations {
  const int16_t* q;    ///< [rows][k], each group in the order of interleaved_index
  const float* scale;  ///< [rows][k / 32]
  const float* sum;  ///< [rows][k / 16]: scale · Σ q over half a group, for formats with offsets
  const int32_t* q_sum;  ///< [rows][k / 16]: Σ q, for kernels that hold weights as q + bias
  const OutlierSplitGroup* outlier_split =
      nullptr;  ///< [rows][k / 32]: the same q, or null where some do not fit
};

/// What holds a running sum of products. With f16, as tensor cores with f16 accumulators do it:
/// after each group of 32 elements in the order of k (a row's last group may be shorter) the sum is
/// rounded to f16, to nearest even; inside a group, products and sums are f32. Beyond 65504 it
/// becomes infinity, and stays so or becomes NaN.
enum class AccumType : uint8_t { f32, f16 };
inline constexpr int kAccumTypeCount = 2;

/// A tile of out = x · Wᵀ: all `tokens` against `rows` rows of one weight.
struct GemmArgs {
  const std::byte* weights;  ///< first row of the tile, aligned as the format's block
  int64_t row_bytes;
  int64_t rows;
  int64_t k;                   ///< elements a row
  const float* x;              ///< [.][k]; for matmul_f32
  Int16Activations x_int16;    ///< for matmul_int16
  const int32_t* row_indices;  ///< row of x (or x_int16) for each token, or null for 0, 1, 2…
  int64_t tokens;
  float* out;  ///< out[token * out_stride + row] is overwritten
  int64_t out_stride;
  AccumType accum_type = AccumType::f32;
};

/// A result is one chain of sums in f32, from 0 on, in the order of k, so that it does not depend
/// on the rows and tokens beside it.
struct GemmKernels {
  /// Activations in f32: with accumulation in f32 the exact path; the only one of floating-point
  /// formats. sum = w · x + sum for each element, w as `dequantize` gives it; fused, and so the
  /// same bits, on every instruction set but `scalar`.
  void (*matmul_f32)(const GemmArgs&);
  /// Activations in 16 bits; the same bits on every instruction set. Null for floating-point
  /// formats. For each group, by fused multiply-adds:
  ///   sum = (scale · x.scale) · (float) Σ q · x.q + sum
  ///   sum = offset · (x.sum[0] + x.sum[1]) + sum       formats with offsets
  /// the products of scales rounded, Σ in integers. Where each half of a group has a scale of its
  /// own, there are two of the first kind, then two of the second, each with its own x.sum.
  void (*matmul_int16)(const GemmArgs&);
};

struct FormatTraits {
  std::string_view name;  ///< "MXFP4", as GGUF programs print it
  uint32_t ggml_type;     ///< id in GGUF files
  int block_elements;
  int block_bytes;
  /// Whether its q differ by so little that sums of their products with bytes fit in 16 bits: then
  /// most activations are rounded to 8 bits.
  bool int8_activations;
  /// Blocks to f32, scalar: the oracle. `elements` is a multiple of block_elements.
  void (*dequantize)(const std::byte* blocks, int64_t elements, float* out);
  /// f32 to blocks; null where mxgpt does not write the format. `importance`, if not null, holds
  /// for each element the weight of its squared error, which formats with a choice of scales then
  /// minimize. A block with a NaN or an infinity, or with a magnitude beyond f16 where scales are
  /// f16, becomes NaN as a whole (floating-point formats: the element alone).
  void (*quantize)(const float* in, int64_t elements, const float* importance, std::byte* blocks);
  const GemmKernels* kernels[kernels::kIsaCount];  ///< by Isa; null where the build lacks it

  int64_t row_bytes(int64_t elements) const { return elements / block_elements * block_bytes; }
};

const FormatTraits& traits(Format format);

/// Empty for a type that mxgpt does not know.
std::optional<Format> format_from_ggml_type(uint32_t type);
/// By name, case ignored ("mxfp4", "Q8_0").
std::optional<Format> format_from_name(std::string_view name);

/// The kernels of the instruction set that isa() chose.
inline const GemmKernels& gemm_kernels(Format format) {
  return *traits(format).kernels[static_cast<int>(kernels::isa())];
}

}  // namespace mxgpt::quant
