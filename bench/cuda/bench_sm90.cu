// Times the sm90 kernels on the shape of gpt-oss-20b with random weights: each kernel alone, then
// whole decode steps in CUDA graphs.
//   nvcc -O3 -std=c++20 --expt-relaxed-constexpr -gencode=arch=compute_90a,code=sm_90a -Isrc
//   -Itests
//        bench/cuda/bench_sm90.cu src/backend/cuda/sm90/*.cu -o bench_sm90
#include <algorithm>
#include <functional>
#include <string>

#include "backend/cuda/random_weights.h"
#include "backend/cuda/sm90/decode.h"
#include "backend/cuda/sm90/gemm.h"

namespace mxgpt::cuda::sm90 {
namespace {

constexpr int kHidden = 2880, kLayers = 24, kHeads = 64, kKvHeads = 8, kExperts = 32, kInner = 2880,
              kVocabulary = 201088, kWindow = 128, kEmbeddings = 64;

__device__ uint32_t hash(uint64_t i) {
  i = (i ^ (i >> 31)) * 0x9e3779b97f4a7c15ull;
  i = (i ^ (i >> 29)) * 0xbf58476d1ce4e5b9ull;
  return static_cast<uint32_t>(i >> 32);
}

__global__ void fill_blocks(WeightType kind, uint8_t* out, int64_t bytes, uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < bytes;
       i += int64_t{gridDim.x} * blockDim.x) {
    const uint32_t h = hash(seed * 0x100000000ull + i);
    uint8_t v = static_cast<uint8_t>(h);
    if (kind == WeightType::mxfp4 && i % 17 == 0) v = 118 + h % 3;
    if (kind == WeightType::q8_0 && i % 34 == 1) v = 0x0c;  // a scale of about 2.5e-4
    if (kind == WeightType::bf16 && i % 2 == 1) v = (h & 0x80) | 0x3c;
    out[i] = v;
  }
}
__global__ void fill_floats(float* out, int64_t n, uint64_t seed, float scale, float mean) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * blockDim.x)
    out[i] = mean + scale * (static_cast<int32_t>(hash(seed * 0x100000000ull + i)) / 2147483648.f);
}
/// The next token's embedding.
__global__ void embed(const float* table, int32_t* step, float* x) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const int token = *step % kEmbeddings;
  if (i < kHidden) x[i] = table[token * kHidden + i];
}
__global__ void count(int32_t* step) {
  ++*step;
}

uint64_t next_seed = 1;
uint8_t* staging;
cudaStream_t stream;

cuda::sm90::PackedWeight random_matrix(WeightType kind, int64_t slices, int rows, int k,
                                       cuda::sm90::RowOrder order = cuda::sm90::RowOrder::natural) {
  const int64_t n = slices * rows * k;
  const int64_t bytes = kind == WeightType::q8_0    ? n / 32 * 34
                        : kind == WeightType::mxfp4 ? n / 32 * 17
                                                    : n * 2;
  fill_blocks<<<1024, 256, 0, stream>>>(kind, staging, bytes, next_seed++);
  uint8_t* const data = device_array<uint8_t>(packed_bytes(kind, slices, rows, k));
  pack({kind, order, slices, rows, k, reinterpret_cast<const std::byte*>(staging), data}, stream);
  return {data, kind, rows, k};
}
float* random_vector(int64_t n, float scale, float mean = 0) {
  float* const p = device_array<float>(n);
  fill_floats<<<256, 256, 0, stream>>>(p, n, next_seed++, scale, mean);
  return p;
}

struct Layer {
  cuda::sm90::Qkv qkv;
  AttentionArgs attn_decode;
  cuda::sm90::OProj o_proj;
  GateUp gate_up;
  cuda::sm90::Down down;
};

