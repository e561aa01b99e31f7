// Tests the sm90 kernels against plain computations in double on random data: one line per case.
// Exit status: 0 if every case is within its bound, 1 if not, 77 without a suitable GPU. An
// argument replaces the seed.
#include <algorithm>
#include <numeric>
#include <string>

#include "backend/cuda/check_gemm.h"

namespace mxgpt::cuda::sm90 {
namespace {

struct Model {
  int hidden, kv_heads, experts, intermediate;
};

constexpr int kPages = 64;

void check_qkv(const Model& m, WeightType kind, int rows, bool bf16) {
  const int heads = 8 * m.kv_heads;
  const RandomMatrix q(kind, 1, heads * 64, m.hidden, RowOrder::rope_halves_64),
      k(kind, 1, m.kv_heads * 64, m.hidden, RowOrder::rope_halves_64),
      v(kind, 1, m.kv_heads * 64, m.hidden);
  const auto x = random_floats(size_t{1} * rows * m.hidden, 3),
             weight = random_floats(m.hidden, 0.3f, 1);
  const auto qb = random_floats(heads * 64, 1), kb = random_floats(m.kv_heads * 64, 1),
             vb = random_floats(m.kv_heads * 64, 1);
  std::vector<float> cos(rows * 32), sin(rows * 32);
  std::vector<int32_t> positions(rows), sequences(rows), table(rows * 4);
  for (int r = 0; r < rows; ++r) {
    positions[r] = random_bits()() % 128;
    sequences[r] = rows - 1 - r;
    for (int i = 0; i < 32; ++i) {
      const double angle = positions[r] * std::pow(150000.0, -i / 32.0);
      cos[r * 32 + i] = 1.3466f * std::cos(angle), sin[r * 32 + i] = 1.3466f * std::sin(angle);
    }
  }
  std::iota(table.begin(), table.end(), 5);
  std::shuffle(table.begin(), table.end(), random_bits());
  const size_t cache = size_t{kPages} * m.kv_heads * 32 * 64;
  uint16_t* const keys = device_array<uint16_t>(cache);
  uint16_t* const values = device_array<uint16_t>(cache);
  float* const out = device_array<float>(size_t{1} * rows * heads * 64);
  CUDA(cudaMemset(out, 0xff, size_t{4} * rows * heads * 64));
  CUDA(cudaMemset(keys, 0xff, cache * 2));
  CUDA(cudaMemset(values, 0xff, cache * 2));
  qkv({.x = to_device(x),
       .norm = {to_device(weight), 1e-5f},
       .q = q.packed,
       .k = k.packed,
       .v = v.packed,
       .q_bias = to_device(qb),
       .k_bias = to_device(kb),
       .v_bias = to_device(vb),
       .cos = to_device(cos),
       .sin = to_device(sin),
       .rows = rows,
       .kv_heads = m.kv_heads,
       .coords = {to_device(positions), to_device(sequences)},
       .kv = {keys, values, bf16, to_device(table), 4},
       .q_out = out},
      nullptr);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaGetLastError());
  const auto got_q = to_host(out, size_t{1} * rows * heads * 64);
  const auto got_keys = to_host(keys, cache), got_values = to_host(values, cache);
  const auto value_of = [&](uint16_t bits) {
    return bf16 ? __bfloat162float(reinterpret_cast<__nv_bfloat16&>(bits))
                : __half2float(reinterpret_cast<__half&>(bits));
  };
  std::vector<double> want_q, want_kv;
  std::vector<float> got_kv;
  for (int r = 0; r < rows; ++r) {
    const auto h = normed(x.data() + size_t{1} * r * m.hidden, weight, 1e-5);
    const auto rotated = [&](const RandomMatrix& w, const std::vector<float>& bias, int row) {
      const int other = row % 64 < 32 ? row + 32 : row - 32, i = r * 32 + row % 32;
      const double a = w.dot(0, row, h.data()) + bias[row];
      const double b = w.dot(0, other, h.data()) + bias[other];
      return row % 64 < 32 ? a * cos[i] - b * sin[i] : a * cos[i] + b * sin[i];
    };
    for (int row = 0; row < heads * 64; ++row) want_q.push_back(rotated(q, qb, row));
    const int64_t page = table[sequences[r] * 4 + positions[r] / 32];
    for (int row = 0; row < m.kv_heads * 64; ++row) {
      const size_t at = ((page * m.kv_heads + row / 64) * 32 + positions[r] % 32) * 64 + row % 64;
      want_kv.push_back(rotated(k, kb, row));
      got_kv.push_back(value_of(got_keys[at]));
      want_kv.push_back(v.dot(0, row, h.data()) + vb[row]);
      got_kv.push_back(value_of(got_values[at]));
    }
  }
  const std::string name = std::string("qkv ") + name_of(kind) + " hidden " +
                           std::to_string(m.hidden) + " rows " + std::to_string(rows);
  check(name + " q", got_q, want_q, 1e-4);
  check(name + (bf16 ? " kv bf16" : " kv f16"), got_kv, want_kv, bf16 ? 3e-3 : 4e-4);
}

cuda::sm90::Router router_of(const Model& m, const std::vector<float>& weight,
                             const std::vector<float>& bias, const std::vector<float>& norm) {
  return {to_device(weight), to_device(bias), to_device(norm), 1e-5f, m.experts, 4, router_parts()};
}

void check_layer(const Model& m, WeightType kind, int rows) {
  const int heads = 8 * m.kv_heads, hidden = m.hidden, inner = m.intermediate;
  const RandomMatrix o(kind, 1, hidden, heads * 64);
  const auto in = random_floats(size_t{1} * rows * heads * 64, 1), bias = random_floats(hidden, 1),
             x = random_floats(size_t{1} * rows * hidden, 3);
  const auto router_w = random_floats(size_t{1} * m.experts * hidden, 0.05f),
             router_b = random_floats(m.experts, 1), norm = random_floats(hidden, 0.3f, 1);
  const cuda::sm90::Router router = router_of(m, router_w, router_b, norm);
  float* const xs = to_device(x);
  float* const parts = device_array<float>(router_part_floats(rows, m.experts, router_parts()));
  CUDA(cudaMemset(parts, 0xff, 4 * router_part_floats(rows, m.experts, router_parts())));
  o_proj({to_device(in), o.packed, to_device(bias), xs, rows, router, parts}, nullptr);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaGetLastError());
  const auto got = to_host(xs, x.size());
  std::vector<double> want;
  for (int r = 0; r < rows; ++r) {
    const std::vector<double> a(in.begin() + size_t{1} * r * heads * 64,
                                in.begin() + size_t{1} * (r + 1) * heads * 64);
    for (int i = 0; i < hidden; ++i)
      want.push_back(o.dot(0, i, a.data()) + bias[i] + x[size_t{1} * r * hidden + i]);
  }
  const std::string shape = std::string(name_of(kind)) + " hidden " + std::to_string(hidden) +
                            " rows " + std::to_string(rows);
  check("o_proj " + shape, got, want, 1e-4);

