#include <dlfcn.h>

#include <algorithm>
#include <chrono>

#include "backend/cuda/device.h"
#include "backend/cuda/error.cuh"
#include "backend/cuda/profile.h"

namespace mxgpt::cuda {

namespace {

/// Bytes of device memory used by all processes, from NVML, which needs no context; -1 if unknown.
int64_t used_by_all() {
  struct Usage {
    unsigned long long total, free, used;
  };
  void* library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return -1;
  const auto init = reinterpret_cast<int (*)()>(::dlsym(library, "nvmlInit_v2"));
  const auto by_index = reinterpret_cast<int (*)(unsigned, void**)>(
      ::dlsym(library, "nvmlDeviceGetHandleByIndex_v2"));
  const auto memory =
      reinterpret_cast<int (*)(void*, Usage*)>(::dlsym(library, "nvmlDeviceGetMemoryInfo"));
  void* device = nullptr;
  Usage usage{};
  const bool known = init && by_index && memory && init() == 0 && by_index(0, &device) == 0 &&
                     memory(device, &usage) == 0;
  return known ? static_cast<int64_t>(usage.used) : -1;
}

struct Context {
  std::string unavailable_reason;
  int64_t bytes = 0;
};

/// Created on first use.
const Context& context() {
  static const Context made = [] {
    Context c;
    int count = 0;
    if (const cudaError_t result = cudaGetDeviceCount(&count); result != cudaSuccess || !count) {
      c.unavailable_reason = result == cudaSuccess ? "there is none" : cudaGetErrorString(result);
      return c;
    }
    const int64_t before = used_by_all();
    if (const cudaError_t result = cudaFree(nullptr); result != cudaSuccess) {
      c.unavailable_reason = cudaGetErrorString(result);
      return c;
    }
    const int64_t after = used_by_all();
    c.bytes = before >= 0 && after >= before ? after - before : kDefaultContextBytes;
    return c;
  }();
  return made;
}

}  // namespace

std::string unavailable_reason() {
  return context().unavailable_reason;
}

DeviceInfo device_info() {
  if (!context().unavailable_reason.empty()) {
    throw Error(field::kDevice, "no GPU can be used: " + context().unavailable_reason,
                "check that nvidia-smi lists one, or use the CPU device");
  }
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "reading device properties");
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "allocating device memory");
  int runtime = 0;
  check(cudaRuntimeGetVersion(&runtime), "reading the CUDA version");
  return {.name = properties.name,
          .major = properties.major,
          .minor = properties.minor,
          .num_sms = properties.multiProcessorCount,
          .total = static_cast<int64_t>(total),
          .free = static_cast<int64_t>(free),
          .runtime_version = runtime,
          .context_bytes = context().bytes};
}

Memory::Memory(Kind kind, int64_t bytes) : kind_(kind), bytes_(std::max<int64_t>(bytes, 1)) {
  void* data = nullptr;
  if (kind == Kind::device)
    check(cudaMalloc(&data, bytes_), "allocating device memory");
  else
    check(cudaHostAlloc(&data, bytes_, cudaHostAllocDefault), "allocating pinned host memory");
  data_ = static_cast<std::byte*>(data);
  note_memory(kind_ == Kind::device ? "device" : "pinned", bytes_);
}

Memory::~Memory() {
  if (kind_ == Kind::device)
    cudaFree(data_);
  else
    cudaFreeHost(data_);
  note_memory(kind_ == Kind::device ? "device" : "pinned", -bytes_);
}

Stream::Stream() {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
}

Stream::~Stream() {
  cudaStreamDestroy(stream_);
}

void Stream::copy(void* to, const void* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_), "a copy");
}

void Stream::zero(void* device, int64_t bytes) {
  check(cudaMemsetAsync(device, 0, bytes, stream_), "clearing memory");
}

void Stream::synchronize() {
  check(cudaGetLastError(), "a kernel launch");
  check(cudaStreamSynchronize(stream_), "GPU work");
}

Graph::Graph(Stream& stream, const std::function<void()>& work) {
  struct Recorded {
    cudaGraph_t graph = nullptr;
    ~Recorded() {
      if (graph) cudaGraphDestroy(graph);
    }
  } recorded;
  check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), "graph capture");
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream.get(), &recorded.graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream.get(), &recorded.graph), "graph capture");
  check(cudaGetLastError(), "a kernel launch");
  check(cudaGraphInstantiate(&exec_, recorded.graph, 0), "a graph launch");
}

Graph::~Graph() {
  cudaGraphExecDestroy(exec_);
}

void Graph::launch(Stream& stream) {
  check(cudaGraphLaunch(exec_, stream.get()), "a graph launch");
}

double copy_bandwidth() {
  constexpr int64_t kBytes = int64_t{1} << 30;
  constexpr int kCopies = 16;
  const Memory memory(Memory::Kind::device, 2 * kBytes);
  Stream stream;
  double best = 0;
  for (int i = 0; i < 4; ++i) {
    const auto start = std::chrono::steady_clock::now();
    for (int copy = 0; copy < kCopies; ++copy)
      stream.copy(memory.data() + kBytes, memory.data(), kBytes);
    stream.synchronize();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * kCopies * kBytes / took.count());
  }
  return best;
}

Event::Event() {
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "an event");
}

Event::~Event() {
  cudaEventDestroy(event_);
}

void Event::record(Stream& stream) {
  check(cudaEventRecord(event_, stream.get()), "an event");
}

void Event::synchronize() {
  check(cudaEventSynchronize(event_), "GPU work");
}

}  // namespace mxgpt::cuda
