// Checks of the sm90 GEMMs and of the norms before them, for sm90_kernels_test.cu.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>

#include "backend/cuda/random_weights.h"
#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/gemm.h"

namespace mxgpt::cuda::sm90 {

inline int failures = 0;

/// ‖got - want‖ / ‖want‖; NaN never passes.
inline void check(const std::string& name, const std::vector<float>& got,
                  const std::vector<double>& want, double bound) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  const double relative = std::sqrt(error / norm);
  const bool good = relative <= bound;
  failures += !good;
  std::printf("%-58s %9.2e  bound %.0e  %s\n", name.c_str(), relative, bound, good ? "ok" : "BAD");
}

inline const char* name_of(WeightType kind) {
  return kind == WeightType::q8_0 ? "q8_0" : kind == WeightType::mxfp4 ? "mxfp4" : "bf16";
}

inline std::vector<double> normed(const float* x, const std::vector<float>& weight, double eps) {
  const size_t k = weight.size();
  double square = 0;
  for (size_t i = 0; i < k; ++i) square += double{x[i]} * x[i];
  const double scale = 1 / std::sqrt(square / k + eps);
  std::vector<double> h(k);
  for (size_t i = 0; i < k; ++i) h[i] = x[i] * scale * weight[i];
  return h;
}

inline void check_gemm(WeightType kind, int slices, int rows, int k, int tokens, RowOrder order,
                       bool add) {
  const RandomMatrix w(kind, slices, rows, k, order);
  const auto x = random_floats(size_t{1} * tokens * k, 1),
             bias = random_floats(size_t{1} * slices * rows, 1),
             old = random_floats(size_t{1} * tokens * rows, 1);
  // Tokens to slices: some have none.
  std::vector<int32_t> begin(slices + 1), x_rows(tokens);
  for (int i = 1; i < slices; ++i) begin[i] = random_bits()() % (tokens + 1);
  begin[slices] = tokens;
  std::sort(begin.begin(), begin.end());
  std::iota(x_rows.begin(), x_rows.end(), 0);
  std::shuffle(x_rows.begin(), x_rows.end(), random_bits());
  const int columns = gemm_columns(kind, k);
  const bool permuted = use_wgmma(tokens, slices);
  uint16_t* const rounded = device_array<uint16_t>(size_t{1} * tokens * columns);
  round_to_bf16({to_device(x), tokens, k, columns, rounded, permuted}, nullptr);
  float* const out = to_device(old);
  if (!add) CUDA(cudaMemset(out, 0xff, old.size() * 4));
  gemm({.x = rounded,
        .weight = w.packed,
        .order = order,
        .bias = to_device(bias),
        .slices = slices,
        .tokens = tokens,
        .begin = slices > 1 ? to_device(begin) : nullptr,
        .x_rows = slices > 1 ? to_device(x_rows) : nullptr,
        .out = out,
        .add = add,
        .permuted = permuted},
       nullptr);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaGetLastError());
  std::vector<double> want;
  for (int s = 0; s < slices; ++s)
    for (int i = begin[s]; i < begin[s + 1]; ++i) {
      const float* from = x.data() + size_t{1} * (slices > 1 ? x_rows[i] : i) * k;
      const std::vector<double> v(from, from + k);
      for (int row = 0; row < rows; ++row)
        want.push_back(w.dot(s, row, v.data()) + bias[size_t{1} * s * rows + row] +
                       (add ? old[size_t{1} * i * rows + row] : 0));
    }
  check(std::string("gemm ") + name_of(kind) + " " + std::to_string(slices) + "x" +
            std::to_string(rows) + "x" + std::to_string(k) + " tokens " + std::to_string(tokens),
        to_host(out, old.size()), want, 4e-3);
}

inline void check_gate_up(int slices, int rows, int k, int tokens) {
  const RandomMatrix gate(WeightType::mxfp4, slices, rows, k),
      up(WeightType::mxfp4, slices, rows, k);
  const auto x = random_floats(size_t{1} * tokens * k, 1),
             gate_b = random_floats(size_t{1} * slices * rows, 1),
             up_b = random_floats(size_t{1} * slices * rows, 1);
  std::vector<int32_t> begin(slices + 1), x_rows(tokens);
  for (int i = 1; i < slices; ++i) begin[i] = random_bits()() % (tokens + 1);
  begin[slices] = tokens;
  std::sort(begin.begin(), begin.end());
  for (int i = 0; i < tokens; ++i) x_rows[i] = random_bits()() % tokens;
  const bool permuted = use_wgmma(tokens, slices);
  const int columns = gemm_columns(WeightType::mxfp4, k),
            out_columns = gemm_columns(WeightType::mxfp4, rows);
  uint16_t* const rounded = device_array<uint16_t>(size_t{1} * tokens * columns);
  round_to_bf16({to_device(x), tokens, k, columns, rounded, permuted}, nullptr);
  uint16_t* const out = device_array<uint16_t>(size_t{1} * tokens * out_columns);
  CUDA(cudaMemset(out, 0xff, size_t{2} * tokens * out_columns));
  gemm({.x = rounded,
        .weight = gate.packed,
        .bias = to_device(gate_b),
        .slices = slices,
        .tokens = tokens,
        .begin = to_device(begin),
        .x_rows = to_device(x_rows),
        .up = up.packed,
        .up_bias = to_device(up_b),
        .swiglu = {1.702f, 7},
        .activated = out,
        .permuted = permuted},
       nullptr);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaGetLastError());
  const auto bits = to_host(out, size_t{1} * tokens * out_columns);
  std::vector<float> got;
  std::vector<double> want;
  for (int s = 0; s < slices; ++s)
    for (int i = begin[s]; i < begin[s + 1]; ++i) {
      const float* from = x.data() + size_t{1} * x_rows[i] * k;
      const std::vector<double> v(from, from + k);
      for (int row = 0; row < out_columns; ++row) {
        const uint16_t b =
            bits[size_t{1} * i * out_columns + (permuted ? mma_k_permutation(row) : row)];
        got.push_back(__bfloat162float(reinterpret_cast<const __nv_bfloat16&>(b)));
        if (row >= rows) {
          want.push_back(0);
          continue;
        }
        double g = gate.dot(s, row, v.data()) + gate_b[size_t{1} * s * rows + row];
        double u = up.dot(s, row, v.data()) + up_b[size_t{1} * s * rows + row];
        g = std::min(g, 7.0), u = std::clamp(u, -7.0, 7.0);
        want.push_back((u + 1) * g / (1 + std::exp(-1.702 * g)));
      }
    }
  check("gemm gate, up " + std::to_string(slices) + "x" + std::to_string(rows) + "x" +
            std::to_string(k) + " tokens " + std::to_string(tokens),
        got, want, 8e-3);
}

