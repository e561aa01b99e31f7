// What a build without CUDA has in the backend's place.
#include "backend/cuda/draw.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/layouts.h"
#include "backend/cuda/profile.h"
#include "backend/cuda/uploader.h"
#include "base/error.h"

namespace mxgpt::cuda {

namespace {

[[noreturn]] void refuse() {
  throw Error("--device cuda", missing(),
              "install CUDA 12.4 or newer, so that nvcc is found, and build again "
              "(scripts/run.sh --cuda), or take --device cpu");
}

}  // namespace

std::string missing() {
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
Timed::Timed(const char*, DeviceStream stream) : stream_(stream), active_(false) {}
Timed::~Timed() = default;
void read_profile_clocks() {}

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
void Stream::wait() {}

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
void Event::wait() {}

Uploader::Uploader(int64_t chunk) : chunk_(chunk), pinned_(Memory::Kind::pinned, 0) {}
Uploader::~Uploader() = default;
void Uploader::copy(std::span<const std::byte>, std::byte*) {}
void Uploader::finish() {}

struct Backend::Host {};
Backend::Backend(const Limits& limits, Room& room, Accumulate, bool)
    : own_(limits, room, target(), false) {
  refuse();
}
Backend::~Backend() = default;
const Shape& Backend::place(const Batch&) {
  refuse();
}
void Backend::begin(const Batch&) {}
void Backend::embed(const Embed&) {}
void Backend::rotations(const Rotations&) {}
void Backend::norm_qkv_rope_store(const NormQkvRopeStore&) {}
void Backend::attend(const Attend&) {}
void Backend::project_residual(const ProjectResidual&) {}
void Backend::norm_mlp_residual(const NormMlpResidual&) {}
void Backend::norm_route_experts_residual(const NormRouteExpertsResidual&) {}
void Backend::norm_logits(const NormLogits&) {}
Stream& Backend::stream() {
  refuse();
}

bool has_fast_kernels() {
  return false;
}
void make_tiles(const Tensor&, const std::byte*, DeviceStream) {}

void draw(const Draw&, DeviceStream) {}
void norm_rows(const NormRows&, DeviceStream) {}
void angles(const Angles&, DeviceStream) {}
void finish_heads(const FinishHeads&, DeviceStream) {}
void attend_rows(const AttendRows&, int64_t, DeviceStream) {}
void activate(const Activation&, float*, const float*, int64_t, DeviceStream) {}

}  // namespace mxgpt::cuda

namespace mxgpt {

const DeviceKernels& device_kernels(Format) {
  cuda::refuse();
}

}  // namespace mxgpt
