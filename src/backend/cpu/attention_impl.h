// CpuKernels::attention_tile: a block of queries against pages of keys and values, as small GEMMs
// whose tiles stay in registers.
#pragma once

#include <algorithm>
#include <limits>

#include "backend/cpu/kernels.h"
#include "backend/cpu/vec.h"

namespace mxgpt::cpu {
namespace {

/// Columns of a GEMM tile: the tokens of a page, or as many dimensions of values.
constexpr int kNr = backend::kPageTokens;
constexpr int kNrVectors = kNr / kWidth;
static_assert(AttentionStates::padded_head_dim(1) == kNr);

/// Rows of a GEMM tile: queries. Their sums fill the registers that the operands leave.
#if defined(__AVX512F__)
constexpr int kMr = 8;
#elif defined(__AVX2__)
constexpr int kMr = 3;
#else
constexpr int kMr = 1;
#endif

/// Right-hand GEMM operands: operator() loads kWidth elements of row k from `column` on.
struct Rows32 {
  const float* at;
  int64_t stride;
  Vec operator()(int64_t k, int column) const { return load(at + k * stride + column); }
  Rows32 from(int64_t column) const { return {at + column, stride}; }
};
template <Vec (*kLoad)(const std::byte*)>
struct Rows16 {
  const std::byte* at;
  int64_t stride;  ///< elements of two bytes
  Vec operator()(int64_t k, int column) const { return kLoad(at + (k * stride + column) * 2); }
  Rows16 from(int64_t column) const { return {at + 2 * column, stride}; }
};

/// Calls finish(r, Σ_{begin <= k < end} a[r][k] · b[k]) for each row r; sums in the order of k.
template <int kRows, class B, class Finish>
inline void gemm_tile(const float* const* a, const B& b, int64_t begin, int64_t end,
                      const Finish& finish) {
  Vec sums[kRows][kNrVectors] = {};
  for (int64_t k = begin; k < end; ++k) {
    Vec row[kNrVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kNrVectors; ++v) row[v] = b(k, v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec x = splat(a[r][k]);
#pragma GCC unroll 8
      for (int v = 0; v < kNrVectors; ++v) sums[r][v] = mul_add(x, row[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) finish(r, sums[r]);
}

template <int kMost = kMr, class B, class Finish>
inline void gemm(const float* const* a, int rows, const B& b, int64_t begin, int64_t end,
                 const Finish& finish) {
  const auto from = [&](int first) {
    return [&finish, first](int r, const Vec* sums) { finish(first + r, sums); };
  };
  int r = 0;
  // kMost + 1 rows are split into halves: a tile of one row would wait for its own sums.
  for (; rows - r >= kMost && (kMost <= 2 || rows - r != kMost + 1); r += kMost)
    gemm_tile<kMost>(a + r, b, begin, end, from(r));
  if constexpr (kMost > 1) {
    if (rows - r > kMost) {
      gemm_tile<(kMost + 1) / 2>(a + r, b, begin, end, from(r));
      r += (kMost + 1) / 2;
    }
    if (r < rows) {
      return gemm<kMost - 1>(a + r, rows - r, b, begin, end, from(r));
    }
  }
}

/// Converts the transposed keys of a page to f32.
void widen_keys(quant::Format format, int64_t head_dim, const std::byte* page, float* out) {
  const int64_t n = head_dim * backend::kPageTokens;
  switch (format) {
    case quant::Format::f16:
      for (int64_t i = 0; i < n; i += kWidth) store(out + i, load_f16(page + 2 * i));
      return;
    case quant::Format::bf16:
      for (int64_t i = 0; i < n; i += kWidth) store(out + i, load_bf16(page + 2 * i));
      return;
    default:  // q8_0
      for (int64_t block = 0; block < head_dim / 32; ++block) {
        const std::byte* q = page + 2 * backend::kPageTokens;
        for (int v = 0; v < kNrVectors; ++v) {
          const Vec scale = load_f16(page + 2 * v * kWidth);
          for (int i = 0; i < 32; ++i) {
            const int64_t at = i * backend::kPageTokens + v * kWidth;
            store(out + block * 32 * backend::kPageTokens + at, scale * load_i8(q + at));
          }
        }
        page += 34 * backend::kPageTokens;
      }
  }
}

template <class Load>
void widen_rows(int64_t head_dim, const std::byte* page, int64_t stride, float* out,
                const Load& load_vec) {
  for (int j = 0; j < backend::kPageTokens; ++j, page += 2 * head_dim, out += stride) {
    int64_t d = 0;
    for (; d + kWidth <= head_dim; d += kWidth) store(out + d, load_vec(page + 2 * d));
    if (d == stride) continue;
    std::byte padded[2 * kWidth] = {};
    std::memcpy(padded, page + 2 * d, 2 * (head_dim - d));
    store(out + d, load_vec(padded));
    for (d += kWidth; d < stride; d += kWidth) store(out + d, Vec{});
  }
}

void widen_values(quant::Format format, int64_t head_dim, const std::byte* page, int64_t stride,
                  float* out) {
  switch (format) {
    case quant::Format::f32:
      for (int j = 0; j < backend::kPageTokens; ++j) {
        std::memcpy(out + j * stride, page + j * head_dim * 4, head_dim * 4);
        std::fill(out + j * stride + head_dim, out + (j + 1) * stride, 0.0f);
      }
      return;
    case quant::Format::f16:
      return widen_rows(head_dim, page, stride, out, load_f16);
    case quant::Format::bf16:
      return widen_rows(head_dim, page, stride, out, load_bf16);
    default:  // q8_0
      for (int64_t block = 0; block < backend::kPageTokens * head_dim / 32; ++block, page += 34) {
        uint16_t scale;
        std::memcpy(&scale, page, 2);
        const Vec s = splat(quant::f16_to_f32(scale));
        for (int i = 0; i < 32; i += kWidth, out += kWidth) store(out, s * load_i8(page + 2 + i));
      }
  }
}

/// Calls f with the page's keys as a right-hand operand. For many queries they are first converted
/// to f32 in `buffer`; the values are the same either way.
template <class F>
inline void with_keys(const AttentionTile& p, const std::byte* page, bool widen, float* buffer,
                      const F& f) {
  if (p.format == quant::Format::f32)
    return f(Rows32{reinterpret_cast<const float*>(page), backend::kPageTokens});
  if (!widen && p.format == quant::Format::f16)
    return f(Rows16<load_f16>{page, backend::kPageTokens});
  if (!widen && p.format == quant::Format::bf16)
    return f(Rows16<load_bf16>{page, backend::kPageTokens});
  widen_keys(p.format, p.head_dim, page, buffer);
  f(Rows32{buffer, backend::kPageTokens});
}

template <class F>
inline void with_values(const AttentionTile& p, const std::byte* page, bool widen, float* buffer,
                        int64_t stride, const F& f) {
  const bool whole_panels = p.head_dim == stride;
  if (whole_panels && p.format == quant::Format::f32)
    return f(Rows32{reinterpret_cast<const float*>(page), stride});
  if (whole_panels && !widen && p.format == quant::Format::f16)
    return f(Rows16<load_f16>{page, stride});
  if (whole_panels && !widen && p.format == quant::Format::bf16)
    return f(Rows16<load_bf16>{page, stride});
  widen_values(p.format, p.head_dim, page, stride, buffer);
  f(Rows32{buffer, stride});
}

/// Slots of a page that a row attends to: [begin, end).
struct SlotRange {
  int begin, end;
};

SlotRange visible_slots(const AttentionTile& p, int row, int64_t page_start) {
  const int64_t position = p.position + row;
  const int64_t first = p.window ? std::max<int64_t>(0, position - p.window + 1) : 0;
  return {
      static_cast<int>(std::clamp<int64_t>(first - page_start, 0, backend::kPageTokens)),
      static_cast<int>(std::clamp<int64_t>(position + 1 - page_start, 0, backend::kPageTokens))};
}

/// Pages are small and scattered; without a prefetch each would start with a memory stall.
void prefetch(const std::byte* page, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(page + at, 0, 2);
}

void attention_tile(const AttentionTile& p, const AttentionStates& out) {
  const int queries = p.rows * p.group;
  const int64_t stride = out.stride;
  const int64_t kv_head_bytes =
      backend::kPageTokens * quant::traits(p.format).row_bytes(p.head_dim);
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  std::fill(out.max_score, out.max_score + queries, kNone);
  std::fill(out.sum_exp, out.sum_exp + queries, 0.0f);
  std::fill(out.acc, out.acc + queries * stride, 0.0f);

  alignas(64) float buffer[backend::kPageTokens * kMaxHeadDim];
  alignas(64) float scores[kMaxQueries][backend::kPageTokens];  // later their softmax weights
  alignas(64) float correction[kMaxQueries + kWidth] = {};      // e^(old maximum - new maximum)
  const float *of_query[kMaxQueries], *of_weights[kMaxQueries];
  for (int q = 0; q < queries; ++q) {
    of_query[q] = p.q + q / p.group * p.q_stride + q % p.group * p.head_dim;
    of_weights[q] = scores[q];
  }

  for (int64_t start = p.kv_begin; start < p.kv_end; start += backend::kPageTokens) {
    // Rows that attend to this page. Positions increase by one per row.
    const auto first_row = static_cast<int>(std::clamp<int64_t>(start - p.position, 0, p.rows));
    const auto rows = static_cast<int>(
        p.window ? std::clamp<int64_t>(start + backend::kPageTokens + p.window - 1 - p.position, 0,
                                       p.rows)
                 : p.rows);
    if (first_row >= rows) continue;
    const int first = first_row * p.group, last = rows * p.group;
    const bool widen = last - first > kMr;
    const int64_t page = p.pages[start / backend::kPageTokens] * p.page_bytes;
    const bool goes_on = start + backend::kPageTokens < p.position + p.rows;
    const int64_t next = goes_on ? p.pages[start / backend::kPageTokens + 1] * p.page_bytes : page;

    if (goes_on) prefetch(p.keys + next, kv_head_bytes);
    // Blocks of 64 dimensions: a longer chain of sums would be less accurate.
    with_keys(p, p.keys + page, widen, buffer, [&](const auto& keys) {
      for (int d = 0; d < p.head_dim; d += 64) {
        gemm(of_query + first, last - first, keys, d, std::min(d + 64, p.head_dim),
             [&](int q, const Vec* sums) {
               float* to = scores[first + q];
               for (int v = 0; v < kNrVectors; ++v, to += kWidth) {
                 const Vec part = sums[v] * splat(p.scale);
                 store(to, d ? load(to) + part : part);
               }
             });
      }
    });

    bool all_seen = true;
    for (int row = first_row; row < rows; ++row) {
      const SlotRange seen = visible_slots(p, row, start);
      const bool whole = seen.begin == 0 && seen.end == backend::kPageTokens;
      all_seen = all_seen && whole;
      for (int q = row * p.group; q < (row + 1) * p.group; ++q) {
        if (!whole) {
          std::fill(scores[q], scores[q] + seen.begin, kNone);
          std::fill(scores[q] + seen.end, scores[q] + backend::kPageTokens, kNone);
        }
        Vec most = load(scores[q]);
        for (int v = 1; v < kNrVectors; ++v) most = max(load(scores[q] + v * kWidth), most);
        const float of_page = reduce_max(most), before = out.max_score[q];
        out.max_score[q] = of_page > before ? of_page : before;
        correction[q] = before - out.max_score[q];
      }
    }
    for (int q = first; q < last; q += kWidth) store(correction + q, exp(load(correction + q)));
    for (int q = first; q < last; ++q) {
      const Vec most = splat(out.max_score[q]);
      Vec total{};
      for (int v = 0; v < kNrVectors; ++v) {
        const Vec weight = exp(load(scores[q] + v * kWidth) - most);
        store(scores[q] + v * kWidth, weight);
        total += weight;
      }
      out.sum_exp[q] = out.sum_exp[q] * correction[q] + reduce_sum(total);
    }

    if (goes_on) prefetch(p.values + next, kv_head_bytes);
    with_values(p, p.values + page, widen, buffer, stride, [&](const auto& values) {
      for (int64_t column = 0; column < stride; column += kNr) {
        const auto add = [&](int at, int count, SlotRange seen) {
          gemm(of_weights + at, count, values.from(column), seen.begin, seen.end,
               [&](int q, const Vec* sums) {
                 float* to = out.acc + (at + q) * stride + column;
                 const Vec corrected = splat(correction[at + q]);
                 for (int v = 0; v < kNrVectors; ++v) {
                   store(to + v * kWidth, mul_add(load(to + v * kWidth), corrected, sums[v]));
                 }
               });
        };
        // Masked slots may hold NaN or infinity, and zero times those is not zero.
        if (all_seen) {
          add(first, last - first, {0, backend::kPageTokens});
        } else {
          for (int row = first_row; row < rows; ++row)
            add(row * p.group, p.group, visible_slots(p, row, start));
        }
      }
    });
  }
}

void merge_states(const AttentionStates& later, int queries, const AttentionStates& into) {
  const int64_t stride = into.stride;
  for (int q = 0; q < queries; ++q) {
    if (later.sum_exp[q] == 0) continue;
    const float* from = later.acc + q * stride;
    float* to = into.acc + q * stride;
    if (into.sum_exp[q] == 0) {
      into.max_score[q] = later.max_score[q];
      into.sum_exp[q] = later.sum_exp[q];
      std::copy(from, from + stride, to);
      continue;
    }
    const float a = into.max_score[q], b = later.max_score[q], most = a > b ? a : b;
    const Vec keep = exp(splat(a - most)), add = exp(splat(b - most));
    into.max_score[q] = most;
    into.sum_exp[q] = into.sum_exp[q] * keep[0] + later.sum_exp[q] * add[0];
    for (int64_t d = 0; d < stride; d += kWidth)
      store(to + d, mul_add(load(to + d), keep, load(from + d) * add));
  }
}

void normalize_states(const AttentionStates& states, int queries, int group, int head_dim,
                      const float* sinks, float* out, int64_t row_stride) {
  for (int q = 0; q < queries; ++q) {
    float factor = 1, total = states.sum_exp[q];
    if (sinks) {
      const float sink = sinks[q % group], most = std::max(states.max_score[q], sink);
      factor = exp(splat(states.max_score[q] - most))[0];
      total = total * factor + exp(splat(sink - most))[0];
    }
    factor /= total;
    const float* values = states.acc + q * states.stride;
    float* to = out + q / group * row_stride + q % group * head_dim;
    for (int d = 0; d < head_dim; ++d) to[d] = values[d] * factor;
  }
}

}  // namespace
}  // namespace mxgpt::cpu
