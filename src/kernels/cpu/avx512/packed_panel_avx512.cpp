#include "kernels/cpu/avx512/packed_panel.h"
#include "kernels/cpu/gemm.h"

namespace mxgpt::kernels::avx512 {
namespace {

template <AccumType kAccum>
__m512 round_accumulator(__m512 sums) {
  if constexpr (kAccum == AccumType::f16)
    return _mm512_cvtph_ps(_mm512_cvtps_ph(sums, _MM_FROUND_TO_NEAREST_INT));
  else
    return sums;
}

/// The sums of kVectors · 16 rows and kTokens tokens: in registers within a panel, in p.out between
/// panels.
template <int kVectors, int kTokens>
struct AccumulatorTile {
  __m512 at[kVectors][kTokens];

  MXGPT_ALWAYS_INLINE AccumulatorTile(const GemmArgs& p, const PanelCoords& coords, int64_t token) {
    for (int v = 0; v < kVectors; ++v) {
      for (int t = 0; t < kTokens; ++t) {
        at[v][t] = coords.element == 0
                       ? _mm512_setzero_ps()
                       : _mm512_maskz_loadu_ps(mask(coords, v), out(p, coords, token + t, v));
      }
    }
  }
  MXGPT_ALWAYS_INLINE void store(const GemmArgs& p, const PanelCoords& coords,
                                 int64_t token) const {
    for (int v = 0; v < kVectors; ++v) {
      for (int t = 0; t < kTokens; ++t)
        _mm512_mask_storeu_ps(out(p, coords, token + t, v), mask(coords, v), at[v][t]);
    }
  }

 private:
  static __mmask16 mask(const PanelCoords& coords, int v) {
    return static_cast<__mmask16>(0xffff >> max_of(0, kLanes * (v + 1) - coords.rows));
  }
  static float* out(const GemmArgs& p, const PanelCoords& coords, int64_t token, int v) {
    return p.out + token * p.out_stride + coords.row + v * kLanes;
  }
};

/// Adds the products of both elements of each dword to its sum.
MXGPT_ALWAYS_INLINE __m512i dot_int16(__m512i sums, __m512i weights, int32_t x) {
  return _mm512_dpwssd_epi32(sums, weights, _mm512_set1_epi32(x));
}

template <int kScales, bool kHasOffset, AccumType kAccum>
struct Int16 {
  template <int kVectors, int kTokens>
  static void tile(const PackedPanel& panel, const PanelCoords& at, const GemmArgs& p,
                   int64_t token) {
    const int32_t* x[kTokens];
    const float *x_scale[kTokens], *x_sum[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      const int64_t element = activation_row(p, token + t) * p.k + at.element;
      x[t] = reinterpret_cast<const int32_t*>(p.x_int16.q + element);
      x_scale[t] = p.x_int16.scale + element / quant::kQuantGroup;
      x_sum[t] = p.x_int16.sum + element / 16;
    }
    AccumulatorTile<kVectors, kTokens> sums(p, at, token);
    constexpr int kPairs = 16 / kScales;
    for (int g = 0; g < at.elements / quant::kQuantGroup; ++g) {
      for (int half = 0; half < kScales; ++half) {
        const int first = g * 16 + half * kPairs;
        __m512i dots[kVectors][kTokens] = {};
#pragma GCC unroll 16
        for (int i = 0; i < kPairs; ++i) {
          for (int t = 0; t < kTokens; ++t) {
            for (int v = 0; v < kVectors; ++v) {
              const __m512i w = _mm512_load_si512(panel.pairs[first + i] + v * kLanes);
              dots[v][t] = dot_int16(dots[v][t], w, x[t][first + i]);
            }
          }
        }
        for (int v = 0; v < kVectors; ++v) {
          const __m512 w_scale = _mm512_load_ps(panel.scale[g * kScales + half] + v * kLanes);
          for (int t = 0; t < kTokens; ++t) {
            const __m512 scale = _mm512_mul_ps(w_scale, _mm512_set1_ps(x_scale[t][g]));
            sums.at[v][t] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots[v][t]), sums.at[v][t]);
          }
        }
      }
      if constexpr (kHasOffset) {
        for (int half = 0; half < kScales; ++half) {
          for (int t = 0; t < kTokens; ++t) {
            const float* sum = x_sum[t] + g * 2;
            const __m512 x_half = _mm512_set1_ps(kScales == 1 ? sum[0] + sum[1] : sum[half]);
            for (int v = 0; v < kVectors; ++v) {
              const __m512 offset = _mm512_load_ps(panel.offset[g * kScales + half] + v * kLanes);
              sums.at[v][t] = _mm512_fmadd_ps(offset, x_half, sums.at[v][t]);
            }
          }
        }
      }
      for (auto& row : sums.at)
        for (auto& sum : row) sum = round_accumulator<kAccum>(sum);
    }
    sums.store(p, at, token);
  }
};

