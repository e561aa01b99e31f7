// Prints an answer while it is generated: reasoning dimmed or not at all, content as it is.
#pragma once

#include <string_view>

namespace mxgpt::cli {

class StreamPrinter {
 public:
  explicit StreamPrinter(bool show_reasoning) : show_reasoning_(show_reasoning) {}
  ~StreamPrinter() { finish(); }
  StreamPrinter(const StreamPrinter&) = delete;
  StreamPrinter& operator=(const StreamPrinter&) = delete;

  void reasoning(std::string_view text) {
    if (show_reasoning_) write(text, true);
  }
  void content(std::string_view text) { write(text, false); }
  /// Ends the line, if text was written since the last call.
  void finish();

 private:
  void write(std::string_view text, bool dim);

  bool show_reasoning_;
  bool open_ = false, dim_ = false, ends_line_ = false;
};

}  // namespace mxgpt::cli
