// The attention block of the CPU backend against double precision: windows, pages, rotations,
// batches that mix sequences.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "backend/cpu/op_inputs.h"
#include "base/cpu_count.h"
#include "base/thread_pool.h"

namespace mxgpt::cpu {
namespace {

struct AttentionLayer {
  Weight norm = vector_weight(1, kHidden, 1);
  Weight q, k, v, o;
  Weight q_bias = vector_weight(1, kHeads*kHeadDim, 6),
         k_bias = vector_weight(1, kKvHeads*kHeadDim, 7);
  Weight v_bias = vector_weight(1, kKvHeads*kHeadDim, 8), o_bias = vector_weight(1, kHidden, 9);
  Weight sinks = vector_weight(1, kHeads, 10);
  Weight q_norm = vector_weight(1, kHeadDim, 11), k_norm = vector_weight(1, kHeadDim, 12),
         post = vector_weight(1, kHidden, 13);
  bool with_norms = false;  ///< of heads and after the projection
  backend::RopeStyle rope_style = backend::RopeStyle::neox;
  std::vector<float> frequencies;
  std::vector<std::byte> keys, values;
  backend::KvLayer kv;

  explicit AttentionLayer(quant::Format format = quant::Format::bf16)
      : q(format, 1, kHeads * kHeadDim, kHidden, 2),
        k(format, 1, kKvHeads * kHeadDim, kHidden, 3),
        v(format, 1, kKvHeads * kHeadDim, kHidden, 4),
        o(quant::Format::f16, 1, kHidden, kHeads * kHeadDim, 5),
        keys(64 * kKvHeads * backend::kPageTokens * kHeadDim * 4),
        values(keys.size()) {
    for (int64_t i = 0; i < kHeadDim / 2; ++i)
      frequencies.push_back(
          static_cast<float>(std::pow(100.0, -2.0 * static_cast<double>(i) / kHeadDim)));
    kv = {backend::KvGroup::window, quant::Format::f32, keys.data(), values.data()};
  }

  /// x += attention; x is [rows, hidden].
  void run(CpuBackend& backend, const backend::Batch& batch, int64_t window,
           std::vector<float>& x) {
    std::vector<float> cos(batch.rows() * kHeadDim / 2), sin(cos.size());
    backend.begin_step(batch);
    backend.rope_cos_sin({.rope = {frequencies.data(), 1.25f},
                          .head_dim = kHeadDim,
                          .cos = cos.data(),
                          .sin = sin.data()});
    backend.attention_block({.x = x.data(),
                             .norm = {norm.tensor},
                             .q = {q.tensor, q_bias.tensor},
                             .k = {k.tensor, k_bias.tensor},
                             .v = {v.tensor, v_bias.tensor},
                             .q_norm = {with_norms ? q_norm.tensor : backend::Tensor{}},
                             .k_norm = {with_norms ? k_norm.tensor : backend::Tensor{}},
                             .heads = kHeads,
                             .kv_heads = kKvHeads,
                             .head_dim = kHeadDim,
                             .rope_style = rope_style,
                             .cos = cos.data(),
                             .sin = sin.data(),
                             .scale = 1 / std::sqrt(static_cast<float>(kHeadDim)),
                             .window = window,
                             .sinks = sinks.tensor,
                             .kv = kv,
                             .o = {o.tensor, o_bias.tensor},
                             .post_norm = {with_norms ? post.tensor : backend::Tensor{}}});
  }

  /// Heads of one row: the projection of `h`, then the norm of each head (if any) and its rotation.
  std::vector<float> heads(const Weight& weight, const Weight& bias, const Weight* head_norm,
                           std::span<const double> h, int64_t position) const {
    const std::vector<double> projected = eval::reference::linear({weight.tensor, bias.tensor}, h);
    std::vector<float> out(projected.begin(), projected.end());
    if (!head_norm) return out;
    std::vector<float> cos, sin;
    for (const float frequency : frequencies) {
      const double angle = static_cast<double>(position) * frequency;
      cos.push_back(static_cast<float>(1.25 * std::cos(angle)));
      sin.push_back(static_cast<float>(1.25 * std::sin(angle)));
    }
    for (size_t at = 0; at < out.size(); at += kHeadDim) {
      std::span<float> head(&out[at], kHeadDim);
      if (with_norms) {
        const auto normed = eval::reference::norm({head_norm->tensor}, head);
        std::copy(normed.begin(), normed.end(), head.begin());
      }
      const auto rotated = eval::reference::rotate(rope_style, head, cos.data(), sin.data());
      std::copy(rotated.begin(), rotated.end(), head.begin());
    }
    return out;
  }

