// Matrix products for AVX2 with activations in f32; see avx2_matmul.h.
#pragma once

#include "kernels/cpu/avx2/row_block.h"

namespace mxgpt::kernels::avx2 {

/// Gives `emit` in order the elements [at, at + count) of eight rows, lane = row, where `at` begins
/// group g of those that `scales` is of; count is 32, or less at the end of a row of floats.
template <class G, class Emit>
MXGPT_ALWAYS_INLINE void for_each_element(const RowBlock<G>& rows, const RowScales<G>& scales,
                                          int g, int64_t at, int count, Emit emit) {
  if constexpr (quant::QuantizedFormat<G>) {
    const Avx2Scales w = scales.for_group(g);
    __m256i fours[8];
    load_transposed(rows, at, fours);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const int part = G::kScales == 1 ? 0 : i / 4;
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const __m256i byte =
            _mm256_and_si256(_mm256_srli_epi32(fours[i], 8 * j), _mm256_set1_epi32(0xff));
        const __m256i q = _mm256_sub_epi32(byte, _mm256_set1_epi32(G::kBias));
        __m256 value = _mm256_mul_ps(w.scale[part], _mm256_cvtepi32_ps(q));
        if constexpr (G::kHasOffset) value = _mm256_add_ps(value, w.offset[part]);
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

/// 16 rows with kTokens: one chain of sums would wait for itself.
template <class G, quant::AccumType kAccum, int kTokens>
[[gnu::flatten]] void gemv_f32(const quant::GemmArgs& p, int64_t row0, int64_t token0) {
  const RowBlock<G> rows[] = {{p, row0}, {p, row0 + 8}};
  const float* x[kTokens];
  __m256 sums[2][kTokens];
  for (int t = 0; t < kTokens; ++t) {
    x[t] = p.x + quant::activation_row(p, token0 + t) * p.k;
    sums[0][t] = sums[1][t] = _mm256_setzero_ps();
  }
  for (int64_t first = 0; first < p.k; first += kPanelK) {
    const RowScales<G> scales[] = {{rows[0], first}, {rows[1], first}};
    const int64_t end = std::min(first + kPanelK, p.k);
    for (int64_t at = first; at < end; at += quant::kQuantGroup) {
      const int g = static_cast<int>(at - first) / quant::kQuantGroup;
      const int count = static_cast<int>(std::min<int64_t>(quant::kQuantGroup, end - at));
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

/// kRowBlocks · 8 rows by up to 256 elements; lane = row.
template <int kRowBlocks>
struct PanelF32 {
  __m256 values[kPanelK][kRowBlocks];
};

template <class G, int kRowBlocks>
[[gnu::flatten]] void pack_f32(const quant::GemmArgs& p, int64_t row0, int64_t at, int count,
                               PanelF32<kRowBlocks>& panel) {
  for (int o = 0; o < kRowBlocks; ++o) {
    const RowBlock<G> rows(p, row0 + o * 8);
    const RowScales<G> scales(rows, at);
    for (int i = 0; i < count; i += quant::kQuantGroup) {
      for_each_element(rows, scales, i / quant::kQuantGroup, at + i,
                       std::min(quant::kQuantGroup, count - i),
                       [&](int j, __m256 value) { panel.values[i + j][o] = value; });
    }
  }
}

/// The panel's rows with kTokens: adds to `out`, or begins there where at = 0.
template <quant::AccumType kAccum, int kTokens, int kRowBlocks>
void tile_f32(const quant::GemmArgs& p, const PanelF32<kRowBlocks>& panel, int64_t row0, int64_t at,
              int count, int64_t token0) {
  const float* x[kTokens];
  for (int t = 0; t < kTokens; ++t) x[t] = p.x + quant::activation_row(p, token0 + t) * p.k + at;
  __m256 sums[kTokens][kRowBlocks];
  for (int t = 0; t < kTokens; ++t) {
    for (int o = 0; o < kRowBlocks; ++o)
      sums[t][o] = at ? OutputRows(p, row0 + o * 8).load(token0 + t) : _mm256_setzero_ps();
  }
  for (int first = 0; first < count; first += quant::kQuantGroup) {
    const int end = std::min(first + quant::kQuantGroup, count);
    for (int i = first; i < end; ++i) {
#pragma GCC unroll 6
      for (int t = 0; t < kTokens; ++t) {
        const __m256 of_token = _mm256_set1_ps(x[t][i]);
#pragma GCC unroll 2
        for (int o = 0; o < kRowBlocks; ++o)
          sums[t][o] = _mm256_fmadd_ps(panel.values[i][o], of_token, sums[t][o]);
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

template <class G, quant::AccumType kAccum>
struct F32 {
  static constexpr int kTileTokens = 6, kGemvRows = 16;
  template <int kRowBlocks>
  using Panel = PanelF32<kRowBlocks>;

  template <int kTokens>
  static void gemv(const quant::GemmArgs& p, int64_t row0, int64_t token0) {
    gemv_f32<G, kAccum, kTokens>(p, row0, token0);
  }
  template <int kRowBlocks>
  static void pack(const quant::GemmArgs& p, int64_t row0, int64_t at, int count,
                   Panel<kRowBlocks>& panel) {
    pack_f32<G, kRowBlocks>(p, row0, at, count, panel);
  }
  template <int kTokens, int kRowBlocks>
  static void tile(const quant::GemmArgs& p, const Panel<kRowBlocks>& panel, int64_t row0,
                   int64_t at, int count, int64_t token0) {
    tile_f32<kAccum, kTokens>(p, panel, row0, at, count, token0);
  }
};

}  // namespace mxgpt::kernels::avx2
