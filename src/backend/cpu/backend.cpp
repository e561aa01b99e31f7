#include "backend/cpu/backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "backend/cpu/kernels.h"
#include "backend/cpu/kv_page.h"
#include "base/check.h"
#include "base/threads.h"

namespace mxgpt::cpu {

/// Of norms and sums: what a thread takes at a time.
constexpr int64_t kRowsAtOnce = 4;

Backend::Backend(const Limits& limits, Precision precision, Observer* observer,
                 Accumulate accumulate, Arena arena)
    : limits_(limits),
      observer_(observer),
      accumulate_(accumulate),
      arena_(std::move(arena)),
      activations_(std::max(limits.rows * limits.widest, limits.mlp_rows() * limits.intermediate),
                   precision, arena_),
      normed_(arena_.take<float>(limits.rows * limits.hidden)),
      wide_{arena_.take<float>(limits.rows * limits.widest),
            arena_.take<float>(limits.rows * limits.widest)},
      router_logits_(arena_.take<float>(limits.rows * limits.experts)),
      choices_(arena_.take<Choice>(limits.rows * limits.top_k)),
      expert_begin_(limits.experts + 1),
      expert_next_(limits.experts),
      pair_row_(arena_.take<int32_t>(limits.rows * limits.top_k)),
      pair_index_(arena_.take<int32_t>(limits.rows * limits.top_k)),
      pair_of_choice_(arena_.take<int32_t>(limits.rows * limits.top_k)),
      gate_(arena_.take<float>(limits.mlp_rows() * limits.intermediate)),
      up_(arena_.take<float>(limits.mlp_rows() * limits.intermediate)),
      down_(arena_.take<float>(limits.rows * limits.top_k * limits.hidden)),
      partial_(arena_.take<float>(limits.head_dim
                                      ? 8 * thread_count() *
                                            AttentionStates::floats(kMaxQueries, limits.head_dim)
                                      : 0)) {
  query_blocks_.reserve(limits.rows);
  std::iota(pair_index_.begin(), pair_index_.end(), 0);
  jobs_.reserve(2 * limits.experts);
}

void Backend::run(std::span<const LinearJob> jobs) {
  if (observer_) {
    for (const LinearJob& job : jobs) {
      observer_->linear_input(job.linear.weight, job.slice, activations_.x(), job.x_rows,
                              job.tokens);
    }
  }
  cpu::run(jobs, activations_, accumulate_);
}

void Backend::begin(const Batch& batch) {
  MXGPT_CHECK(batch.rows() <= limits_.rows, "{} rows, planned {}", batch.rows(), limits_.rows);
  batch_ = &batch;
}

void Backend::embed(const Embed& op) {
  const FormatTraits& format = traits(op.table.format);
  const int64_t hidden = op.table.k;
  parallel_for(batch_->rows(), [&](int64_t row) {
    const int32_t token = batch_->tokens[row];
    MXGPT_CHECK(token >= 0 && token < op.table.rows, "token {} of {}", token, op.table.rows);
    float* x = op.x + row * hidden;
    format.dequantize(op.table.data + token * op.table.row_bytes(), hidden, x);
    if (op.scale != 1) {
      for (int64_t i = 0; i < hidden; ++i) x[i] *= op.scale;
    }
    if (op.positions) {
      const int64_t position = batch_->positions[row];
      MXGPT_CHECK(position < op.positions.rows, "position {} of {}", position, op.positions.rows);
      float* of_position = &normed_[row * hidden];
      traits(op.positions.format)
          .dequantize(op.positions.data + position * op.positions.row_bytes(), hidden, of_position);
      for (int64_t i = 0; i < hidden; ++i) x[i] += of_position[i];
    }
  });
  if (observer_) observer_->residual(op.x, batch_->rows(), hidden);
}

void Backend::rotations(const Rotations& op) {
  const int64_t half = op.head_dim / 2;
  parallel_for(batch_->rows(), [&](int64_t row) {
    const auto position = static_cast<float>(batch_->positions[row]);
    for (int64_t i = 0; i < half; ++i) {
      // The product is rounded to f32 first, as in the reference: far positions depend on it.
      const float angle = position * op.rope.inverse_frequency[i];
      op.cos[row * half + i] = std::cos(angle) * op.rope.magnitude;
      op.sin[row * half + i] = std::sin(angle) * op.rope.magnitude;
    }
  });
}

void Backend::set_normed(const Norm& norm, const float* x, std::span<const Tensor> weights) {
  const CpuKernels& kernel = cpu_kernels();
  const int64_t n = norm.weight.k;
  activations_.set(normed_.data(), batch_->rows(), n, weights,
                   [&](int64_t row) { kernel.norm(norm, x + row * n, n, &normed_[row * n]); });
}

void Backend::norm_qkv_rope_store(const NormQkvRopeStore& op) {
  MXGPT_CHECK(op.head_dim <= kMaxHeadDim, "head_dim {}", op.head_dim);
  const int64_t rows = batch_->rows();
  float* k = wide_[0].data();
  float* v = wide_[1].data();
  const Tensor weights[] = {op.q.weight, op.k.weight, op.v.weight};
  set_normed(op.norm, op.x, weights);
  const LinearJob jobs[] = {{.linear = op.q, .tokens = rows, .out = op.q_out},
                            {.linear = op.k, .tokens = rows, .out = k},
                            {.linear = op.v, .tokens = rows, .out = v}};
  run(jobs);

  const CpuKernels& kernel = cpu_kernels();
  const PageTable& table = batch_->tables[static_cast<int>(op.kv.group)];
  const int64_t d = op.head_dim, row_bytes = traits(op.kv.format).row_bytes(d);
  const auto finish_head = [&](const Norm& of_head, float* head, int64_t row) {
    if (of_head) kernel.norm(of_head, head, d, head);
    if (op.cos) kernel.rotate(op.pairs, head, op.cos + row * d / 2, op.sin + row * d / 2, d);
  };
  const auto store = [&](int64_t row, int64_t h) {
    const int64_t position = batch_->positions[row], slot = position % kPageTokens;
    const int64_t page = table.page(batch_->sequences[row], position);
    const int64_t from = (row * op.kv_heads + h) * d;
    const int64_t to = (page * op.kv_heads + h) * kPageTokens * row_bytes;
    finish_head(op.k_norm, k + from, row);
    std::byte key[kMaxHeadDim * sizeof(float)];
    kernel.narrow(op.kv.format, k + from, d, key);
    put_key(op.kv.format, d, key, slot, op.kv.keys + to);
    kernel.narrow(op.kv.format, v + from, d, op.kv.values + to + slot * row_bytes);
  };
  // A page's keys lie transposed: one thread should write what shares its lines of the cache.
  const int64_t group = op.heads / op.kv_heads;
  const bool many = rows >= 2 * kPageTokens;
  const int64_t rows_at_once =
      many ? int64_t{kPageTokens} : Activations::rows_at_once((op.heads + 2 * op.kv_heads) * d);
  const int64_t heads_at_once = many ? 1 : op.kv_heads;
  const int64_t parts = op.kv_heads / heads_at_once;
  parallel_for((rows + rows_at_once - 1) / rows_at_once * parts, [&](int64_t i) {
    const int64_t begin = i / parts * rows_at_once, end = std::min(rows, begin + rows_at_once);
    const int64_t first = i % parts * heads_at_once, last = first + heads_at_once;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t h = first * group; h < last * group; ++h)
        finish_head(op.q_norm, op.q_out + (row * op.heads + h) * d, row);
      for (int64_t h = first; h < last; ++h) store(row, h);
    }
  });
}

