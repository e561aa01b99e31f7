// AVX2 micro-kernels for f32 activations; see gemm.h.
#pragma once

#include "kernels/cpu/avx2/row_block.h"

namespace mxgpt::kernels::avx2 {

/// Calls emit(i, weights) for elements at + i, i < count, of a row block, in order; lane = row.
/// `at` is the start of group g of `scales`. `count` is 32, or less at the end of a row of floats.
template <class G, class Emit>
MXGPT_ALWAYS_INLINE void for_each_element(const RowBlock<G>& rows, const RowScales<G>& scales,
                                          int g, int64_t at, int count, Emit emit) {
  if constexpr (quant::QuantizedFormat<G>) {
    const GroupScales w = scales.for_group(g);
    __m256i dwords[8];
    load_transposed(rows, at, dwords);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const int s = G::kScales == 1 ? 0 : i / 4;
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const __m256i byte =
            _mm256_and_si256(_mm256_srli_epi32(dwords[i], 8 * j), _mm256_set1_epi32(0xff));
        const __m256i q = _mm256_sub_epi32(byte, _mm256_set1_epi32(G::kBias));
        __m256 value = _mm256_mul_ps(w.scale[s], _mm256_cvtepi32_ps(q));
        if constexpr (G::kHasOffset) value = _mm256_add_ps(value, w.offset[s]);
        emit(i * 4 + j, value);
      }
    }
  } else {
    for (int i = 0; i < count; i += 8) {
      __m256 values[8];
      if (i + 8 <= count) {
#pragma GCC unroll 8
        for (int r = 0; r < 8; ++r) values[r] = G::load(rows.block(r, at + i));
        transpose(values);
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j) emit(i + j, values[j]);
      } else {
        for (int r = 0; r < 8; ++r) {
          typename G::Block padded[8] = {};
          std::memcpy(padded, rows.block(r, at + i), (count - i) * sizeof *padded);
          values[r] = G::load(padded);
        }
        transpose(values);
        for (int j = 0; i + j < count; ++j) emit(i + j, values[j]);
      }
    }
  }
}

/// GEMV of 16 rows with kTokens tokens. Two row blocks hide the latency of the chain of sums.
template <class G, AccumType kAccum, int kTokens>
[[gnu::flatten]] void gemv_f32(const GemmArgs& p, int64_t row0, int64_t token0) {
  const RowBlock<G> rows[] = {{p, row0}, {p, row0 + 8}};
  const float* x[kTokens];
  __m256 sums[2][kTokens];
  for (int t = 0; t < kTokens; ++t) {
    x[t] = p.x + activation_row(p, token0 + t) * p.k;
    sums[0][t] = sums[1][t] = _mm256_setzero_ps();
  }
  for (int64_t first = 0; first < p.k; first += kPanelK) {
    const RowScales<G> scales[] = {{rows[0], first}, {rows[1], first}};
    const int64_t end = min_of(first + kPanelK, p.k);
    for (int64_t at = first; at < end; at += quant::kQuantGroup) {
      const int g = static_cast<int>(at - first) / quant::kQuantGroup;
      const int count = static_cast<int>(min_of<int64_t>(quant::kQuantGroup, end - at));
#pragma GCC unroll 2
      for (int o = 0; o < 2; ++o) {
        rows[o].prefetch_next(at);
        for_each_element(rows[o], scales[o], g, at, count, [&](int i, __m256 w) {
#pragma GCC unroll 3
          for (int t = 0; t < kTokens; ++t)
            sums[o][t] = _mm256_fmadd_ps(w, _mm256_set1_ps(x[t][at + i]), sums[o][t]);
        });
        for (auto& sum : sums[o]) sum = round_accumulator<kAccum>(sum);
      }
    }
  }
  for (int o = 0; o < 2 && row0 + o * 8 < p.rows; ++o) {
    const OutputRows out(p, row0 + o * 8);
    for (int t = 0; t < kTokens; ++t) out.store(token0 + t, sums[o][t]);
  }
}

/// Packed panel of kRowBlocks · 8 rows by up to kPanelK elements; lane = row.
template <int kRowBlocks>
struct PanelF32 {
  __m256 values[kPanelK][kRowBlocks];
};

template <class G, int kRowBlocks>
[[gnu::flatten]] void pack_f32(const GemmArgs& p, int64_t row0, int64_t at, int count,
                               PanelF32<kRowBlocks>& panel) {
  for (int o = 0; o < kRowBlocks; ++o) {
    const RowBlock<G> rows(p, row0 + o * 8);
    const RowScales<G> scales(rows, at);
    for (int i = 0; i < count; i += quant::kQuantGroup) {
      for_each_element(rows, scales, i / quant::kQuantGroup, at + i,
                       min_of(quant::kQuantGroup, count - i),
                       [&](int j, __m256 value) { panel.values[i + j][o] = value; });
    }
  }
}

/// Micro-kernel: the panel's rows with kTokens tokens. Adds to `out`, or overwrites it if at = 0.
template <AccumType kAccum, int kTokens, int kRowBlocks>
void tile_f32(const GemmArgs& p, const PanelF32<kRowBlocks>& panel, int64_t row0, int64_t at,
              int count, int64_t token0) {
  const float* x[kTokens];
  for (int t = 0; t < kTokens; ++t) x[t] = p.x + activation_row(p, token0 + t) * p.k + at;
  __m256 sums[kTokens][kRowBlocks];
  for (int t = 0; t < kTokens; ++t) {
    for (int o = 0; o < kRowBlocks; ++o)
      sums[t][o] = at ? OutputRows(p, row0 + o * 8).load(token0 + t) : _mm256_setzero_ps();
  }
  for (int first = 0; first < count; first += quant::kQuantGroup) {
    const int end = min_of(first + quant::kQuantGroup, count);
    for (int i = first; i < end; ++i) {
#pragma GCC unroll 6
      for (int t = 0; t < kTokens; ++t) {
        const __m256 x_value = _mm256_set1_ps(x[t][i]);
#pragma GCC unroll 2
        for (int o = 0; o < kRowBlocks; ++o)
          sums[t][o] = _mm256_fmadd_ps(panel.values[i][o], x_value, sums[t][o]);
      }
    }
    for (auto& token : sums) {
      for (auto& sum : token) sum = round_accumulator<kAccum>(sum);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int o = 0; o < kRowBlocks; ++o) OutputRows(p, row0 + o * 8).store(token0 + t, sums[t][o]);
  }
}

template <class G, AccumType kAccum>
struct F32 {
  static constexpr int kTileTokens = 6, kGemvRows = 16;
  template <int kRowBlocks>
  using Panel = PanelF32<kRowBlocks>;

  template <int kTokens>
  static void gemv(const GemmArgs& p, int64_t row0, int64_t token0) {
    gemv_f32<G, kAccum, kTokens>(p, row0, token0);
  }
  template <int kRowBlocks>
  static void pack(const GemmArgs& p, int64_t row0, int64_t at, int count,
                   Panel<kRowBlocks>& panel) {
    pack_f32<G, kRowBlocks>(p, row0, at, count, panel);
  }
  template <int kTokens, int kRowBlocks>
  static void tile(const GemmArgs& p, const Panel<kRowBlocks>& panel, int64_t row0, int64_t at,
                   int count, int64_t token0) {
    tile_f32<kAccum, kTokens>(p, panel, row0, at, count, token0);
  }
};

}  // namespace mxgpt::kernels::avx2
