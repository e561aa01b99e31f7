#include "backend/cpu/linear.h"

#include <algorithm>

#include "backend/cpu/kernels.h"
#include "base/check.h"
#include "base/thread_pool.h"

namespace mxgpt::cpu {

Activations::Activations(int64_t max_elements, backend::Precision precision, Arena& arena)
    : precision_(precision) {
  if (precision_ == backend::Precision::exact) return;
  const int64_t groups = max_elements / quant::kQuantGroup;
  q_ = arena.allocate<int16_t>(max_elements);
  scale_ = arena.allocate<float>(groups);
  sum_ = arena.allocate<float>(2 * groups);
  total_ = arena.allocate<int32_t>(2 * groups);
  outlier_blocks_ = arena.allocate<kernels::OutlierSplitGroup>(groups);
}

bool Activations::uses_int16(const backend::Tensor& weight) const {
  return precision_ == backend::Precision::mixed &&
         kernels::gemm_kernels(weight.format).matmul_int16;
}

bool Activations::bind(const float* x, int64_t rows, int64_t k,
                       std::span<const backend::Tensor> weights) {
  x_ = x;
  rows_ = rows;
  k_ = k;
  if (std::none_of(weights.begin(), weights.end(),
                   [&](const backend::Tensor& w) { return uses_int16(w); }))
    return false;
  MXGPT_CHECK(k % quant::kQuantGroup == 0 && rows * k <= static_cast<int64_t>(q_.size()),
              "rows {} k {}", rows, k);
  outlier_split_ = std::any_of(weights.begin(), weights.end(), [](const backend::Tensor& w) {
    return kernels::gemm_kernels(w.format).int8_activations;
  });
  return true;
}

void Activations::quantize(int64_t row) {
  const int64_t at = row * k_;
  cpu_kernels().quantize_int16(
      x_ + at, k_, &q_[at], &scale_[at / quant::kQuantGroup], &sum_[at / 16], &total_[at / 16],
      outlier_split_ ? &outlier_blocks_[at / quant::kQuantGroup] : nullptr);
}

void Activations::bind_and_quantize(const float* x, int64_t rows, int64_t k,
                                    std::span<const backend::Tensor> weights) {
  if (!bind(x, rows, k, weights)) return;
  parallel_ranges(rows, grain_rows(k), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) quantize(row);
  });
}

namespace {

/// Runs rows [row0, row0 + rows) of one task.
void run_chunk(const GemmTask& job, const Activations& activations, kernels::AccumType accumulate,
               int64_t row0, int64_t rows) {
  const backend::Tensor& w = job.linear.weight;
  kernels::GemmArgs tile{.weights = w.expert(job.expert) + row0 * w.row_bytes(),
                         .row_bytes = w.row_bytes(),
                         .rows = rows,
                         .k = w.k,
                         .x = activations.x(),
                         .x_int16 = activations.quantized(),
                         .row_indices = job.row_indices,
                         .tokens = job.tokens,
                         .out = job.out + row0,
                         .out_stride = w.rows,
                         .accum_type = accumulate};
  const kernels::GemmKernels& kernel = kernels::gemm_kernels(w.format);
  (activations.uses_int16(w) ? kernel.matmul_int16 : kernel.matmul_f32)(tile);
  const float* bias = job.linear.bias ? job.linear.bias.f32(job.expert) + row0 : nullptr;
  if (!bias && !job.residual) return;
  const auto add = cpu_kernels().add_scaled;
  for (int64_t t = 0; t < job.tokens; ++t) {
    float* out = tile.out + t * w.rows;
    if (bias) add(bias, 1, rows, out);
    if (job.residual) add(out, 1, rows, job.residual + t * w.rows + row0);
  }
}

/// Rows per chunk: small enough to balance threads, large enough to amortize scheduling, and a
/// multiple of the GEMM's row panel (kernels/cpu/avx2/gemm.h).
int64_t chunk_rows(std::span<const GemmTask> jobs) {
  constexpr int64_t kMinWork = 1 << 15;  // multiply-adds
  constexpr int64_t kPanelRows = 32;
  int64_t rows = 1, work = 1;
  for (const GemmTask& job : jobs) {
    rows += job.linear.weight.rows;
    work += job.linear.weight.rows * job.linear.weight.k * job.tokens;
  }
  const int64_t least = kMinWork * rows / work, balanced = rows / (thread_count() * 16);
  const int64_t panels = std::max(least, balanced) / kPanelRows;
  return std::clamp<int64_t>(panels * kPanelRows, kPanelRows, 256);
}

}  // namespace

void run_gemm_tasks(std::span<const GemmTask> jobs, const Activations& activations,
                    kernels::AccumType accumulate) {
  // Chunks are numbered across all tasks. There are few tasks, so each thread searches its own.
  const int64_t chunk = chunk_rows(jobs);
  const auto chunks = [&](const GemmTask& job) {
    return (job.linear.weight.rows + chunk - 1) / chunk;
  };
  int64_t total = 0;
  for (const GemmTask& job : jobs) total += chunks(job);
  parallel_for(total, [&](int64_t i) {
    const GemmTask* job = jobs.data();
    for (; i >= chunks(*job); ++job) i -= chunks(*job);
    const int64_t row = i * chunk;
    run_chunk(*job, activations, accumulate, row, std::min(chunk, job->linear.weight.rows - row));
  });
}

}  // namespace mxgpt::cpu