  /// The block on one whole sequence.
  std::vector<double> expected(const std::vector<float>& x, int64_t window) const {
    const int64_t rows = static_cast<int64_t>(x.size()) / kHidden;
    std::vector<float> qs, ks, vs;
    const auto append = [](std::vector<float>& all, const std::vector<float>& row) {
      all.insert(all.end(), row.begin(), row.end());
    };
    for (int64_t row = 0; row < rows; ++row) {
      const auto h = eval::reference::norm({norm.tensor}, {&x[row * kHidden], kHidden});
      append(qs, heads(q, q_bias, &q_norm, h, row));
      append(ks, heads(k, k_bias, &k_norm, h, row));
      append(vs, heads(v, v_bias, nullptr, h, row));
    }
    std::vector<double> result(x.begin(), x.end());
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<double> attn_out;
      for (int64_t head = 0; head < kHeads; ++head) {
        const int64_t kv_head = head / (kHeads / kKvHeads);
        const auto one = eval::reference::attention(
            {.q = &qs[(row * kHeads + head) * kHeadDim],
             .keys = &ks[kv_head * kHeadDim],
             .values = &vs[kv_head * kHeadDim],
             .stride = kKvHeads * kHeadDim,
             .head_dim = static_cast<int>(kHeadDim),
             .scale = 1 / std::sqrt(static_cast<double>(kHeadDim)),
             .first = window ? std::max<int64_t>(0, row - window + 1) : 0,
             .last = row,
             .sink = &sinks.values[head]});
        attn_out.insert(attn_out.end(), one.begin(), one.end());
      }
      auto projected = eval::reference::linear({o.tensor, o_bias.tensor}, attn_out);
      if (with_norms) {
        const std::vector<float> rounded(projected.begin(), projected.end());
        projected = eval::reference::norm({post.tensor}, rounded);
      }
      for (int64_t i = 0; i < kHidden; ++i) result[row * kHidden + i] += projected[i];
    }
    return result;
  }
};

class SlidingWindows : public testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(Keys, SlidingWindows, testing::Values(0, 1, 5, 31, 32, 33, 40));

TEST_P(SlidingWindows, AttentionEqualsADenseMaskInDouble) {
  AttentionLayer layer;
  CpuBackend backend(kMaxShapes, backend::Precision::exact);
  const SimpleBatch batch(50);
  const auto before = random_normals(50 * kHidden, 30);
  auto x = before;
  layer.run(backend, batch.batch, GetParam(), x);
  const auto expected = layer.expected(before, GetParam());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], expected[i], 2e-5) << i / kHidden;
}

/// All tokens at once, and token by token.
TEST(Attention, ProjectionsInMxfp4EqualDouble) {
  constexpr int64_t kTokens = 40;
  const auto before = random_normals(kTokens * kHidden, 34);
  AttentionLayer layer(quant::Format::mxfp4);
  const auto expected = layer.expected(before, 0);
  for (const int64_t rows : {kTokens, int64_t{1}}) {
    for (const backend::Precision precision :
         {backend::Precision::exact, backend::Precision::mixed}) {
      CpuBackend backend(kMaxShapes, precision);
      double error = 0, size = 0;
      for (int64_t first = 0; first < kTokens; first += rows) {
        const SimpleBatch batch(rows, first);
        std::vector<float> x(&before[first * kHidden], &before[(first + rows) * kHidden]);
        layer.run(backend, batch.batch, 0, x);
        for (size_t i = 0; i < x.size(); ++i) {
          const double wanted = expected[first * kHidden + i];
          if (precision == backend::Precision::exact) {
            EXPECT_NEAR(x[i], wanted, 2e-5) << first << " " << i;
          }
          error += std::pow(x[i] - wanted, 2);
          size += std::pow(wanted - before[first * kHidden + i], 2);
        }
      }
      EXPECT_LE(error / size, 5e-4) << rows;  // HACKING.md: of paths that reduce precision
    }
  }
}

