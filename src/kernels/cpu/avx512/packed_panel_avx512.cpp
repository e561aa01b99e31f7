#include <algorithm>

#include "kernels/cpu/avx512/packed_panel.h"
#include "quant/reference.h"

namespace mxgpt::kernels::avx512 {
namespace {

template <quant::AccumType kAccum>
__m512 round_accumulator(__m512 sums) {
  if constexpr (kAccum == quant::AccumType::f16)
    return _mm512_cvtph_ps(_mm512_cvtps_ph(sums, _MM_FROUND_TO_NEAREST_INT));
  else
    return sums;
}

/// The sums of kVectors · 16 rows and kTokens tokens, which stay in registers from the first group
/// of a panel to the last, and in p.out from panel to panel.
template <int kVectors, int kTokens>
struct AccumulatorTile {
  __m512 at[kVectors][kTokens];

  MXGPT_ALWAYS_INLINE AccumulatorTile(const quant::GemmArgs& p, const PanelCoords& place,
                                      int64_t token) {
    for (int v = 0; v < kVectors; ++v) {
      for (int t = 0; t < kTokens; ++t) {
        at[v][t] = place.element == 0
                       ? _mm512_setzero_ps()
                       : _mm512_maskz_loadu_ps(mask(place, v), out(p, place, token + t, v));
      }
    }
  }
  MXGPT_ALWAYS_INLINE void store(const quant::GemmArgs& p, const PanelCoords& place,
                                 int64_t token) const {
    for (int v = 0; v < kVectors; ++v) {
      for (int t = 0; t < kTokens; ++t)
        _mm512_mask_storeu_ps(out(p, place, token + t, v), mask(place, v), at[v][t]);
    }
  }

