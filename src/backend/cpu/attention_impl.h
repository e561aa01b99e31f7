// The attention of kernels.h: a block of queries against pages of keys and values, as small matrix
// products of tiles that stay in registers.
#pragma once

#include <algorithm>
#include <limits>

#include "backend/cpu/kernels.h"
#include "backend/cpu/vec.h"

namespace mxgpt::cpu {
namespace {

/// Columns of a tile's result: the tokens of a page, or as many dimensions of values.
constexpr int kPanel = kPageTokens;
constexpr int kPanelVecs = kPanel / kWidth;
static_assert(AttentionStates::stride_of(1) == kPanel);

/// Queries of a tile: their sums fill the registers, but for the operands.
#if defined(__AVX512F__)
constexpr int kTile = 8;
#elif defined(__AVX2__)
constexpr int kTile = 3;
#else
constexpr int kTile = 1;
#endif

/// Right-hand matrices of products: kWidth numbers of row k, from a column on.
struct FloatRows {
  const float* at;
  int64_t stride;
  Vec operator()(int64_t k, int column) const { return load(at + k * stride + column); }
  FloatRows from(int64_t column) const { return {at + column, stride}; }
};
template <Vec (*kLoad)(const std::byte*)>
struct NarrowRows {
  const std::byte* at;
  int64_t stride;  ///< elements, of two bytes
  Vec operator()(int64_t k, int column) const { return kLoad(at + (k * stride + column) * 2); }
  NarrowRows from(int64_t column) const { return {at + 2 * column, stride}; }
};

/// finish(r, Σ_{begin <= k < end} a[r][k] · b[k]) for all r. The order of the sum is that of k.
template <int kRows, class B, class Finish>
inline void multiply_tile(const float* const* a, const B& b, int64_t begin, int64_t end,
                          const Finish& finish) {
  Vec sums[kRows][kPanelVecs] = {};
  for (int64_t k = begin; k < end; ++k) {
    Vec row[kPanelVecs];
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVecs; ++v) row[v] = b(k, v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec x = splat(a[r][k]);
#pragma GCC unroll 8
      for (int v = 0; v < kPanelVecs; ++v) sums[r][v] = mul_add(x, row[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) finish(r, sums[r]);
}

template <int kMost = kTile, class B, class Finish>
inline void multiply(const float* const* a, int rows, const B& b, int64_t begin, int64_t end,
                     const Finish& finish) {
  const auto from = [&](int first) {
    return [&finish, first](int r, const Vec* sums) { finish(first + r, sums); };
  };
  int r = 0;
  // One row more than a tile is better cut into two halves: a tile of one row waits for its sums.
  for (; rows - r >= kMost && (kMost <= 2 || rows - r != kMost + 1); r += kMost)
    multiply_tile<kMost>(a + r, b, begin, end, from(r));
  if constexpr (kMost > 1) {
    if (rows - r > kMost) {
      multiply_tile<(kMost + 1) / 2>(a + r, b, begin, end, from(r));
      r += (kMost + 1) / 2;
    }
    if (r < rows) {
      return multiply<kMost - 1>(a + r, rows - r, b, begin, end, from(r));
    }
  }
}

/// All keys of a page, transposed, or values with rows of `stride`, in f32.
void widen_keys(Format format, int64_t head_dim, const std::byte* page, float* out) {
  const int64_t n = head_dim * kPageTokens;
  switch (format) {
    case Format::f16:
      for (int64_t i = 0; i < n; i += kWidth) store(out + i, load_f16(page + 2 * i));
      return;
    case Format::bf16:
      for (int64_t i = 0; i < n; i += kWidth) store(out + i, load_bf16(page + 2 * i));
      return;
    default:  // q8_0
      for (int64_t block = 0; block < head_dim / 32; ++block) {
        const std::byte* q = page + 2 * kPageTokens;
        for (int v = 0; v < kPanelVecs; ++v) {
          const Vec scale = load_f16(page + 2 * v * kWidth);
          for (int i = 0; i < 32; ++i) {
            const int64_t at = i * kPageTokens + v * kWidth;
            store(out + block * 32 * kPageTokens + at, scale * load_i8(q + at));
          }
        }
        page += 34 * kPageTokens;
      }
  }
}

template <class Load>
void widen_rows(int64_t head_dim, const std::byte* page, int64_t stride, float* out,
                const Load& load_vec) {
  for (int j = 0; j < kPageTokens; ++j, page += 2 * head_dim, out += stride) {
    int64_t d = 0;
    for (; d + kWidth <= head_dim; d += kWidth) store(out + d, load_vec(page + 2 * d));
    if (d == stride) continue;
    std::byte padded[2 * kWidth] = {};
    std::memcpy(padded, page + 2 * d, 2 * (head_dim - d));
    store(out + d, load_vec(padded));
    for (d += kWidth; d < stride; d += kWidth) store(out + d, Vec{});
  }
}

void widen_values(Format format, int64_t head_dim, const std::byte* page, int64_t stride,
                  float* out) {
  switch (format) {
    case Format::f32:
      for (int j = 0; j < kPageTokens; ++j) {
        std::memcpy(out + j * stride, page + j * head_dim * 4, head_dim * 4);
        std::fill(out + j * stride + head_dim, out + (j + 1) * stride, 0.0f);
      }
      return;
    case Format::f16:
      return widen_rows(head_dim, page, stride, out, load_f16);
    case Format::bf16:
      return widen_rows(head_dim, page, stride, out, load_bf16);
    default:  // q8_0
      for (int64_t block = 0; block < kPageTokens * head_dim / 32; ++block, page += 34) {
        uint16_t scale;
        std::memcpy(&scale, page, 2);
        const Vec s = splat(f16_to_f32(scale));
        for (int i = 0; i < 32; i += kWidth, out += kWidth) store(out, s * load_i8(page + 2 + i));
      }
  }
}

/// f(the page's keys as a right-hand matrix): as they are, or in `room` as f32, if many queries
/// are to read them. Either way it has the same numbers.
template <class F>
inline void with_keys(const AttendBlock& p, const std::byte* page, bool widen, float* room,
                      const F& f) {
  if (p.format == Format::f32)
    return f(FloatRows{reinterpret_cast<const float*>(page), kPageTokens});
  if (!widen && p.format == Format::f16) return f(NarrowRows<load_f16>{page, kPageTokens});
  if (!widen && p.format == Format::bf16) return f(NarrowRows<load_bf16>{page, kPageTokens});
  widen_keys(p.format, p.head_dim, page, room);
  f(FloatRows{room, kPageTokens});
}

template <class F>
inline void with_values(const AttendBlock& p, const std::byte* page, bool widen, float* room,
                        int64_t stride, const F& f) {
  const bool whole_panels = p.head_dim == stride;
  if (whole_panels && p.format == Format::f32)
    return f(FloatRows{reinterpret_cast<const float*>(page), stride});
  if (whole_panels && !widen && p.format == Format::f16)
    return f(NarrowRows<load_f16>{page, stride});
  if (whole_panels && !widen && p.format == Format::bf16)
    return f(NarrowRows<load_bf16>{page, stride});
  widen_values(p.format, p.head_dim, page, stride, room);
  f(FloatRows{room, stride});
}

/// Slots of a page that a row sees: [begin, end).
struct Slots {
  int begin, end;
};

Slots slots_seen(const AttendBlock& p, int row, int64_t page_start) {
  const int64_t position = p.position + row;
  const int64_t first = p.window ? std::max<int64_t>(0, position - p.window + 1) : 0;
  return {static_cast<int>(std::clamp<int64_t>(first - page_start, 0, kPageTokens)),
          static_cast<int>(std::clamp<int64_t>(position + 1 - page_start, 0, kPageTokens))};
}

/// Pages lie apart, and each is short: without this, every one would begin with waiting for memory.
void prefetch(const std::byte* page, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(page + at, 0, 2);
}

void attend(const AttendBlock& p, const AttentionStates& out) {
  const int queries = p.rows * p.group;
  const int64_t stride = out.stride;
  const int64_t kv_head_bytes = kPageTokens * traits(p.format).row_bytes(p.head_dim);
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  std::fill(out.largest, out.largest + queries, kNone);
  std::fill(out.total, out.total + queries, 0.0f);
  std::fill(out.values, out.values + queries * stride, 0.0f);

  alignas(64) float room[kPageTokens * kMaxHeadDim];
  alignas(64) float scores[kMaxQueries][kPageTokens];       // then their weights
  alignas(64) float correction[kMaxQueries + kWidth] = {};  // e^(old largest - new one)
  const float *of_query[kMaxQueries], *of_weights[kMaxQueries];
  for (int q = 0; q < queries; ++q) {
    of_query[q] = p.q + q / p.group * p.q_stride + q % p.group * p.head_dim;
    of_weights[q] = scores[q];
  }

  for (int64_t start = p.begin; start < p.end; start += kPageTokens) {
    // Rows that see anything of the page; positions rise by one from row to row.
    const auto first_row = static_cast<int>(std::clamp<int64_t>(start - p.position, 0, p.rows));
    const auto rows = static_cast<int>(
        p.window ? std::clamp<int64_t>(start + kPageTokens + p.window - 1 - p.position, 0, p.rows)
                 : p.rows);
    if (first_row >= rows) continue;
    const int first = first_row * p.group, last = rows * p.group;
    const bool widen = last - first > kTile;
    const int64_t page = p.pages[start / kPageTokens] * p.page_bytes;
    const bool goes_on = start + kPageTokens < p.position + p.rows;
    const int64_t next = goes_on ? p.pages[start / kPageTokens + 1] * p.page_bytes : page;

    if (goes_on) prefetch(p.keys + next, kv_head_bytes);
    // In parts of 64 dimensions: a longer chain of sums would be less exact.
    with_keys(p, p.keys + page, widen, room, [&](const auto& keys) {
      for (int d = 0; d < p.head_dim; d += 64) {
        multiply(of_query + first, last - first, keys, d, std::min(d + 64, p.head_dim),
                 [&](int q, const Vec* sums) {
                   float* to = scores[first + q];
                   for (int v = 0; v < kPanelVecs; ++v, to += kWidth) {
                     const Vec part = sums[v] * splat(p.scale);
                     store(to, d ? load(to) + part : part);
                   }
                 });
      }
    });

    bool all_seen = true;
    for (int row = first_row; row < rows; ++row) {
      const Slots seen = slots_seen(p, row, start);
      const bool whole = seen.begin == 0 && seen.end == kPageTokens;
      all_seen = all_seen && whole;
      for (int q = row * p.group; q < (row + 1) * p.group; ++q) {
        if (!whole) {
          std::fill(scores[q], scores[q] + seen.begin, kNone);
          std::fill(scores[q] + seen.end, scores[q] + kPageTokens, kNone);
        }
        Vec most = load(scores[q]);
        for (int v = 1; v < kPanelVecs; ++v) most = max(load(scores[q] + v * kWidth), most);
        const float of_page = largest(most), before = out.largest[q];
        out.largest[q] = of_page > before ? of_page : before;
        correction[q] = before - out.largest[q];
      }
    }
    for (int q = first; q < last; q += kWidth) store(correction + q, exp(load(correction + q)));
    for (int q = first; q < last; ++q) {
      const Vec most = splat(out.largest[q]);
      Vec total{};
      for (int v = 0; v < kPanelVecs; ++v) {
        const Vec weight = exp(load(scores[q] + v * kWidth) - most);
        store(scores[q] + v * kWidth, weight);
        total += weight;
      }
      out.total[q] = out.total[q] * correction[q] + sum(total);
    }

    if (goes_on) prefetch(p.values + next, kv_head_bytes);
    with_values(p, p.values + page, widen, room, stride, [&](const auto& values) {
      for (int64_t column = 0; column < stride; column += kPanel) {
        const auto add = [&](int at, int count, Slots seen) {
          multiply(of_weights + at, count, values.from(column), seen.begin, seen.end,
                   [&](int q, const Vec* sums) {
                     float* to = out.values + (at + q) * stride + column;
                     const Vec corrected = splat(correction[at + q]);
                     for (int v = 0; v < kPanelVecs; ++v) {
                       store(to + v * kWidth, mul_add(load(to + v * kWidth), corrected, sums[v]));
                     }
                   });
        };
        // What a row does not see may hold anything, and zero times that need not be zero.
        if (all_seen) {
          add(first, last - first, {0, kPageTokens});
        } else {
          for (int row = first_row; row < rows; ++row)
            add(row * p.group, p.group, slots_seen(p, row, start));
        }
      }
    });
  }
}

void merge(const AttentionStates& later, int queries, const AttentionStates& into) {
  const int64_t stride = into.stride;
  for (int q = 0; q < queries; ++q) {
    if (later.total[q] == 0) continue;
    const float* from = later.values + q * stride;
    float* to = into.values + q * stride;
    if (into.total[q] == 0) {
      into.largest[q] = later.largest[q];
      into.total[q] = later.total[q];
      std::copy(from, from + stride, to);
      continue;
    }
    const float a = into.largest[q], b = later.largest[q], most = a > b ? a : b;
    const Vec keep = exp(splat(a - most)), add = exp(splat(b - most));
    into.largest[q] = most;
    into.total[q] = into.total[q] * keep[0] + later.total[q] * add[0];
    for (int64_t d = 0; d < stride; d += kWidth)
      store(to + d, mul_add(load(to + d), keep, load(from + d) * add));
  }
}

void finish(const AttentionStates& states, int queries, int group, int head_dim, const float* sinks,
            float* out, int64_t row_stride) {
  for (int q = 0; q < queries; ++q) {
    float factor = 1, total = states.total[q];
    if (sinks) {
      const float sink = sinks[q % group], most = std::max(states.largest[q], sink);
      factor = exp(splat(states.largest[q] - most))[0];
      total = total * factor + exp(splat(sink - most))[0];
    }
    factor /= total;
    const float* values = states.values + q * states.stride;
    float* to = out + q / group * row_stride + q % group * head_dim;
    for (int d = 0; d < head_dim; ++d) to[d] = values[d] * factor;
  }
}

}  // namespace
}  // namespace mxgpt::cpu