  const int stride = (m.experts + 1 + 3) / 4 * 4;
  const auto got_parts = to_host(parts, router_part_floats(rows, m.experts, router_parts()));
  std::vector<float> got_scores;
  std::vector<double> want_scores;
  for (int r = 0; r < rows; ++r)
    for (int e = 0; e <= m.experts; ++e) {
      double sum = 0, exact = 0;
      for (int c = 0; c < router.parts; ++c)
        sum += got_parts[(size_t{1} * r * router.parts + c) * stride + e];
      for (int i = 0; i < hidden; ++i) {
        const double v = got[size_t{1} * r * hidden + i];
        exact += e < m.experts ? v * norm[i] * router_w[size_t{1} * e * hidden + i] : v * v;
      }
      got_scores.push_back(e < m.experts ? sum : sum / hidden);
      want_scores.push_back(e < m.experts ? exact : exact / hidden);
    }
  check("router parts " + shape, got_scores, want_scores, 1e-5);

  const RandomMatrix gate(WeightType::mxfp4, m.experts, inner, hidden),
      up(WeightType::mxfp4, m.experts, inner, hidden),
      down_w(WeightType::mxfp4, m.experts, hidden, inner);
  const auto gate_b = random_floats(size_t{1} * m.experts * inner, 1),
             up_b = random_floats(size_t{1} * m.experts * inner, 1),
             down_b = random_floats(size_t{1} * m.experts * hidden, 1);
  uint8_t* const activated = device_array<uint8_t>(rows * activated_bytes(inner));
  CUDA(cudaMemset(activated, 0, rows * activated_bytes(inner)));
  const cuda::sm90::MoeSmallBatch all{
      .x = to_device(got),
      .rows = rows,
      .router = router,
      .router_parts = parts,
      .gate = gate.packed,
      .up = up.packed,
      .down = down_w.packed,
      .gate_bias = to_device(gate_b),
      .up_bias = to_device(up_b),
      .down_bias = to_device(down_b),
      .swiglu = {1.702f, 7},
      .scratch = {.chosen = device_array<cuda::sm90::TopKResult>(rows),
                  .normed = device_array<uint8_t>(normed_bytes(rows, hidden)),
                  .activated = activated,
                  .outs = device_array<float>(size_t{4} * rows * hidden)}};
  for (int r = 0; r < rows; ++r) {
    const float* const own = parts + r * router_part_floats(1, m.experts, router_parts());
    float* const row_x = xs + size_t{1} * r * hidden;
    gate_up({row_x, router, own, gate.packed, up.packed, all.gate_bias, all.up_bias, all.swiglu,
             activated},
            nullptr);
    down({activated, router, own, down_w.packed, all.down_bias, row_x}, nullptr);
  }
  moe_small_batch(all, nullptr);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaGetLastError());
  const bool same = to_host(xs, x.size()) == to_host(all.x, x.size());
  failures += !same;
  std::printf("%-58s %s\n", ("experts together as alone, " + shape).c_str(), same ? "ok" : "BAD");
  const auto h = normed(got.data(), norm, 1e-5);
  std::vector<double> scores(m.experts);
  for (int e = 0; e < m.experts; ++e) {
    scores[e] = router_b[e];
    for (int i = 0; i < hidden; ++i) scores[e] += h[i] * router_w[size_t{1} * e * hidden + i];
  }
  std::vector<int> order(m.experts);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) { return scores[a] > scores[b]; });
  double total = 0;
  for (int s = 0; s < 4; ++s) total += std::exp(scores[order[s]] - scores[order[0]]);
  std::vector<double> delta(hidden), act(inner);
  for (int s = 0; s < 4; ++s) {
    const int e = order[s];
    for (int i = 0; i < inner; ++i) {
      double g = gate.dot(e, i, h.data()) + gate_b[size_t{1} * e * inner + i];
      double u = up.dot(e, i, h.data()) + up_b[size_t{1} * e * inner + i];
      g = std::min(g, 7.0), u = std::clamp(u, -7.0, 7.0);
      act[i] = (u + 1) * g / (1 + std::exp(-1.702 * g));
    }
    const double w = std::exp(scores[e] - scores[order[0]]) / total;
    for (int i = 0; i < hidden; ++i)
      delta[i] += w * (down_w.dot(e, i, act.data()) + down_b[size_t{1} * e * hidden + i]);
  }
  auto got_delta = to_host(xs, hidden);
  for (int i = 0; i < hidden; ++i) got_delta[i] -= got[i];
  check("gate_up, down experts " + std::to_string(m.experts) + " " + shape, got_delta, delta, 1e-4);
}