/// Queries, keys and values in one launch.
inline void check_parts(WeightType kind, int k, int tokens) {
  const RandomMatrix all[3] = {{kind, 1, 192, k, RowOrder::rope_halves_64},
                               {kind, 1, 64, k, RowOrder::rope_halves_64},
                               {kind, 1, 72, k}};
  const auto x = random_floats(size_t{1} * tokens * k, 1);
  const int columns = gemm_columns(kind, k);
  const bool permuted = use_wgmma(tokens, 1);
  uint16_t* const rounded = device_array<uint16_t>(size_t{1} * tokens * columns);
  round_to_bf16({to_device(x), tokens, k, columns, rounded, permuted}, nullptr);
  std::vector<float> bias[3];
  GemmProblem parts[3];
  for (int i = 0; i < 3; ++i) {
    const int rows = all[i].packed.rows;
    bias[i] = random_floats(rows, 1);
    parts[i] = {all[i].packed, i < 2 ? RowOrder::rope_halves_64 : RowOrder::natural,
                to_device(bias[i]), device_array<float>(size_t{1} * tokens * rows)};
    CUDA(cudaMemset(parts[i].out, 0xff, size_t{4} * tokens * rows));
  }
  gemm({.x = rounded,
        .weight = parts[0].weight,
        .order = parts[0].order,
        .bias = parts[0].bias,
        .tokens = tokens,
        .out = parts[0].out,
        .also = {parts[1], parts[2]},
        .permuted = permuted},
       nullptr);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaGetLastError());
  for (int i = 0; i < 3; ++i) {
    std::vector<double> want;
    for (int token = 0; token < tokens; ++token) {
      const std::vector<double> v(x.begin() + token * k, x.begin() + (token + 1) * k);
      for (int row = 0; row < all[i].packed.rows; ++row)
        want.push_back(all[i].dot(0, row, v.data()) + bias[i][row]);
    }
    check(std::string("gemm part ") + std::to_string(i) + " " + name_of(kind) + " tokens " +
              std::to_string(tokens),
          to_host(parts[i].out, want.size()), want, 4e-3);
  }
}

inline void check_norm(int rows, int experts, int hidden, bool permuted) {
  const auto weight = random_floats(size_t{1} * experts * hidden, 0.05f),
             bias = random_floats(experts, 1), norm = random_floats(hidden, 0.3f, 1),
             x = random_floats(size_t{1} * (rows + 2) * hidden, 3);
  std::vector<int32_t> ids(rows);
  for (int32_t& id : ids) id = random_bits()() % (rows + 2);
  const int columns = gemm_columns(WeightType::mxfp4, hidden);
  float* const scores = device_array<float>(size_t{1} * rows * experts);
  uint16_t* const out = device_array<uint16_t>(size_t{1} * rows * columns);
  CUDA(cudaMemset(scores, 0xff, size_t{4} * rows * experts));
  CUDA(cudaMemset(out, 0xff, size_t{2} * rows * columns));
  norm_to_bf16({.x = to_device(x),
                .ids = to_device(ids),
                .norm = {to_device(norm), 1e-5f},
                .rows = rows,
                .k = hidden,
                .columns = columns,
                .out = out,
                .permuted = permuted,
                .router = {to_device(weight), to_device(bias), experts, scores}},
               nullptr);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaGetLastError());
  const auto bits = to_host(out, size_t{1} * rows * columns);
  std::vector<float> got;
  std::vector<double> want, want_scores;
  for (int r = 0; r < rows; ++r) {
    const auto h = normed(x.data() + size_t{1} * ids[r] * hidden, norm, 1e-5);
    for (int i = 0; i < columns; ++i) {
      const uint16_t b = bits[size_t{1} * r * columns + (permuted ? mma_k_permutation(i) : i)];
      got.push_back(__bfloat162float(reinterpret_cast<const __nv_bfloat16&>(b)));
      want.push_back(i < hidden ? h[i] : 0);
    }
    for (int e = 0; e < experts; ++e) {
      double sum = bias[e];
      for (int i = 0; i < hidden; ++i) sum += h[i] * weight[size_t{1} * e * hidden + i];
      want_scores.push_back(sum);
    }
  }
  const std::string shape =
      std::to_string(rows) + "x" + std::to_string(hidden) + " experts " + std::to_string(experts);
  check("norm rounded " + shape, got, want, 4e-3);
  check("router scores " + shape, to_host(scores, want_scores.size()), want_scores, 1e-6);
}

}  // namespace mxgpt::cuda::sm90
