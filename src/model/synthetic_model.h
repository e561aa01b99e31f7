// Models with real shapes and random weights, to measure speed and memory.
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
  std::string_view config;  ///< config.json of the released checkpoint
};

std::span<const SyntheticShape> synthetic_shapes();
/// Finds a shape by name; null if there is none.
const SyntheticShape* find_synthetic_shape(std::string_view name);

struct SyntheticModel {
  const Architecture* architecture;
  Config config;
  std::vector<PlannedTensor> tensors;
};

/// Plans a model from its config.json. `recipe` null: mxfp4-moe. `layers` 0: as in the config.
/// Throws Error if the configuration is invalid or the architecture unknown.
SyntheticModel plan_synthetic_model(json::value config, const std::string& where,
                                    const quant::Recipe* recipe, int64_t layers);

/// Declares and writes the tensors, on all cores; equal seeds give equal files. Rows are assembled
/// from a few thousand quantized segments of normally distributed numbers, so writing runs at
/// memory speed for any format. Calls `progress` with the number of bytes just written.
void write_synthetic_model(const SyntheticModel& model, uint64_t seed, io::GgufWriter& out,
                           const std::function<void(uint64_t)>& progress);

}  // namespace mxgpt::model
