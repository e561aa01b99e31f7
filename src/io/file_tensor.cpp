#include "io/file_tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::io {

std::string format_shape(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

FileTensors::FileTensors(std::vector<FileTensor> tensors, std::string where)
    : tensors_(std::move(tensors)), by_name_(tensors_.size()), where_(std::move(where)) {
  const auto name = [&](uint32_t i) -> std::string_view { return tensors_[i].name; };
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::sort(by_name_.begin(), by_name_.end(),
            [&](uint32_t a, uint32_t b) { return name(a) < name(b); });
  const auto duplicate = std::adjacent_find(
      by_name_.begin(), by_name_.end(), [&](uint32_t a, uint32_t b) { return name(a) == name(b); });
  if (duplicate != by_name_.end()) {
    throw Error(where_,
                fmt::format("two tensors are named '{}'", escape_for_terminal(name(*duplicate))));
  }
}

const FileTensor* FileTensors::find(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [&](uint32_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
  if (found == by_name_.end() || tensors_[*found].name != name) return nullptr;
  return &tensors_[*found];
}

const FileTensor& FileTensors::at(std::string_view name) const {
  const FileTensor* found = find(name);
  if (!found) throw Error(where_, fmt::format("the tensor '{}' is missing", name));
  return *found;
}

}  // namespace mxgpt::io
