#include "eval/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/escape.h"

namespace mxgpt::eval::html {

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : escape_for_terminal(text, 4000)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string format_count(int64_t n) {
  std::string digits = fmt::format("{}", n);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > (n < 0 ? 1 : 0); at -= 3)
    digits.insert(at, 1, ',');
  return digits;
}

std::string power_of_ten(int exponent) {
  static constexpr const char* kDigits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = exponent < 0 ? "10⁻" : "10";
  for (const char digit : fmt::format("{}", std::abs(exponent))) text += kDigits[digit - '0'];
  return text;
}

std::string format_number(double value) {
  if (value == 0) return "0";
  if (!std::isfinite(value)) return "–";
  const double size = std::abs(value);
  const std::string sign = value < 0 ? "−" : "";
  if (size >= 1e-3 && size < 1e5) {
    const int digits = std::max(0, 2 - static_cast<int>(std::floor(std::log10(size))));
    return sign + fmt::format("{:.{}f}", size, digits);
  }
  const std::string text = fmt::format("{:.2e}", size);  // 6.10e-04
  const size_t e = text.find('e');
  return fmt::format("{}{}×{}", sign, text.substr(0, e),
                     power_of_ten(std::stoi(text.substr(e + 1))));
}

double Axis::at(double value) const {
  const double fraction = logarithmic ? std::log(std::max(value, low) / low) / std::log(high / low)
                                      : (value - low) / (high - low);
  return from + fraction * (to - from);
}

std::vector<std::pair<double, std::string>> Axis::ticks(int target_count) const {
  std::vector<std::pair<double, std::string>> ticks;
  if (logarithmic) {
    const int first = static_cast<int>(std::ceil(std::log10(low) - 1e-9));
    const int last = static_cast<int>(std::floor(std::log10(high) + 1e-9));
    const int step = std::max(1, (last - first + target_count) / target_count);
    for (int e = first; e <= last; e += step) ticks.emplace_back(std::pow(10, e), power_of_ten(e));
    return ticks;
  }
  const double raw_step = (high - low) / target_count;
  const double decade = std::pow(10, std::floor(std::log10(raw_step)));
  double step = 10 * decade;
  for (const double multiple : {1.0, 2.0, 5.0}) {
    if (multiple * decade >= raw_step * 0.999) {
      step = multiple * decade;
      break;
    }
  }
  const int digits = std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9)));
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i) {
    ticks.emplace_back(i * step,
                       fmt::format("{}{:.{}f}", i < 0 ? "−" : "", std::abs(i * step), digits));
  }
  return ticks;
}

double round_up(double value) {
  if (!(value > 0) || !std::isfinite(value)) return 1;
  const double decade = std::pow(10, std::floor(std::log10(value)));
  for (const double multiple : {1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0}) {
    if (multiple * decade >= value * 0.9999) return multiple * decade;
  }
  return 10 * decade;
}

Svg::Svg(int width, int height, std::string_view label)
    : width_(width),
      out_(fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", width,
                       height, escape(label))) {}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view style) {
  out_ +=
      fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n",
                  style, x1, y1, x2, y2);
}

namespace {
std::string close_element(std::string_view element, std::string_view title) {
  if (title.empty()) return "/>\n";
  return fmt::format("><title>{}</title></{}>\n", escape(title), element);
}
}  // namespace

void Svg::rect(double x, double y, double width, double height, std::string_view style,
               std::string_view title) {
  out_ += fmt::format(
      "<rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"{}", style, x,
      y, width, height, close_element("rect", title));
}

void Svg::circle(double x, double y, double radius, std::string_view style,
                 std::string_view title) {
  out_ += fmt::format("<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"{}", style, x,
                      y, radius, close_element("circle", title));
}

void Svg::polyline(const std::vector<std::pair<double, double>>& points, std::string_view style) {
  out_ += fmt::format("<polyline class=\"{}\" points=\"", style);
  for (const auto& [x, y] : points) out_ += fmt::format("{:.1f},{:.1f} ", x, y);
  out_ += "\"/>\n";
}

void Svg::text(double x, double y, std::string_view text, std::string_view anchor,
               std::string_view style) {
  out_ += fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n",
                      style, x, y, anchor, escape(text));
}

void Svg::vertical_text(double x, double y, std::string_view text) {
  out_ += fmt::format(
      "<text class=\"name\" text-anchor=\"middle\" transform=\"translate({:.1f} {:.1f}) "
      "rotate(-90)\">{}</text>\n",
      x, y, escape(text));
}

void Svg::frame(const Axis& x, const Axis& y, std::string_view x_name, std::string_view y_name,
                bool x_lines) {
  for (const auto& [value, label] : y.ticks(5)) {
    line(x.from, y.at(value), x.to, y.at(value), "grid");
    text(x.from - 8, y.at(value) + 4, label, "end");
  }
  if (x_lines) {
    for (const auto& [value, label] : x.ticks(8)) {
      line(x.at(value), y.from, x.at(value), y.to, "grid");
      text(x.at(value), y.from + 18, label);
    }
  }
  line(x.from, y.from, x.to, y.from, "axis");
  if (!x_name.empty()) text((x.from + x.to) / 2, y.from + 38, x_name, "middle", "name");
  if (!y_name.empty()) vertical_text(14, (y.from + y.to) / 2, y_name);
}

void Svg::legend(double x, double y,
                 const std::vector<std::pair<std::string, std::string>>& entries) {
  constexpr double kCharacter = 6.7;
  const double start = x;
  for (const auto& [style, name] : entries) {
    const double width = 44 + kCharacter * static_cast<double>(name.size());
    if (x > start && x + width > width_) {
      x = start;
      y += 18;
    }
    rect(x, y - 9, 14, 10, style);
    text(x + 20, y, name, "start", "name");
    x += width;
  }
}

std::string Svg::finish() && {
  return std::move(out_) + "</svg>\n";
}

}  // namespace mxgpt::eval::html
