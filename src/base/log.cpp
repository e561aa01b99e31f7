#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace mxgpt::log {

void use_standard_error() {
  spdlog::set_default_logger(spdlog::stderr_color_mt("mxgpt"));
}

void write(Level level, fmt::string_view format, fmt::format_args arguments) {
  spdlog::logger* const logger = spdlog::default_logger_raw();
  const auto severity = level == Level::info      ? spdlog::level::info
                        : level == Level::warning ? spdlog::level::warn
                                                  : spdlog::level::err;
  if (!logger->should_log(severity)) return;
  const std::string text = fmt::vformat(format, arguments);
  logger->log(severity, spdlog::string_view_t(text));
}

}  // namespace mxgpt::log