 private:
  static __mmask16 mask(const PanelCoords& place, int v) {
    return static_cast<__mmask16>(0xffff >> std::max(0, kLanes * (v + 1) - place.rows));
  }
  static float* out(const quant::GemmArgs& p, const PanelCoords& place, int64_t token, int v) {
    return p.out + token * p.out_stride + place.row + v * kLanes;
  }
};

/// A lane's two products are added to its sum.
MXGPT_ALWAYS_INLINE __m512i dot_int16(__m512i sums, __m512i weights, int32_t x) {
  return _mm512_dpwssd_epi32(sums, weights, _mm512_set1_epi32(x));
}

template <int kScales, bool kHasOffset, quant::AccumType kAccum>
struct Int16 {
  template <int kVectors, int kTokens>
  static void tile(const PackedPanel& panel, const PanelCoords& at, const quant::GemmArgs& p,
                   int64_t token) {
    const int32_t* x[kTokens];
    const float *x_scale[kTokens], *x_sum[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      const int64_t element = quant::activation_row(p, token + t) * p.k + at.element;
      x[t] = reinterpret_cast<const int32_t*>(p.x_int16.q + element);
      x_scale[t] = p.x_int16.scale + element / quant::kQuantGroup;
      x_sum[t] = p.x_int16.sum + element / 16;
    }
    AccumulatorTile<kVectors, kTokens> sums(p, at, token);
    constexpr int kPairs = 16 / kScales;
    for (int g = 0; g < at.elements / quant::kQuantGroup; ++g) {
      for (int part = 0; part < kScales; ++part) {
        const int first = g * 16 + part * kPairs;
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
          const __m512 w_scale = _mm512_load_ps(panel.scale[g * kScales + part] + v * kLanes);
          for (int t = 0; t < kTokens; ++t) {
            const __m512 scale = _mm512_mul_ps(w_scale, _mm512_set1_ps(x_scale[t][g]));
            sums.at[v][t] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots[v][t]), sums.at[v][t]);
          }
        }
      }
      if constexpr (kHasOffset) {
        for (int part = 0; part < kScales; ++part) {
          for (int t = 0; t < kTokens; ++t) {
            const float* sum = x_sum[t] + g * 2;
            const __m512 x_part = _mm512_set1_ps(kScales == 1 ? sum[0] + sum[1] : sum[part]);
            for (int v = 0; v < kVectors; ++v) {
              const __m512 offset = _mm512_load_ps(panel.offset[g * kScales + part] + v * kLanes);
              sums.at[v][t] = _mm512_fmadd_ps(offset, x_part, sums.at[v][t]);
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

template <quant::AccumType kAccum>
struct F32 {
  template <int kVectors, int kTokens>
  static void tile(const PackedPanelF32& panel, const PanelCoords& at, const quant::GemmArgs& p,
                   int64_t token) {
    const float* x[kTokens];
    for (int t = 0; t < kTokens; ++t)
      x[t] = p.x + quant::activation_row(p, token + t) * p.k + at.element;
    AccumulatorTile<kVectors, kTokens> sums(p, at, token);
    for (int group = 0; group < at.elements; group += quant::kQuantGroup) {
      const int end = std::min(group + quant::kQuantGroup, at.elements);
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

/// Tiles of nearly the same number of tokens, at most six: twelve sums of products and twelve of
/// floats leave registers for the weights, and hide the latency of the products. A tile of one
/// token would take as long as one of four.
template <class Kernel, int kVectors, class AnyPanel>
void multiply_all_tokens(const AnyPanel& panel, const PanelCoords& at, const quant::GemmArgs& p) {
  using Tile = void (*)(const AnyPanel&, const PanelCoords&, const quant::GemmArgs&, int64_t);
  static constexpr Tile kTiles[] = {
      Kernel::template tile<kVectors, 1>, Kernel::template tile<kVectors, 2>,
      Kernel::template tile<kVectors, 3>, Kernel::template tile<kVectors, 4>,
      Kernel::template tile<kVectors, 5>, Kernel::template tile<kVectors, 6>};
  constexpr int64_t kMaxTileTokens = std::size(kTiles);
  int64_t tiles = (p.tokens + kMaxTileTokens - 1) / kMaxTileTokens;
  for (int64_t token = 0; token < p.tokens; --tiles) {
    const int64_t tokens = (p.tokens - token + tiles - 1) / tiles;
    kTiles[tokens - 1](panel, at, p, token);
    token += tokens;
  }
}

template <class Kernel, class AnyPanel>
void multiply_all_rows(const AnyPanel& panel, const PanelCoords& at, const quant::GemmArgs& p) {
  if (at.rows > kLanes)
    multiply_all_tokens<Kernel, 2>(panel, at, p);
  else
    multiply_all_tokens<Kernel, 1>(panel, at, p);
}

template <quant::AccumType kAccum>
void multiply_panel_accum(const PackedPanel& panel, const PanelCoords& at, int scales, bool offset,
                          const quant::GemmArgs& p) {
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
                    const quant::GemmArgs& p) {
  p.accum_type == quant::AccumType::f16
      ? multiply_panel_accum<quant::AccumType::f16>(panel, at, scales, offset, p)
      : multiply_panel_accum<quant::AccumType::f32>(panel, at, scales, offset, p);
}

void multiply_panel(const PackedPanelF32& panel, const PanelCoords& at, const quant::GemmArgs& p) {
  p.accum_type == quant::AccumType::f16
      ? multiply_all_rows<F32<quant::AccumType::f16>>(panel, at, p)
      : multiply_all_rows<F32<quant::AccumType::f32>>(panel, at, p);
}

void dequantize_panel(const PackedPanel& panel, int elements, int scales, bool offset,
                      PackedPanelF32& out) {
  for (int i = 0; i < elements; ++i) {
    const int group = i / quant::kQuantGroup,
              place = quant::interleaved_index(i % quant::kQuantGroup);
    const int part = group * scales + (scales == 1 ? 0 : i % quant::kQuantGroup / 16);
    for (int v = 0; v < kPanelRows; v += kLanes) {
      const __m512i pair = _mm512_load_si512(panel.pairs[group * 16 + place / 2] + v);
      const __m512i word = _mm512_srai_epi32(place % 2 ? pair : _mm512_slli_epi32(pair, 16), 16);
      __m512 value = _mm512_mul_ps(_mm512_load_ps(panel.scale[part] + v), _mm512_cvtepi32_ps(word));
      if (offset) value = _mm512_add_ps(value, _mm512_load_ps(panel.offset[part] + v));
      _mm512_store_ps(out.w[i] + v, value);
    }
  }
}

}  // namespace mxgpt::kernels::avx512
