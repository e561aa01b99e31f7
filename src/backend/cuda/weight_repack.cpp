#include "backend/cuda/weight_repack.h"

#include "backend/cuda/sm90/pack.h"

namespace mxgpt::cuda {

using sm90::WeightType;

DeviceCaps device_caps() {
  if (!unavailable_reason().empty())
    return {
        .is_local = false, .has_sm90 = true, .num_sms = 132, .context_bytes = kDefaultContextBytes};
  const DeviceInfo info = device_info();
  return {.is_local = true,
          .has_sm90 = supports_sm90(),
          .num_sms = info.num_sms,
          .context_bytes = info.context_bytes};
}

cuda::sm90::WeightType weight_type(quant::Format format) {
  return format == quant::Format::q8_0    ? WeightType::q8_0
         : format == quant::Format::mxfp4 ? WeightType::mxfp4
                                          : WeightType::bf16;
}

bool can_repack(quant::Format format) {
  return format == quant::Format::q8_0 || format == quant::Format::mxfp4 ||
         format == quant::Format::bf16;
}

int64_t repacked_bytes(const backend::Tensor& t) {
  return static_cast<int64_t>(sm90::packed_bytes(weight_type(t.format), t.num_experts,
                                                 static_cast<int>(t.rows), static_cast<int>(t.k)));
}

}  // namespace mxgpt::cuda