TEST(Attention, HeadNormsAndInterleavedRopeEqualDouble) {
  for (const backend::RopeStyle rope_style :
       {backend::RopeStyle::neox, backend::RopeStyle::interleaved}) {
    AttentionLayer layer;
    layer.with_norms = true;
    layer.rope_style = rope_style;
    CpuBackend backend(kMaxShapes, backend::Precision::exact);
    const SimpleBatch batch(40);
    const auto before = random_normals(40 * kHidden, 33);
    auto x = before;
    layer.run(backend, batch.batch, 7, x);
    const auto expected = layer.expected(before, 7);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], expected[i], 2e-5) << i / kHidden;
  }
}

TEST_P(SlidingWindows, MixedBatchesGiveTheSameBits) {
  const auto a = random_normals(50 * kHidden, 31), b = random_normals(20 * kHidden, 32);
  AttentionLayer alone;
  CpuBackend backend(kMaxShapes, backend::Precision::exact);
  auto whole_a = a, whole_b = b;
  alone.run(backend, SimpleBatch(50).batch, GetParam(), whole_a);
  alone.run(backend, SimpleBatch(20).batch, GetParam(), whole_b);

  // Sequence 0 in pieces of 33, 1, 16; sequence 1 in 7, 12, 1; pages handed out crosswise.
  AttentionLayer mixed;
  const std::vector<int32_t> pages{5, 2, -1, 3, -1, -1};
  int64_t at[2] = {0, 0};
  const int64_t steps[][2] = {{33, 7}, {1, 12}, {16, 1}};
  for (const auto& step : steps) {
    std::vector<int32_t> tokens, positions, sequences;
    std::vector<float> x;
    for (int s = 0; s < 2; ++s) {
      for (int64_t i = 0; i < step[s]; ++i) {
        tokens.push_back(0);
        positions.push_back(static_cast<int32_t>(at[s] + i));
        sequences.push_back(s);
      }
      const auto& source = s == 0 ? a : b;
      x.insert(x.end(), source.begin() + at[s] * kHidden,
               source.begin() + (at[s] + step[s]) * kHidden);
    }
    backend::Batch batch{.tokens = tokens, .positions = positions, .sequences = sequences};
    batch.tables[1] = {pages.data(), 3};
    mixed.run(backend, batch, GetParam(), x);
    const float* got = x.data();
    for (int s = 0; s < 2; ++s) {
      const auto& whole = s == 0 ? whole_a : whole_b;
      EXPECT_EQ(std::memcmp(got, &whole[at[s] * kHidden], step[s] * kHidden * sizeof(float)), 0);
      got += step[s] * kHidden;
      at[s] += step[s];
    }
  }
}

TEST(Attention, SameBitsForAnyThreadCountAndChunking) {
  constexpr int64_t kTokens = 620;  // three pieces
  const auto before = random_normals(kTokens * kHidden, 35);
  for (const int64_t window : {0, 300}) {
    std::vector<float> expected;
    for (const auto& [threads, step] :
         {std::pair{1, 64}, {2, 64}, {3, 64}, {7, 64}, {1, 1}, {2, 1}, {7, 1}, {3, 5}, {7, 33}}) {
      set_thread_count(threads);
      AttentionLayer layer;
      CpuBackend backend(kMaxShapes, backend::Precision::mixed);
      std::vector<float> all;
      for (int64_t at = 0; at < kTokens; at += step) {
        const int64_t rows = std::min<int64_t>(step, kTokens - at);
        std::vector<float> x(&before[at * kHidden], &before[(at + rows) * kHidden]);
        layer.run(backend, SimpleBatch(rows, at).batch, window, x);
        all.insert(all.end(), x.begin(), x.end());
      }
      if (expected.empty()) expected = all;
      EXPECT_EQ(std::memcmp(all.data(), expected.data(), all.size() * sizeof(float)), 0)
          << threads << " threads, " << step << " rows";
    }
  }
  set_thread_count(default_thread_count());
}

}  // namespace
}  // namespace mxgpt::cpu
