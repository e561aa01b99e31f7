// SVG plots of a report.
#pragma once

#include <string>

#include "eval/report.h"

namespace mxgpt::eval {

/// Confidence interval of the ln perplexity ratio, with its bound.
std::string ratio_plot(const Report& report);
std::string kld_plot(const Report& report);
std::string calibration_plot(const Report& report);
std::string layer_plot(const Report& report);
/// Empty for dense models.
std::string routing_plot(const Report& report);
std::string weight_plot(const Report& report);

}  // namespace mxgpt::eval