void check_logits(int vocabulary, int hidden, WeightType kind, int rows, int lowest = 117,
                  int highest = 121) {
  const RandomMatrix head(kind, 1, vocabulary, hidden, RowOrder::natural, lowest, highest);
  const auto x = random_floats(size_t{1} * rows * hidden, 3),
             weight = random_floats(hidden, 0.3f, 1);
  float* const out = device_array<float>(size_t{1} * rows * vocabulary);
  CUDA(cudaMemset(out, 0xff, size_t{4} * rows * vocabulary));
  logits({to_device(x), {to_device(weight), 1e-5f}, head.packed, rows, out}, nullptr);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaGetLastError());
  std::vector<double> want;
  for (int r = 0; r < rows; ++r) {
    const auto h = normed(x.data() + size_t{1} * r * hidden, weight, 1e-5);
    for (int i = 0; i < vocabulary; ++i) want.push_back(head.dot(0, i, h.data()));
  }
  check(std::string("logits ") + name_of(kind) + " " + std::to_string(vocabulary) + "x" +
            std::to_string(hidden) + " rows " + std::to_string(rows) + " scales from " +
            std::to_string(lowest),
        to_host(out, size_t{1} * rows * vocabulary), want, 1e-4);
}

/// A NaN scale makes its row NaN and no other.
void check_nan() {
  const int rows = 64, k = 288;
  RandomMatrix head(WeightType::mxfp4, 1, rows, k);
  head.blocks[(13 * 9 + 4) * 17] = 255;
  uint8_t* const data = device_array<uint8_t>(packed_bytes(WeightType::mxfp4, 1, rows, k));
  pack({WeightType::mxfp4, RowOrder::natural, 1, rows, k,
        reinterpret_cast<const std::byte*>(to_device(head.blocks)), data},
       nullptr);
  float* const out = device_array<float>(rows);
  logits({to_device(random_floats(k, 3)), {}, {data, WeightType::mxfp4, rows, k}, 1, out}, nullptr);
  CUDA(cudaDeviceSynchronize());
  const auto got = to_host(out, rows);
  bool good = true;
  for (int i = 0; i < rows; ++i) good &= std::isnan(got[i]) == (i == 13);
  failures += !good;
  std::printf("%-58s %s\n", "NaN scale", good ? "ok" : "BAD");
}

