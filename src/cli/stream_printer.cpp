#include "cli/stream_printer.h"

#include <fmt/format.h>

#include "cli/terminal.h"

namespace mxgpt::cli {

void StreamPrinter::write(std::string_view text, bool dim) {
  if (text.empty()) return;
  if (open_ && dim != dim_) finish();
  if (!open_ && dim) fmt::print("{}", dim_on());
  open_ = true;
  dim_ = dim;
  ends_line_ = text.ends_with('\n');
  print_text(text);
}

void StreamPrinter::finish() {
  if (!open_) return;
  fmt::print("{}{}", dim_ ? dim_off() : "", ends_line_ ? "" : "\n");
  open_ = false;
}

}  // namespace mxgpt::cli