void Backend::add_projected(const Linear& linear, const Norm& post_norm, float* x) {
  const int64_t rows = batch_->rows(), hidden = linear.weight.rows;
  float* projected = wide_[0].data();
  const LinearJob job{
      .linear = linear, .tokens = rows, .out = projected, .residual = post_norm ? nullptr : x};
  run({&job, 1});
  if (post_norm) {
    const CpuKernels& kernel = cpu_kernels();
    parallel_ranges(rows, kRowsAtOnce, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin * hidden; at < end * hidden; at += hidden) {
        kernel.norm(post_norm, projected + at, hidden, projected + at);
        kernel.add_scaled(projected + at, 1, hidden, x + at);
      }
    });
  }
  if (observer_) observer_->residual(x, rows, hidden);
}

void Backend::project_residual(const ProjectResidual& op) {
  activations_.set(op.in, batch_->rows(), op.linear.weight.k, {&op.linear.weight, 1});
  add_projected(op.linear, op.post_norm, op.x);
}

void Backend::norm_mlp_residual(const NormMlpResidual& op) {
  const int64_t rows = batch_->rows(), intermediate = op.up.weight.rows;
  const CpuKernels& kernel = cpu_kernels();
  const Tensor weights[] = {op.up.weight, op.gate.weight};
  const std::span<const Tensor> read(weights, op.gate.weight ? 2 : 1);
  set_normed(op.norm, op.x, read);
  // Without a gate, what is activated is `up` itself.
  const Linear& activated = op.gate.weight ? op.gate : op.up;
  float* up = op.gate.weight ? up_.data() : nullptr;
  const LinearJob jobs[] = {{.linear = activated, .tokens = rows, .out = gate_.data()},
                            {.linear = op.up, .tokens = rows, .out = up}};
  run({jobs, read.size()});
  activations_.set(gate_.data(), rows, intermediate, {&op.down.weight, 1}, [&](int64_t row) {
    const int64_t at = row * intermediate;
    kernel.activate(op.activation, &gate_[at], up ? up + at : nullptr, intermediate);
  });
  add_projected(op.down, op.post_norm, op.x);
}

void Backend::norm_logits(const NormLogits& op) {
  const int64_t hidden = op.norm.weight.k;
  const auto wanted = static_cast<int64_t>(batch_->logit_rows.size());
  if (wanted == 0) return;
  // Gathered: most prefill rows want no logits.
  const CpuKernels& kernel = cpu_kernels();
  activations_.set(normed_.data(), wanted, hidden, {&op.head.weight, 1}, [&](int64_t i) {
    kernel.norm(op.norm, op.x + batch_->logit_rows[i] * hidden, hidden, &normed_[i * hidden]);
  });
  const LinearJob job{.linear = op.head, .tokens = wanted, .out = op.logits};
  run({&job, 1});
}

}  // namespace mxgpt::cpu
