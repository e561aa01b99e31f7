#include "model/weight_loader.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "model/repack.h"
#include "model/weight_io.h"

namespace mxgpt::model {

namespace {

/// Memory that a HostTensor owns; operator new aligns it for every block type.
struct OwnedBytes {
  std::shared_ptr<std::byte[]> data;
  size_t size;
  explicit OwnedBytes(size_t bytes) : data(new std::byte[bytes]), size(bytes) {}
  HostTensor tensor(quant::Format format, std::vector<int64_t> shape) const {
    return {format, std::move(shape), {data.get(), size}, data};
  }
};

int64_t element_count(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

/// Files may store tensors at any offset; kernels require the alignment of their blocks.
bool is_aligned(std::span<const std::byte> bytes) {
  return reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) == 0;
}

HostTensor ensure_aligned(HostTensor tensor) {
  if (is_aligned(tensor.bytes)) return tensor;
  const OwnedBytes copy(tensor.bytes.size());
  std::memcpy(copy.data.get(), tensor.bytes.data(), tensor.bytes.size());
  return copy.tensor(tensor.format, tensor.shape);
}

HostTensor to_f32(const HostTensor& tensor) {
  if (tensor.format == quant::Format::f32) return tensor;
  const int64_t elements = element_count(tensor.shape);
  const OwnedBytes copy(elements * sizeof(float));
  quant::traits(tensor.format)
      .dequantize(tensor.bytes.data(), elements, reinterpret_cast<float*>(copy.data.get()));
  return copy.tensor(quant::Format::f32, tensor.shape);
}

bool is_view(const ModelFile& file, const TensorRef& tensor, const ModelFile::Source& source) {
  return file.is_stored_as_is(tensor) && is_aligned(source.data->bytes);
}

/// Repacks a tensor of a checkpoint.
HostTensor repack_tensor(const ModelFile& file, const TensorRef& tensor,
                         const ModelFile::Source& source) {
  const Config& config = file.config();
  const TensorSpec& spec = *tensor.spec;
  const std::vector<int64_t> shape = spec.shape(config);
  const std::span<const std::byte> bytes = source.data->bytes;
  const FileLayout& layout = spec.layout;
  const quant::FormatTraits& format = quant::traits(source.format);
  const size_t size = format.block_bytes;
  const int64_t rows = dim(config, spec.rows), k = dim(config, spec.k);
  const int64_t elements = element_count(shape);
  const auto copy = [&](const auto& fill) {
    const OwnedBytes buffer(elements / format.block_elements * format.block_bytes);
    fill(buffer.data.get());
    return buffer.tensor(source.format, shape);
  };
  repack::StridedRows layout_rows{.num_experts = dim(config, spec.num_experts),
                                  .rows = rows,
                                  .k = k,
                                  .start = layout.row_start,
                                  .stride = layout.row_stride};
  if (source.scales) {
    return copy(
        [&](std::byte* out) { repack::mxfp4(bytes, source.scales->bytes, layout_rows, out); });
  }
  if (layout.stacked_experts || layout.transposed)
    return copy([&](std::byte* out) { repack::transpose(bytes, layout_rows, size, out); });
  if (layout.row_stride != 1) {
    // A bias with alternating rows: each element of the vector is a row.
    layout_rows.rows *= layout_rows.k;
    layout_rows.k = 1;
    return copy([&](std::byte* out) { repack::select_rows(bytes, layout_rows, size, out); });
  }
  if (layout.permute_rope) {
    const size_t row_bytes = (rows == 1 ? 1 : k) * size;
    const int64_t heads =
        elements * static_cast<int64_t>(size) / (config.head_dim * static_cast<int64_t>(row_bytes));
    return copy([&](std::byte* out) {
      repack::interleave_rope_pairs(bytes, heads, config.head_dim, row_bytes, out);
    });
  }
  HostTensor stored = ensure_aligned({source.format, shape, bytes, nullptr});
  if (!layout.plus_one) return stored;
  const OwnedBytes sums(elements * sizeof(float));
  auto* values = reinterpret_cast<float*>(sums.data.get());
  format.dequantize(stored.bytes.data(), elements, values);
  for (int64_t i = 0; i < elements; ++i) values[i] += 1;
  return sums.tensor(quant::Format::f32, shape);
}

}  // namespace

HostTensor read_tensor(const ModelFile& file, const TensorRef& tensor) {
  const std::vector<int64_t> shape = tensor.spec->shape(file.config());
  if (file.is_derived_from_config(tensor)) {
    const std::vector<float>& factors = file.config().rope_for(backend::KvGroup::full).freq_factors;
    return {quant::Format::f32, shape, std::as_bytes(std::span(factors)), nullptr};
  }
  const ModelFile::Source source = file.source(tensor);
  HostTensor stored{source.format, shape, source.data->bytes, nullptr};
  if (is_view(file, tensor, source)) return stored;
  return file.is_stored_as_is(tensor) ? ensure_aligned(std::move(stored))
                                      : repack_tensor(file, tensor, source);
}

HostTensor load_tensor(const ModelFile& file, const TensorRef& tensor) {
  HostTensor stored = read_tensor(file, tensor);
  return tensor.spec->role == Role::vector ? to_f32(stored) : stored;
}

HostTensorInfo host_tensor_info(const ModelFile& file, const TensorRef& tensor,
                                const LoadOptions& options) {
  const TensorSpec& spec = *tensor.spec;
  const quant::Format stored = file.stored_format(tensor);
  const quant::Format format = spec.role == Role::vector ? quant::Format::f32 : stored;
  const int64_t elements = element_count(spec.shape(file.config()));
  const auto bytes = static_cast<size_t>(quant::traits(format).row_bytes(elements));
  const bool view =
      !file.is_derived_from_config(tensor) && is_view(file, tensor, file.source(tensor));
  return {format, bytes, view && format == stored && options.use_mmap};
}

HostWeights::HostWeights(const ModelFile& file, const LoadOptions& options) {
  constexpr size_t kLargeBytes = 1 << 20;
  const std::vector<TensorRef> refs = file.tensors();
  for (const TensorRef& ref : refs) {
    HostTensor host = load_tensor(file, ref);
    // Once a large tensor is copied, its file pages need not stay resident too.
    if (host.owner && host.bytes.size() >= kLargeBytes) file.release_pages(ref);
    tensors_.push_back(std::move(host));
  }
  const auto file_containing = [&](std::span<const std::byte> bytes) {
    return file.file_containing(bytes);
  };
  if (!options.use_mmap) {
    std::vector<HostTensor*> views;
    for (HostTensor& host : tensors_) {
      if (!host.owner && file_containing(host.bytes)) views.push_back(&host);
    }
    read_into_memory(views, file_containing);
  }
  if (options.use_mlock) lock_in_memory(tensors_);

  const Config& config = file.config();
  weights_.layers.resize(config.layers);
  for (size_t i = 0; i < refs.size(); ++i) {
    const TensorSpec& spec = *refs[i].spec;
    refs[i].get(weights_) = {.format = tensors_[i].format,
                             .data = tensors_[i].bytes.data(),
                             .num_experts = dim(config, spec.num_experts),
                             .rows = dim(config, spec.rows),
                             .k = dim(config, spec.k)};
  }
}

}  // namespace mxgpt::model
