#include "backend/cpu/linear.h"

#include <algorithm>

#include "backend/cpu/kernels.h"
#include "base/check.h"
#include "base/threads.h"

namespace mxgpt::cpu {

Activations::Activations(int64_t max_elements, Precision precision, Arena& arena)
    : precision_(precision) {
  if (precision_ == Precision::exact) return;
  const int64_t groups = max_elements / kGroup;
  q_ = arena.take<int16_t>(max_elements);
  scale_ = arena.take<float>(groups);
  sum_ = arena.take<float>(2 * groups);
  total_ = arena.take<int32_t>(2 * groups);
  bytes_ = arena.take<ByteGroup>(groups);
}

bool Activations::uses_q16(const Tensor& weight) const {
  return precision_ == Precision::standard && kernels(weight.format).matmul_q16;
}

bool Activations::refer(const float* x, int64_t rows, int64_t k, std::span<const Tensor> weights) {
  x_ = x;
  rows_ = rows;
  k_ = k;
  if (std::none_of(weights.begin(), weights.end(), [&](const Tensor& w) { return uses_q16(w); }))
    return false;
  MXGPT_CHECK(k % kGroup == 0 && rows * k <= static_cast<int64_t>(q_.size()), "rows {} k {}", rows,
              k);
  in_bytes_ = std::any_of(weights.begin(), weights.end(),
                          [](const Tensor& w) { return traits(w.format).byte_activations; });
  return true;
}

void Activations::round(int64_t row) {
  const int64_t at = row * k_;
  cpu_kernels().quantize_q16(x_ + at, k_, &q_[at], &scale_[at / kGroup], &sum_[at / 16],
                             &total_[at / 16], in_bytes_ ? &bytes_[at / kGroup] : nullptr);
}

void Activations::set(const float* x, int64_t rows, int64_t k, std::span<const Tensor> weights) {
  if (!refer(x, rows, k, weights)) return;
  parallel_ranges(rows, rows_at_once(k), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) round(row);
  });
}

namespace {

/// Rows [row0, row0 + rows) of one job.
void run_chunk(const LinearJob& job, const Activations& activations, Accumulate accumulate,
               int64_t row0, int64_t rows) {
  const Tensor& w = job.linear.weight;
  MatmulTile tile{.weights = w.slice(job.slice) + row0 * w.row_bytes(),
                  .row_bytes = w.row_bytes(),
                  .rows = rows,
                  .k = w.k,
                  .x = activations.x(),
                  .x16 = activations.q16(),
                  .x_rows = job.x_rows,
                  .tokens = job.tokens,
                  .out = job.out + row0,
                  .out_stride = w.rows,
                  .accumulate = accumulate};
  const Kernels& kernel = kernels(w.format);
  (activations.uses_q16(w) ? kernel.matmul_q16 : kernel.matmul_f32)(tile);
  const float* bias = job.linear.bias ? job.linear.bias.f32(job.slice) + row0 : nullptr;
  if (!bias && !job.residual) return;
  const auto add = cpu_kernels().add_scaled;
  for (int64_t t = 0; t < job.tokens; ++t) {
    float* out = tile.out + t * w.rows;
    if (bias) add(bias, 1, rows, out);
    if (job.residual) add(out, 1, rows, job.residual + t * w.rows + row0);
  }
}

/// Rows of a chunk: small enough to balance the threads, large enough to pay for being handed out;
/// whole panels of rows (formats/avx2_matmul.h).
int64_t chunk_rows(std::span<const LinearJob> jobs) {
  constexpr int64_t kLeastWork = 1 << 15;  // multiply-adds
  constexpr int64_t kPanelRows = 32;
  int64_t rows = 1, work = 1;
  for (const LinearJob& job : jobs) {
    rows += job.linear.weight.rows;
    work += job.linear.weight.rows * job.linear.weight.k * job.tokens;
  }
  const int64_t least = kLeastWork * rows / work, balanced = rows / (thread_count() * 16);
  const int64_t panels = std::max(least, balanced) / kPanelRows;
  return std::clamp<int64_t>(panels * kPanelRows, kPanelRows, 256);
}

}  // namespace

void run(std::span<const LinearJob> jobs, const Activations& activations, Accumulate accumulate) {
  // The chunks of all jobs are numbered through: few jobs, so the way to a chunk is counted anew.
  const int64_t chunk = chunk_rows(jobs);
  const auto chunks = [&](const LinearJob& job) {
    return (job.linear.weight.rows + chunk - 1) / chunk;
  };
  int64_t total = 0;
  for (const LinearJob& job : jobs) total += chunks(job);
  parallel_for(total, [&](int64_t i) {
    const LinearJob* job = jobs.data();
    for (; i >= chunks(*job); ++job) i -= chunks(*job);
    const int64_t row = i * chunk;
    run_chunk(*job, activations, accumulate, row, std::min(chunk, job->linear.weight.rows - row));
  });
}

}  // namespace mxgpt::cpu
