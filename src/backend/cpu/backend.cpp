#include "backend/cpu/backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "backend/cpu/kernels.h"
#include "backend/cpu/kv_page.h"
#include "base/check.h"
#include "base/thread_pool.h"

namespace mxgpt::cpu {

/// Rows that a thread takes at a time in norms and sums.
constexpr int64_t kGrainRows = 4;

CpuBackend::CpuBackend(const backend::MaxShapes& limits, backend::Precision precision,
                       backend::ActivationHook* hook, kernels::AccumType accum_type, Arena arena)
    : max_shapes_(limits),
      hook_(hook),
      accum_type_(accum_type),
      arena_(std::move(arena)),
      activations_(
          std::max(limits.rows * limits.max_linear_width, limits.mlp_rows() * limits.intermediate),
          precision, arena_),
      normed_(arena_.allocate<float>(limits.rows * limits.hidden)),
      q_(arena_.allocate<float>(limits.rows * limits.heads * limits.head_dim)),
      attn_out_(arena_.allocate<float>(limits.rows * limits.heads * limits.head_dim)),
      kv_proj_{arena_.allocate<float>(limits.rows * limits.max_linear_width),
               arena_.allocate<float>(limits.rows * limits.max_linear_width)},
      router_logits_(arena_.allocate<float>(limits.rows * limits.experts)),
      choices_(arena_.allocate<ExpertChoice>(limits.rows * limits.top_k)),
      expert_offsets_(limits.experts + 1),
      expert_cursors_(limits.experts),
      sorted_token_ids_(arena_.allocate<int32_t>(limits.rows * limits.top_k)),
      identity_rows_(arena_.allocate<int32_t>(limits.rows * limits.top_k)),
      inverse_permutation_(arena_.allocate<int32_t>(limits.rows * limits.top_k)),
      gate_(arena_.allocate<float>(limits.mlp_rows() * limits.intermediate)),
      up_(arena_.allocate<float>(limits.mlp_rows() * limits.intermediate)),
      down_(arena_.allocate<float>(limits.rows * limits.top_k * limits.hidden)),
      split_states_(arena_.allocate<float>(
          limits.head_dim
              ? 8 * thread_count() * AttentionStates::float_count(kMaxQueries, limits.head_dim)
              : 0)) {
  query_blocks_.reserve(limits.rows);
  std::iota(identity_rows_.begin(), identity_rows_.end(), 0);
  tasks_.reserve(2 * limits.experts);
}

void CpuBackend::run_gemms(std::span<const GemmTask> tasks) {
  if (hook_) {
    for (const GemmTask& task : tasks) {
      hook_->linear_input(task.linear.weight, task.expert, activations_.x(), task.row_indices,
                          task.tokens);
    }
  }
  cpu::run_gemm_tasks(tasks, activations_, accum_type_);
}

void CpuBackend::begin_step(const backend::Batch& batch) {
  MXGPT_CHECK(batch.rows() <= max_shapes_.rows, "{} rows, planned {}", batch.rows(),
              max_shapes_.rows);
  batch_ = &batch;
}

void CpuBackend::embed(const backend::Embed& op) {
  const quant::FormatTraits& format = quant::traits(op.table.format);
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
      float* position_embedding = &normed_[row * hidden];
      quant::traits(op.positions.format)
          .dequantize(op.positions.data + position * op.positions.row_bytes(), hidden,
                      position_embedding);
      for (int64_t i = 0; i < hidden; ++i) x[i] += position_embedding[i];
    }
  });
  if (hook_) hook_->residual(op.x, batch_->rows(), hidden);
}

void CpuBackend::rope_cos_sin(const backend::RopeCosSin& op) {
  const int64_t half = op.head_dim / 2;
  parallel_for(batch_->rows(), [&](int64_t row) {
    const auto position = static_cast<float>(batch_->positions[row]);
    for (int64_t i = 0; i < half; ++i) {
      // Round the product to f32 first, as the reference does: it matters at large positions.
      const float angle = position * op.rope.inv_freq[i];
      op.cos[row * half + i] = std::cos(angle) * op.rope.magnitude;
      op.sin[row * half + i] = std::sin(angle) * op.rope.magnitude;
    }
  });
}

void CpuBackend::bind_normed(const backend::Norm& norm, const float* x,
                             std::span<const backend::Tensor> weights) {
  const CpuKernels& kernel = cpu_kernels();
  const int64_t n = norm.weight.k;
  activations_.bind_and_quantize(normed_.data(), batch_->rows(), n, weights, [&](int64_t row) {
    kernel.norm(norm, x + row * n, n, &normed_[row * n]);
  });
}