/// Microseconds of one replay, the median of several.
double time_graph(const std::function<void()>& enqueue, int replays = 20) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  enqueue();
  CUDA(cudaStreamEndCapture(stream, &graph));
  CUDA(cudaGraphInstantiate(&executable, graph));
  cudaEvent_t begin, end;
  CUDA(cudaEventCreate(&begin));
  CUDA(cudaEventCreate(&end));
  for (int i = 0; i < 3; ++i) CUDA(cudaGraphLaunch(executable, stream));
  std::vector<double> times;
  for (int i = 0; i < replays; ++i) {
    CUDA(cudaEventRecord(begin, stream));
    CUDA(cudaGraphLaunch(executable, stream));
    CUDA(cudaEventRecord(end, stream));
    CUDA(cudaStreamSynchronize(stream));
    float ms = 0;
    CUDA(cudaEventElapsedTime(&ms, begin, end));
    times.push_back(ms * 1e3);
  }
  CUDA(cudaGetLastError());
  std::sort(times.begin(), times.end());
  CUDA(cudaGraphExecDestroy(executable));
  CUDA(cudaGraphDestroy(graph));
  return times[times.size() / 2];
}

void print(const char* name, double microseconds, int kernels, double bytes) {
  std::printf("%-34s %9.2f us each %8.1f us a step  %6.0f GB/s\n", name, microseconds / kernels,
              microseconds, bytes / microseconds * 1e-3);
}

/// TFLOP/s of one linear layer over `tokens` tokens that are spread evenly over slices.
void time_gemm(const char* name, const cuda::sm90::PackedWeight& weight, int slices, int tokens) {
  const int columns = gemm_columns(weight.kind, weight.k);
  float* const x = random_vector(int64_t{tokens} * weight.k, 1);
  uint16_t* const rounded = device_array<uint16_t>(int64_t{tokens} * columns);
  const bool permuted = use_wgmma(tokens, slices);
  round_to_bf16({x, tokens, weight.k, columns, rounded, permuted}, stream);
  std::vector<int32_t> begin(slices + 1), rows(tokens);
  for (int i = 0; i <= slices; ++i) begin[i] = static_cast<int32_t>(int64_t{tokens} * i / slices);
  for (int i = 0; i < tokens; ++i) rows[i] = (i * 7919ll) % tokens;
  float* const out = device_array<float>(int64_t{tokens} * weight.rows);
  const cuda::sm90::Gemm g{.x = rounded,
                           .weight = weight,
                           .bias = nullptr,
                           .slices = slices,
                           .tokens = tokens,
                           .begin = slices > 1 ? to_device(begin) : nullptr,
                           .x_rows = slices > 1 ? to_device(rows) : nullptr,
                           .out = out,
                           .permuted = permuted};
  const double us = time_graph([&] { gemm(g, stream); }, 10);
  const double flop = 2.0 * tokens * weight.rows * weight.k;
  std::printf("gemm %-12s %6d tokens %9.1f us  %6.1f TFLOP/s  %6.0f GB/s of weights\n", name,
              tokens, us, flop / us * 1e-6, slices * weight.slice_bytes() / us * 1e-3);
  CUDA(cudaFree(x));
  CUDA(cudaFree(rounded));
  CUDA(cudaFree(out));
}

/// The experts of a few rows that each choose for themselves.
void time_expert_rows(const GateUp& g, const cuda::sm90::Down& d, int rows) {
  const cuda::sm90::MoeSmallBatch all{
      .x = random_vector(int64_t{rows} * kHidden, 1),
      .rows = rows,
      .router = g.router,
      .router_parts = random_vector(router_part_floats(rows, kExperts, router_parts()), 0.1f),
      .gate = g.gate,
      .up = g.up,
      .down = d.down,
      .gate_bias = g.gate_bias,
      .up_bias = g.up_bias,
      .down_bias = d.bias,
      .swiglu = g.swiglu,
      .scratch = {.chosen = device_array<cuda::sm90::TopKResult>(rows),
                  .normed = device_array<uint8_t>(normed_bytes(rows, kHidden)),
                  .activated = device_array<uint8_t>(rows * activated_bytes(kInner)),
                  .outs = device_array<float>(int64_t{4} * rows * kHidden)}};
  CUDA(cudaMemset(all.scratch.activated, 0, rows * activated_bytes(kInner)));
  const double us = time_graph([&] { moe_small_batch(all, stream); }, 20);
  const std::vector<cuda::sm90::TopKResult> chosen = to_host(all.scratch.chosen, rows);
  bool of[kExperts] = {};
  for (const cuda::sm90::TopKResult& c : chosen)
    for (const int e : c.expert) of[e] = true;
  const auto count = std::count(std::begin(of), std::end(of), true);
  std::printf("experts of %d rows: %8.1f us, %2d experts, %6.0f GB/s\n", rows, us,
              static_cast<int>(count),
              static_cast<double>(count) * 3 * g.gate.slice_bytes() / us * 1e-3);
}

