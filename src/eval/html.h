// Text and numbers for a page of HTML, and SVG drawn piece by piece. Colours are classes that the
// page's style defines, so that a plot is light or dark with its page.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mxgpt::eval::html {

/// Text from outside: markup escaped, control characters made visible.
std::string escape(std::string_view text);

/// "78,290".
std::string format_count(int64_t n);
/// Three digits: "0.0123", "6.10×10⁻⁴", "0".
std::string format_number(double value);
/// "10⁻⁴".
std::string power_of_ten(int exponent);

/// A scale of one axis: values to pixels.
struct Axis {
  double low, high;  ///< values; of a logarithmic axis, both above 0
  double from, to;   ///< pixels
  bool logarithmic = false;

  double at(double value) const;
  /// Values worth a line, with their labels: about `most` of them.
  std::vector<std::pair<double, std::string>> ticks(int target_count) const;
};

/// 0 to a round number not below `value`.
double round_up(double value);

class Svg {
 public:
  /// `label` is what the picture shows, for those who do not see it.
  Svg(int width, int height, std::string_view label);

  void line(double x1, double y1, double x2, double y2, std::string_view style);
  void rect(double x, double y, double width, double height, std::string_view style,
            std::string_view title = {});
  void circle(double x, double y, double radius, std::string_view style,
              std::string_view title = {});
  void polyline(const std::vector<std::pair<double, double>>& points, std::string_view style);
  /// `anchor` is start, middle or end.
  void text(double x, double y, std::string_view text, std::string_view anchor = "middle",
            std::string_view style = "tick");
  /// Written upwards, for the name of a vertical axis.
  void vertical_text(double x, double y, std::string_view text);

  /// Lines, labels and names of both axes; a name may be empty.
  void frame(const Axis& x, const Axis& y, std::string_view x_name, std::string_view y_name,
             bool x_lines = true);
  /// Coloured names from `x` on: style, and name. A second line where the first is full.
  void legend(double x, double y, const std::vector<std::pair<std::string, std::string>>& entries);

  std::string finish() &&;

 private:
  double width_;
  std::string out_;
};

}  // namespace mxgpt::eval::html