template <AccumType kAccum>
struct F32 {
  template <int kVectors, int kTokens>
  static void tile(const PackedPanelF32& panel, const PanelCoords& at, const GemmArgs& p,
                   int64_t token) {
    const float* x[kTokens];
    for (int t = 0; t < kTokens; ++t) x[t] = p.x + activation_row(p, token + t) * p.k + at.element;
    AccumulatorTile<kVectors, kTokens> sums(p, at, token);
    for (int group = 0; group < at.elements; group += quant::kQuantGroup) {
      const int end = min_of(group + quant::kQuantGroup, at.elements);
      for (int i = group; i < end; ++i) {
        for (int t = 0; t < kTokens; ++t) {
          for (int v = 0; v < kVectors; ++v) {
            const __m512 w = _mm512_load_ps(panel.w[i] + v * kLanes);
            sums.at[v][t] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[t][i]), sums.at[v][t]);
          }
        }
      }
      for (auto& row : sums.at)
        for (auto& sum : row) sum = round_accumulator<kAccum>(sum);
    }
    sums.store(p, at, token);
  }
};

/// Splits the tokens into tiles of nearly equal size, at most six (MR). Twelve integer and twelve
/// f32 accumulators hide the multiply latency and leave registers for the weights. A tile of one
/// token would take as long as one of four.
template <class Kernel, int kVectors, class AnyPanel>
void multiply_all_tokens(const AnyPanel& panel, const PanelCoords& at, const GemmArgs& p) {
  using Tile = void (*)(const AnyPanel&, const PanelCoords&, const GemmArgs&, int64_t);
  static constexpr Tile kTiles[] = {
      Kernel::template tile<kVectors, 1>, Kernel::template tile<kVectors, 2>,
      Kernel::template tile<kVectors, 3>, Kernel::template tile<kVectors, 4>,
      Kernel::template tile<kVectors, 5>, Kernel::template tile<kVectors, 6>};
  constexpr int64_t kMaxTileTokens = sizeof kTiles / sizeof *kTiles;
  int64_t tiles = (p.tokens + kMaxTileTokens - 1) / kMaxTileTokens;
  for (int64_t token = 0; token < p.tokens; --tiles) {
    const int64_t tokens = (p.tokens - token + tiles - 1) / tiles;
    kTiles[tokens - 1](panel, at, p, token);
    token += tokens;
  }
}

template <class Kernel, class AnyPanel>
void multiply_all_rows(const AnyPanel& panel, const PanelCoords& at, const GemmArgs& p) {
  if (at.rows > kLanes)
    multiply_all_tokens<Kernel, 2>(panel, at, p);
  else
    multiply_all_tokens<Kernel, 1>(panel, at, p);
}

template <AccumType kAccum>
void multiply_panel_accum(const PackedPanel& panel, const PanelCoords& at, int scales, bool offset,
                          const GemmArgs& p) {
  if (scales == 1) {
    offset ? multiply_all_rows<Int16<1, true, kAccum>>(panel, at, p)
           : multiply_all_rows<Int16<1, false, kAccum>>(panel, at, p);
  } else {
    offset ? multiply_all_rows<Int16<2, true, kAccum>>(panel, at, p)
           : multiply_all_rows<Int16<2, false, kAccum>>(panel, at, p);
  }
}

}  // namespace

void multiply_panel(const PackedPanel& panel, const PanelCoords& at, int scales, bool offset,
                    const GemmArgs& p) {
  p.accum_type == AccumType::f16
      ? multiply_panel_accum<AccumType::f16>(panel, at, scales, offset, p)
      : multiply_panel_accum<AccumType::f32>(panel, at, scales, offset, p);
}

void multiply_panel(const PackedPanelF32& panel, const PanelCoords& at, const GemmArgs& p) {
  p.accum_type == AccumType::f16 ? multiply_all_rows<F32<AccumType::f16>>(panel, at, p)
                                 : multiply_all_rows<F32<AccumType::f32>>(panel, at, p);
}

void dequantize_panel(const PackedPanel& panel, int elements, int scales, bool offset,
                      PackedPanelF32& out) {
  for (int i = 0; i < elements; ++i) {
    const int group = i / quant::kQuantGroup, index = interleaved_index(i % quant::kQuantGroup);
    const int scale_index = group * scales + (scales == 1 ? 0 : i % quant::kQuantGroup / 16);
    for (int v = 0; v < kPanelRows; v += kLanes) {
      const __m512i pair = _mm512_load_si512(panel.pairs[group * 16 + index / 2] + v);
      const __m512i word = _mm512_srai_epi32(index % 2 ? pair : _mm512_slli_epi32(pair, 16), 16);
      __m512 value =
          _mm512_mul_ps(_mm512_load_ps(panel.scale[scale_index] + v), _mm512_cvtepi32_ps(word));
      if (offset) value = _mm512_add_ps(value, _mm512_load_ps(panel.offset[scale_index] + v));
      _mm512_store_ps(out.w[i] + v, value);
    }
  }
}

}  // namespace mxgpt::kernels::avx512
