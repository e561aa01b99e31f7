// Formatting of text and numbers for HTML, and SVG plots. Colours are CSS classes of the page, so
// that plots follow its light or dark theme.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mxgpt::eval::html {

/// Escapes untrusted text: markup, and control characters made visible.
std::string escape(std::string_view text);

/// "78,290".
std::string format_count(int64_t n);
/// Three significant digits: "0.0123", "6.10×10⁻⁴", "0".
std::string format_number(double value);
/// "10⁻⁴".
std::string power_of_ten(int exponent);

/// One axis of a plot: maps values to pixels.
struct Axis {
  double low, high;  ///< range of values; both positive if logarithmic
  double from, to;   ///< pixels
  bool logarithmic = false;

  double at(double value) const;
  /// About `target_count` round values with their labels.
  std::vector<std::pair<double, std::string>> ticks(int target_count) const;
};

/// Smallest round number that is not below `value`.
double round_up(double value);

class Svg {
 public:
  /// `label` is the accessible description.
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
  /// Rotated by 90 degrees, for the name of a vertical axis.
  void vertical_text(double x, double y, std::string_view text);

  /// Grid lines, tick labels and axis names; a name may be empty.
  void frame(const Axis& x, const Axis& y, std::string_view x_name, std::string_view y_name,
             bool x_lines = true);
  /// Legend of {style, name} entries, starting at `x`; wraps to a second line.
  void legend(double x, double y, const std::vector<std::pair<std::string, std::string>>& entries);

  std::string finish() &&;

 private:
  double width_;
  std::string out_;
};

}  // namespace mxgpt::eval::html
