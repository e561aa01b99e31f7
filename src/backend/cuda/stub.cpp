// What a build without CUDA has in the backend's place.
#include "backend/cuda/generic/kernels.h"
#include "backend/cuda/generic/sampling.h"
#include "backend/cuda/host_to_device_copier.h"
#include "backend/cuda/profile.h"
#include "backend/cuda/weight_repack.h"
#include "base/error.h"

namespace mxgpt::cuda {

namespace {

[[noreturn]] void refuse() {
  throw Error("--device cuda", unavailable_reason(),
              "install CUDA 12.4 or newer, so that nvcc is found, and build again "
              "(scripts/run.sh --cuda), or take --device cpu");
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

void start_profile() {
  refuse();
}
bool is_profiling() {
  return false;
}
std::string profile_report() {
  return {};
}
ScopedTimer::ScopedTimer(const char*, backend::CudaStream stream)
    : stream_(stream), active_(false) {}
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

struct GenericBackend::Host {};
GenericBackend::GenericBackend(const MaxShapes& limits, DeviceArena& room, kernels::AccumType, bool)
    : workspace_(limits, room, device_caps(), false) {
  refuse();
}
GenericBackend::~GenericBackend() = default;
const GraphKey& GenericBackend::stage_batch(const backend::Batch&) {
  refuse();
}
void GenericBackend::begin(const backend::Batch&) {}
void GenericBackend::embed(const backend::Embed&) {}
void GenericBackend::rotations(const backend::RopeCosSin&) {}
void GenericBackend::norm_qkv_rope_store(const backend::NormQkvRopeStore&) {}
void GenericBackend::attend(const backend::Attend&) {}
void GenericBackend::project_residual(const backend::ProjectResidual&) {}
void GenericBackend::norm_mlp_residual(const backend::NormMlpResidual&) {}
void GenericBackend::norm_route_experts_residual(const backend::NormRouteExpertsResidual&) {}
void GenericBackend::norm_logits(const backend::NormLogits&) {}
Stream& GenericBackend::stream() {
  refuse();
}

bool supports_sm90() {
  return false;
}
void repack(const backend::Tensor&, const std::byte*, backend::CudaStream) {}

void sample(const SampleArgs&, backend::CudaStream) {}
void norm_rows(const NormRows&, backend::CudaStream) {}
void compute_rope_cos_sin(const RopeCosSinParams&, backend::CudaStream) {}
void qk_norm_rope_store_kv(const QkNormRopeStoreKv&, backend::CudaStream) {}
void paged_attention(const PagedAttention&, int64_t, backend::CudaStream) {}
void activate(const backend::Activation&, float*, const float*, int64_t, backend::CudaStream) {}

}  // namespace mxgpt::cuda

namespace mxgpt::backend {

const FormatKernels& format_kernels(quant::Format) {
  cuda::refuse();
}

}  // namespace mxgpt::backend
