// Prints an answer as its text arrives: reasoning dimmed or not at all, the rest as it is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/stop_strings.h"

namespace mxgpt::cli {

class StreamPrinter {
 public:
  StreamPrinter(bool show_reasoning, std::vector<std::string> stops)
      : show_reasoning_(show_reasoning), stops_(std::move(stops)) {}
  ~StreamPrinter() { end_section(); }
  StreamPrinter(const StreamPrinter&) = delete;
  StreamPrinter& operator=(const StreamPrinter&) = delete;

  void reasoning(std::string_view text) {
    if (show_reasoning_) write(text, true);
  }
  void content(std::string_view text) { write(stops_.push(text), false); }
  /// No more will come: ends the line.
  void finish();
  /// Whether a stop string was complete in the answer.
  bool stopped() const { return stops_.stopped(); }

 private:
  void write(std::string_view text, bool dim);
  void end_section();

  bool show_reasoning_;
  text::StopStrings stops_;
  bool open_ = false, dim_ = false, ends_line_ = false;
};

}  // namespace mxgpt::cli
