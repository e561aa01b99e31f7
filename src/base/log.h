// Log lines on standard error: time, level, message. Standard output carries results.
#pragma once

#include <fmt/core.h>

namespace mxgpt::log {

/// Called once, before the first line: without it lines go to standard output.
void use_standard_error();

enum class Level { info, warning, error };

void write(Level level, fmt::string_view format, fmt::format_args arguments);

template <class... Arguments>
void info(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  write(Level::info, format, fmt::make_format_args(arguments...));
}
template <class... Arguments>
void warn(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  write(Level::warning, format, fmt::make_format_args(arguments...));
}
template <class... Arguments>
void error(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  write(Level::error, format, fmt::make_format_args(arguments...));
}

}  // namespace mxgpt::log