void check_attend(int kv_heads, int context, int window, bool sinks, bool bf16, int pages_per_split,
                  int adjacent = 0) {
  const int heads = 8 * kv_heads, rows = adjacent ? 2 * adjacent + 1 : 3, stride = context / 32 + 1;
  const int pages = rows * stride + 3;
  std::vector<int32_t> table(rows * stride), sequences{2, 0, 1},
      positions{context - 1, std::max(0, context - 17), context / 2};
  if (adjacent) {
    // The ends of two sequences, and a row of a third.
    positions.clear(), sequences.clear();
    for (int i = 0; i < rows; ++i) {
      sequences.push_back(i / adjacent);
      positions.push_back(i / adjacent == 2 ? context / 2 : context - adjacent + i % adjacent);
    }
  }
  std::iota(table.begin(), table.end(), 3);
  std::shuffle(table.begin(), table.end(), random_bits());
  const size_t cache = size_t{1} * pages * kv_heads * 32 * 64;
  std::vector<uint16_t> keys(cache), values(cache);
  std::vector<float> key_values(cache), value_values(cache);
  const auto fill = [&](std::vector<uint16_t>& to, std::vector<float>& exact) {
    const auto v = random_floats(cache, 1);
    for (size_t i = 0; i < cache; ++i) {
      if (bf16) {
        const __nv_bfloat16 b = __float2bfloat16(v[i]);
        to[i] = reinterpret_cast<const uint16_t&>(b), exact[i] = __bfloat162float(b);
      } else {
        const __half b = __float2half(v[i]);
        to[i] = reinterpret_cast<const uint16_t&>(b), exact[i] = __half2float(b);
      }
    }
  };
  fill(keys, key_values), fill(values, value_values);
  const auto q = random_floats(size_t{1} * rows * heads * 64, 2), sink = random_floats(heads, 2);
  const int max_splits = (stride + pages_per_split - 1) / pages_per_split;
  float* const out = device_array<float>(q.size());
  CUDA(cudaMemset(out, 0xff, q.size() * 4));
  int32_t* const split_counters = device_array<int32_t>(rows * kv_heads);
  CUDA(cudaMemset(split_counters, 0, rows * kv_heads * 4));
  const AttentionArgs a{
      .q = to_device(q),
      .rows = rows,
      .step_rows = rows,
      .kv_heads = kv_heads,
      .scale = 0.125f,
      .kv = {to_device(keys), to_device(values), bf16, to_device(table), stride},
      .coords = {to_device(positions), to_device(sequences)},
      .window = window,
      .sinks = sinks ? to_device(sink) : nullptr,
      .pages_per_split = pages_per_split,
      .max_splits = max_splits,
      .scratch = device_array<float>(attend_scratch_floats(rows, kv_heads, max_splits)),
      .split_counters = split_counters,
      .out = out};
  for (int i = 0; i < 2; ++i) adjacent ? attn_prefill(a, nullptr) : attn_decode(a, nullptr);
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaGetLastError());
  std::vector<double> want(q.size());
  for (int r = 0; r < rows; ++r)
    for (int h = 0; h < heads; ++h) {
      const int first = window ? std::max(0, positions[r] + 1 - window) : 0;
      const float* query = &q[(size_t{1} * r * heads + h) * 64];
      std::vector<double> score;
      double largest = sinks ? sink[h] : -INFINITY;
      const auto at = [&](int token) {
        return ((size_t{1} * table[sequences[r] * stride + token / 32] * kv_heads + h / 8) * 32 +
                token % 32) *
               64;
      };
      for (int i = first; i <= positions[r]; ++i) {
        double s = 0;
        for (int d = 0; d < 64; ++d) s += double{query[d]} * key_values[at(i) + d];
        score.push_back(s * 0.125);
        largest = std::max(largest, score.back());
      }
      double sum = sinks ? std::exp(sink[h] - largest) : 0;
      double* const to = &want[(size_t{1} * r * heads + h) * 64];
      for (int i = first; i <= positions[r]; ++i) {
        const double w = std::exp(score[i - first] - largest);
        sum += w;
        for (int d = 0; d < 64; ++d) to[d] += w * value_values[at(i) + d];
      }
      for (int d = 0; d < 64; ++d) to[d] /= sum;
    }
  check(std::string(adjacent ? "attn_prefill context " : "attn_decode context ") +
            std::to_string(context) + " window " + std::to_string(window) +
            (sinks ? " sinks" : "") + (bf16 ? " bf16" : " f16") + " piece " +
            std::to_string(pages_per_split),
        to_host(out, q.size()), want,
        !adjacent ? 1e-4
        : bf16    ? 8e-3
                  : 1e-3);
}

