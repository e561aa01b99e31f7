// Models of a real shape with random weights, for work on speed and memory: the tensors that the
// loader knows, in the formats of a recipe, with numbers of sensible size.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/architecture.h"
#include "model/convert.h"
#include "model/quant_recipe.h"

namespace mxgpt::model {

struct SyntheticShape {
  std::string_view name;    ///< "gpt-oss-20b"
  std::string_view config;  ///< as in the config.json of the released checkpoint
};

std::span<const SyntheticShape> synthetic_shapes();
/// Null if there is none of that name.
const SyntheticShape* find_synthetic_shape(std::string_view name);

struct SyntheticModel {
  const Architecture* architecture;
  Config config;
  std::vector<PlannedTensor> tensors;
};

/// A model by its config.json, in the formats of `recipe`, or if that is null in MXFP4 experts and
/// Q8_0, with `layers` layers, or if that is 0 as many as it has. Throws Error for a configuration
/// that makes no sense, or whose architecture mxgpt does not know.
SyntheticModel plan_synthetic_model(json::value config, const std::string& where,
                                    const Recipe* recipe, int64_t layers);

/// Declares the tensors and writes them, on all cores; the same seed gives the same file. A row's
/// weights are drawn, in pieces, from a few thousand pieces of normally distributed numbers that
/// were quantized before: as fast as memory, whatever the format. `progress` is called with the
/// number of bytes just written.
void write_synthetic_model(const SyntheticModel& model, uint64_t seed, io::GgufWriter& out,
                           const std::function<void(uint64_t)>& progress);

}  // namespace mxgpt::model
