// Replaces the CUDA backend in builds without CUDA: memory is planned, everything else throws.
#include "backend/cuda/backend.h"
#include "backend/cuda/generic/kernels.h"
#include "backend/cuda/generic/sampling.h"
#include "backend/cuda/host_kernels.h"
#include "backend/cuda/host_to_device_copier.h"
#include "backend/cuda/profile.h"
#include "backend/cuda/weight_repack.h"
#include "base/error.h"

namespace mxgpt::cuda {

namespace {

[[noreturn]] void refuse() {
  throw Error(field::kDevice, unavailable_reason(),
              "install CUDA 12.4 or newer and rebuild with scripts/run.sh --cuda, or use the CPU "
              "device");
}

}  // namespace

std::string unavailable_reason() {
  return "this mxgpt was built without CUDA";
}
DeviceInfo device_info() {
  refuse();
}

double copy_bandwidth() {
  refuse();
}
std::vector<backend::KernelSet> kernel_sets() {
  refuse();
}
backend::OpRunner op_runner() {
  refuse();
}

void start_profile() {
  refuse();
}
bool is_profiling() {
  return false;
}
std::string profile_report() {
  return {};
}
ScopedTimer::ScopedTimer(const char*, CudaStream stream) : stream_(stream), active_(false) {}
ScopedTimer::~ScopedTimer() = default;
void collect_timings() {}

Memory::Memory(Kind kind, int64_t bytes) : kind_(kind), bytes_(bytes) {
  refuse();
}
Memory::~Memory() = default;

Stream::Stream() {
  refuse();
}
Stream::~Stream() = default;
void Stream::copy(void*, const void*, int64_t) {}
void Stream::zero(void*, int64_t) {}
void Stream::synchronize() {}

Graph::Graph(Stream&, const std::function<void()>&) {
  refuse();
}
Graph::~Graph() = default;
void Graph::launch(Stream&) {}

Event::Event() {
  refuse();
}
Event::~Event() = default;
void Event::record(Stream&) {}
void Event::synchronize() {}

HostToDeviceCopier::HostToDeviceCopier(int64_t chunk)
    : chunk_(chunk), pinned_(Memory::Kind::pinned, 0) {}
HostToDeviceCopier::~HostToDeviceCopier() = default;
void HostToDeviceCopier::copy(std::span<const std::byte>, std::byte*) {}
void HostToDeviceCopier::synchronize() {}

std::unique_ptr<CudaBackend> create_backend(const BackendSpec&, DeviceArena&) {
  refuse();
}
std::unique_ptr<CudaBackend> create_generic_backend(const backend::MaxShapes&, DeviceArena&,
                                                    kernels::AccumType) {
  refuse();
}
void Step::upload() {}

bool supports_sm90() {
  return false;
}
void repack(const backend::Tensor&, const std::byte*, CudaStream) {}

void sample(const SampleArgs&, CudaStream) {}
void norm_rows(const NormRows&, CudaStream) {}
void compute_rope_cos_sin(const RopeCosSinParams&, CudaStream) {}
void qk_norm_rope_store_kv(const QkNormRopeStoreKv&, CudaStream) {}
void paged_attention(const PagedAttention&, int64_t, CudaStream) {}
void activate(const backend::Activation&, float*, const float*, int64_t, CudaStream) {}

const FormatKernels& format_kernels(quant::Format) {
  refuse();
}

}  // namespace mxgpt::cuda