int run() {
  const Model full{2880, 8, 8, 2880}, nano{288, 1, 12, 288}, wide{320, 2, 128, 416};
  for (const WeightType kind : {WeightType::q8_0, WeightType::mxfp4, WeightType::bf16}) {
    for (const int rows : {1, 2, 3, 8}) {
      check_qkv(nano, kind, rows, rows % 2);
      check_layer(rows == 8 ? nano : wide, kind, rows);
      check_logits(4099, 288, kind, rows);
    }
    check_qkv(full, kind, 1, true);
    check_logits(20001, 2880, kind, 1);
  }
  check_qkv(full, WeightType::q8_0, 8, false);
  check_layer(full, WeightType::q8_0, 1);
  check_layer(nano, WeightType::bf16, 1);
  // Smaller scales underflow: products are kept at 2^-30 of their value until the end of a chunk.
  check_logits(64, 288, WeightType::mxfp4, 1, 32, 35);
  check_logits(64, 288, WeightType::mxfp4, 1, 240, 243);
  check_nan();
  for (const WeightType kind : {WeightType::q8_0, WeightType::mxfp4, WeightType::bf16}) {
    check_gemm(kind, 1, 192, 288, 1, RowOrder::natural, false);
    check_gemm(kind, 1, 320, 2880, 77, RowOrder::rope_halves_64, false);
    check_gemm(kind, 1, 100, 416, 300, RowOrder::natural, true);
    check_gemm(kind, 40, 96, 288, 900, RowOrder::natural, false);
    check_gemm(kind, 5, 72, 640, 1200, RowOrder::natural, false);
    check_gemm(kind, 33, 96, 288, 2600, RowOrder::natural, false);
  }
  for (const int tokens : {1, 17, 700, 1500, 5000}) check_gate_up(12, 288, 288, tokens);
  check_gate_up(32, 416, 2880, 128);
  check_gate_up(3, 576, 2880, 700);
  for (const WeightType kind : {WeightType::q8_0, WeightType::mxfp4, WeightType::bf16})
    for (const int tokens : {9, 32, 128, 200, 321}) check_parts(kind, 2880, tokens);
  check_gemm(WeightType::q8_0, 1, 67600, 288, 21, RowOrder::natural, false);
  check_gemm(WeightType::bf16, 1, 67600, 96, 32, RowOrder::natural, false);
  check_norm(1, 32, 2880, false);
  check_norm(130, 33, 2880, true);
  check_norm(301, 128, 2880, true);
  check_norm(17, 12, 288, false);
  check_layer(full, WeightType::q8_0, 8);
  for (const int context : {1, 31, 32, 33, 128, 129, 160, 256, 257, 1000, 5000})
    for (const int window : {0, 128}) check_attend(2, context, window, true, context % 2, 8);
  for (const int context : {40, 64, 100, 129, 640, 3000})
    for (const int window : {0, 128})
      check_attend(2, context, window, true, context % 4 == 0, 8, 37);
  check_attend(1, 300, 0, false, true, 8, 16);
  check_attend(1, 300, 0, false, true, 8);
  check_attend(8, 2000, 0, true, true, 16);
  check_attend(8, 2000, 1000, false, false, 16);
  std::printf("%d failed\n", failures);
  if (failures) std::printf("seed %u\n", random_seed());
  return failures != 0;
}

}  // namespace
}  // namespace mxgpt::cuda::sm90

int main(int count, char** arguments) {
  using namespace mxgpt::cuda::sm90;
  if (count > 1) random_seed() = static_cast<unsigned>(std::strtoul(arguments[1], nullptr, 10));
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0 || !is_supported_here()) {
    std::printf(
        "NOT TESTED: needs a GPU of compute capability 9.0; with one: bench/cuda/check.sh\n");
    return 77;
  }
  return run();
}