/// gate and up of all tokens' experts.
void time_gate_up(const GateUp& g, int tokens) {
  const int columns = gemm_columns(WeightType::mxfp4, kHidden), pairs = 4 * tokens;
  float* const x = random_vector(int64_t{tokens} * kHidden, 1);
  uint16_t* const rounded = device_array<uint16_t>(int64_t{tokens} * columns);
  const bool permuted = use_wgmma(pairs, kExperts);
  round_to_bf16({x, tokens, kHidden, columns, rounded, permuted}, stream);
  std::vector<int32_t> begin(kExperts + 1), rows(pairs);
  for (int i = 0; i <= kExperts; ++i)
    begin[i] = static_cast<int32_t>(int64_t{pairs} * i / kExperts);
  for (int i = 0; i < pairs; ++i) rows[i] = static_cast<int32_t>(i * 7919ll % tokens);
  const cuda::sm90::Gemm all{
      .x = rounded,
      .weight = g.gate,
      .bias = g.gate_bias,
      .slices = kExperts,
      .tokens = pairs,
      .begin = to_device(begin),
      .x_rows = to_device(rows),
      .up = g.up,
      .up_bias = g.up_bias,
      .swiglu = g.swiglu,
      .activated = device_array<uint16_t>(int64_t{pairs} * gemm_columns(WeightType::mxfp4, kInner)),
      .permuted = permuted};
  const double us = time_graph([&] { gemm(all, stream); }, 10);
  const double flop = 4.0 * pairs * kInner * kHidden;
  std::printf("gemm gate and up  %6d tokens %9.1f us  %6.1f TFLOP/s  %6.0f GB/s of weights\n",
              pairs, us, flop / us * 1e-6, 2.0 * kExperts * g.gate.slice_bytes() / us * 1e-3);
  CUDA(cudaFree(x));
  CUDA(cudaFree(rounded));
  CUDA(cudaFree(all.activated));
}