void CpuBackend::project_qkv(const backend::AttentionBlock& op) {
  MXGPT_CHECK(op.head_dim <= kMaxHeadDim, "head_dim {}", op.head_dim);
  const int64_t rows = batch_->rows();
  float* k = kv_proj_[0].data();
  float* v = kv_proj_[1].data();
  const backend::Tensor weights[] = {op.q.weight, op.k.weight, op.v.weight};
  bind_normed(op.norm, op.x, weights);
  const GemmTask jobs[] = {{.linear = op.q, .tokens = rows, .out = q_.data()},
                           {.linear = op.k, .tokens = rows, .out = k},
                           {.linear = op.v, .tokens = rows, .out = v}};
  run_gemms(jobs);

  const CpuKernels& kernel = cpu_kernels();
  const backend::PageTable& table = batch_->tables[static_cast<int>(op.kv.group)];
  const int64_t d = op.head_dim, row_bytes = quant::traits(op.kv.format).row_bytes(d);
  const auto norm_and_rotate = [&](const backend::Norm& head_norm, float* head, int64_t row) {
    if (head_norm) kernel.norm(head_norm, head, d, head);
    if (op.cos)
      kernel.apply_rope(op.rope_style, head, op.cos + row * d / 2, op.sin + row * d / 2, d);
  };
  const auto store = [&](int64_t row, int64_t h) {
    const int64_t position = batch_->positions[row], slot = position % backend::kPageTokens;
    const int64_t page = table.page(batch_->sequences[row], position);
    const int64_t from = (row * op.kv_heads + h) * d;
    const int64_t to = (page * op.kv_heads + h) * backend::kPageTokens * row_bytes;
    norm_and_rotate(op.k_norm, k + from, row);
    std::byte key[kMaxHeadDim * sizeof(float)];
    kernel.quantize_kv(op.kv.format, k + from, d, key);
    store_key(op.kv.format, d, key, slot, op.kv.keys + to);
    kernel.quantize_kv(op.kv.format, v + from, d, op.kv.values + to + slot * row_bytes);
  };
  // Keys are transposed within a page, so one thread should write the rows that share cache lines.
  const int64_t group = op.heads / op.kv_heads;
  const bool many = rows >= 2 * backend::kPageTokens;
  const int64_t grain_rows = many ? int64_t{backend::kPageTokens}
                                  : Activations::grain_rows((op.heads + 2 * op.kv_heads) * d);
  const int64_t grain_heads = many ? 1 : op.kv_heads;
  const int64_t parts = op.kv_heads / grain_heads;
  parallel_for((rows + grain_rows - 1) / grain_rows * parts, [&](int64_t i) {
    const int64_t begin = i / parts * grain_rows, end = std::min(rows, begin + grain_rows);
    const int64_t first = i % parts * grain_heads, last = first + grain_heads;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t h = first * group; h < last * group; ++h)
        norm_and_rotate(op.q_norm, &q_[(row * op.heads + h) * d], row);
      for (int64_t h = first; h < last; ++h) store(row, h);
    }
  });
}

void CpuBackend::project_and_add(const backend::Linear& linear, const backend::Norm& post_norm,
                                 float* x) {
  const int64_t rows = batch_->rows(), hidden = linear.weight.rows;
  float* projected = kv_proj_[0].data();
  const GemmTask job{
      .linear = linear, .tokens = rows, .out = projected, .residual = post_norm ? nullptr : x};
  run_gemms({&job, 1});
  if (post_norm) {
    const CpuKernels& kernel = cpu_kernels();
    parallel_ranges(rows, kGrainRows, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin * hidden; at < end * hidden; at += hidden) {
        kernel.norm(post_norm, projected + at, hidden, projected + at);
        kernel.add_scaled(projected + at, 1, hidden, x + at);
      }
    });
  }
  if (hook_) hook_->residual(x, rows, hidden);
}

void CpuBackend::attention_block(const backend::AttentionBlock& op) {
  project_qkv(op);
  attention(op.attention(q_.data(), attn_out_.data()));
  activations_.bind_and_quantize(attn_out_.data(), batch_->rows(), op.o.weight.k,
                                 {&op.o.weight, 1});
  project_and_add(op.o, op.post_norm, op.x);
}

void CpuBackend::mlp_block(const backend::MlpBlock& op) {
  const int64_t rows = batch_->rows(), intermediate = op.up.weight.rows;
  const CpuKernels& kernel = cpu_kernels();
  const backend::Tensor weights[] = {op.up.weight, op.gate.weight};
  const std::span<const backend::Tensor> read(weights, op.gate.weight ? 2 : 1);
  bind_normed(op.norm, op.x, read);
  // Without a gate, the activation applies to `up` itself.
  const backend::Linear& activated = op.gate.weight ? op.gate : op.up;
  float* up = op.gate.weight ? up_.data() : nullptr;
  const GemmTask jobs[] = {{.linear = activated, .tokens = rows, .out = gate_.data()},
                           {.linear = op.up, .tokens = rows, .out = up}};
  run_gemms({jobs, read.size()});
  activations_.bind_and_quantize(
      gate_.data(), rows, intermediate, {&op.down.weight, 1}, [&](int64_t row) {
        const int64_t at = row * intermediate;
        kernel.activate(op.activation, &gate_[at], up ? up + at : nullptr, intermediate);
      });
  project_and_add(op.down, op.post_norm, op.x);
}

void CpuBackend::lm_head(const backend::LmHead& op) {
  const int64_t hidden = op.norm.weight.k;
  const auto requested = static_cast<int64_t>(batch_->logit_rows.size());
  if (requested == 0) return;
  // Gather the rows: most prefill rows need no logits.
  const CpuKernels& kernel = cpu_kernels();
  activations_.bind_and_quantize(
      normed_.data(), requested, hidden, {&op.linear.weight, 1}, [&](int64_t i) {
        kernel.norm(op.norm, op.x + batch_->logit_rows[i] * hidden, hidden, &normed_[i * hidden]);
      });
  const GemmTask job{.linear = op.linear, .tokens = requested, .out = op.logits};
  run_gemms({&job, 1});
}

}  // namespace mxgpt::cpu