int run(WeightType dense, int longest) {
  CUDA(cudaStreamCreate(&stream));
  staging = device_array<uint8_t>(size_t{1300} << 20);
  const int pages = longest / 32 + 2, window_pages = 8;
  float* const x = device_array<float>(kHidden);
  float* const q = device_array<float>(kHeads * 64);
  float* const attended = device_array<float>(kHeads * 64);
  uint8_t* const activated = device_array<uint8_t>(activated_bytes(kInner));
  CUDA(cudaMemset(activated, 0, activated_bytes(kInner)));
  float* const out = device_array<float>(kVocabulary);
  float* const table = random_vector(int64_t{kEmbeddings} * kHidden, 3);
  int32_t* const step = to_device(std::vector<int32_t>{0});
  int32_t* const position = to_device(std::vector<int32_t>{0});
  int32_t* const sequence = to_device(std::vector<int32_t>{0});
  std::vector<int32_t> full(pages), sliding(pages);
  for (int i = 0; i < pages; ++i) full[i] = i, sliding[i] = i % window_pages;
  int32_t* const tables[2] = {to_device(sliding), to_device(full)};
  float* const cos = random_vector(32, 1);
  float* const sin = random_vector(32, 1);
  const int pages_per_split = 8, max_splits = pages / pages_per_split + 1;
  float* const scratch = device_array<float>(attend_scratch_floats(1, kKvHeads, max_splits));
  int32_t* const split_counters = to_device(std::vector<int32_t>(kKvHeads));

  std::vector<Layer> layers(kLayers);
  for (int i = 0; i < kLayers; ++i) {
    const bool slides = i % 2 == 0;
    const int64_t cache = int64_t{slides ? window_pages : pages} * kKvHeads * 32 * 64;
    const auto cache_of = [&] {
      uint8_t* const p = device_array<uint8_t>(cache * 2);
      fill_blocks<<<1024, 256, 0, stream>>>(WeightType::bf16, p, cache * 2, next_seed++);
      return p;
    };
    const cuda::sm90::KvPages kv{cache_of(), cache_of(), true, tables[!slides], pages};
    const cuda::sm90::RowCoords coords{position, sequence};
    float* const parts = random_vector(router_part_floats(1, kExperts, router_parts()), 0.1f);
    const cuda::sm90::Router router{random_vector(kExperts * kHidden, 0.05f),
                                    random_vector(kExperts, 0.1f),
                                    random_vector(kHidden, 0.1f, 1),
                                    1e-5f,
                                    kExperts,
                                    4,
                                    router_parts()};
    layers[i] = {
        .qkv = {.x = x,
                .norm = {random_vector(kHidden, 0.1f, 1), 1e-5f},
                .q = random_matrix(dense, 1, kHeads * 64, kHidden,
                                   cuda::sm90::RowOrder::rope_halves_64),
                .k = random_matrix(dense, 1, kKvHeads * 64, kHidden,
                                   cuda::sm90::RowOrder::rope_halves_64),
                .v = random_matrix(dense, 1, kKvHeads * 64, kHidden),
                .q_bias = random_vector(kHeads * 64, 0.1f),
                .k_bias = random_vector(kKvHeads * 64, 0.1f),
                .v_bias = random_vector(kKvHeads * 64, 0.1f),
                .cos = cos,
                .sin = sin,
                .rows = 1,
                .kv_heads = kKvHeads,
                .coords = coords,
                .kv = kv,
                .q_out = q},
        .attn_decode = {.q = q,
                        .rows = 1,
                        .step_rows = 1,
                        .kv_heads = kKvHeads,
                        .scale = 0.125f,
                        .kv = kv,
                        .coords = coords,
                        .window = slides ? kWindow : 0,
                        .sinks = random_vector(kHeads, 1),
                        .pages_per_split = pages_per_split,
                        .max_splits = max_splits,
                        .scratch = scratch,
                        .split_counters = split_counters,
                        .out = attended},
        .o_proj = {attended, random_matrix(dense, 1, kHidden, kHeads * 64),
                   random_vector(kHidden, 0.1f), x, 1, router, parts},
        .gate_up = {x,
                    router,
                    parts,
                    random_matrix(WeightType::mxfp4, kExperts, kInner, kHidden),
                    random_matrix(WeightType::mxfp4, kExperts, kInner, kHidden),
                    random_vector(kExperts * kInner, 0.1f),
                    random_vector(kExperts * kInner, 0.1f),
                    {1.702f, 7},
                    activated},
        .down = {activated, router, parts,
                 random_matrix(WeightType::mxfp4, kExperts, kHidden, kInner),
                 random_vector(kExperts * kHidden, 0.1f), x},
    };
  }
  const Logits head{x,
                    {random_vector(kHidden, 0.1f, 1), 1e-5f},
                    random_matrix(dense, 1, kVocabulary, kHidden),
                    1,
                    out};
  CUDA(cudaDeviceSynchronize());

  const double qkv_bytes = layers[0].qkv.q.slice_bytes() + 2.0 * layers[0].qkv.k.slice_bytes();
  const double project_bytes = layers[0].o_proj.weight.slice_bytes();
  const double expert_bytes = 4.0 * layers[0].down.down.slice_bytes();
  const double head_bytes = head.head.slice_bytes();
  const auto each = [&](auto&& enqueue) {
    return time_graph([&] {
      for (Layer& layer : layers) enqueue(layer);
    });
  };
  print("qkv", each([](Layer& l) { qkv(l.qkv, stream); }), kLayers, kLayers * qkv_bytes);
  print("o_proj", each([](Layer& l) { o_proj(l.o_proj, stream); }), kLayers,
        kLayers * project_bytes);
  print("gate_up", each([](Layer& l) { gate_up(l.gate_up, stream); }), kLayers,
        kLayers * 2 * expert_bytes);
  print("down (after a small gate_up's wait)", each([](Layer& l) { down(l.down, stream); }),
        kLayers, kLayers * expert_bytes);
  print("logits", time_graph([&] { logits(head, stream); }), 1, head_bytes);
  for (const int rows : {2, 4, 8}) time_expert_rows(layers[3].gate_up, layers[3].down, rows);
  for (const int tokens : {9, 32, 128, 512, 2048, 8192}) {
    time_gate_up(layers[1].gate_up, tokens);
    time_gemm("q", layers[0].qkv.q, 1, tokens);
    time_gemm("o", layers[0].o_proj.weight, 1, tokens);
    time_gemm("expert gate", layers[0].gate_up.gate, kExperts, 4 * tokens);
    time_gemm("expert down", layers[0].down.down, kExperts, 4 * tokens);
  }
  for (const int rows : {512, 2048, 8192}) {
    std::vector<int32_t> consecutive(rows);
    for (int i = 0; i < rows; ++i) consecutive[i] = i;
    AttentionArgs a = layers[1].attn_decode;
    a.rows = a.step_rows = rows;
    a.q = random_vector(int64_t{rows} * kHeads * 64, 1);
    a.out = device_array<float>(int64_t{rows} * kHeads * 64);
    a.coords = {to_device(consecutive), to_device(std::vector<int32_t>(rows))};
    const double full = time_graph([&] { attn_prefill(a, stream); }, 10);
    a.window = kWindow;
    const double sliding = time_graph([&] { attn_prefill(a, stream); }, 10);
    const double flop = 4.0 * kHeads * 64 * rows * (rows + 1) / 2;
    std::printf("attn_prefill %5d: full %8.1f us  %6.1f TFLOP/s, window %8.1f us\n", rows, full,
                flop / full * 1e-6, sliding);
  }
  const auto whole_step = [&] {
    embed<<<(kHidden + 255) / 256, 256, 0, stream>>>(table, step, x);
    for (Layer& l : layers) {
      qkv(l.qkv, stream);
      attn_decode(l.attn_decode, stream);
      o_proj(l.o_proj, stream);
      gate_up(l.gate_up, stream);
      down(l.down, stream);
    }
    logits(head, stream);
    count<<<1, 1, 0, stream>>>(step);
  };
  const double weights = kLayers * (qkv_bytes + project_bytes + 3 * expert_bytes) + head_bytes;
  for (const int context : {1, 512, 8192, 32768}) {
    if (context > longest) break;
    // As a runner would, a graph for each size of context.
    for (Layer& l : layers) l.attn_decode.max_splits = context / 32 / pages_per_split + 1;
    const int32_t at = context - 1;
    CUDA(cudaMemcpy(position, &at, 4, cudaMemcpyHostToDevice));
    const double kv_bytes =
        2.0 * 2 * 64 * kKvHeads * kLayers / 2 * (context + std::min(context, kWindow));
    const std::string name = "attn_decode at " + std::to_string(context);
    print(name.c_str(), each([](Layer& l) { attn_decode(l.attn_decode, stream); }), kLayers,
          kv_bytes);
    const double us = time_graph(whole_step, 60);
    std::printf("decode at context %-6d %8.1f us  %6.1f tok/s  %6.0f GB/s = %.1f%% of 2700\n",
                context, us, 1e6 / us, (weights + kv_bytes) / us * 1e-3,
                (weights + kv_bytes) / us * 1e-3 / 27);
  }
  // The same step twice gives the same bits.
  std::vector<float> first;
  for (int i = 0; i < 2; ++i) {
    CUDA(cudaMemset(step, 0, 4));
    whole_step();
    CUDA(cudaStreamSynchronize(stream));
    CUDA(cudaGetLastError());
    const auto now = to_host(out, kVocabulary);
    bool finite = true;
    for (const float v : now) finite &= std::isfinite(v);
    if (i == 0)
      first = now;
    else
      std::printf("twice the same: %s, finite: %s\n", now == first ? "yes" : "NO",
                  finite ? "yes" : "NO");
  }
  return 0;
}

}  // namespace
}  // namespace mxgpt::cuda::sm90

int main(int argc, char** argv) {
  using namespace mxgpt::cuda::sm90;
  return run(argc > 1 && std::string(argv[1]) == "bf16" ? WeightType::bf16 : WeightType::q8_0,
             32768);
}
