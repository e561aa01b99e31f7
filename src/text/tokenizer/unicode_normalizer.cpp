#include "text/tokenizer/unicode_normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "text/tokenizer/unicode_properties.h"
#include "text/unicode.h"

namespace mxgpt::tokenizer {
namespace {

using CodePoints = std::vector<utf8proc_int32_t>;

/// Length of the longest decomposition of one character, U+FDFA.
constexpr int kMaxDecomposition = 18;

CodePoints decompose(std::string_view text, bool compatibility) {
  CodePoints points;
  points.reserve(text.size());
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compatibility ? UTF8PROC_COMPAT : 0));
  for (size_t i = 0; i < text.size();) {
    const char32_t c = text::unicode::next(text, i);
    if (c < 0x80 || is_newer_mark(c) || (compatibility && is_newer_decomposition(c))) {
      points.push_back(static_cast<utf8proc_int32_t>(c));
      continue;
    }
    const size_t before = points.size();
    points.resize(before + kMaxDecomposition);
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), points.data() + before,
                                kMaxDecomposition, options, &boundary);
    points.resize(before +
                  static_cast<size_t>(std::clamp<utf8proc_ssize_t>(count, 0, kMaxDecomposition)));
  }
  return points;
}

int combining_class(utf8proc_int32_t c) {
  if (c < 0x300 || is_newer_mark(static_cast<char32_t>(c))) return 0;
  return utf8proc_get_property(c)->combining_class;
}

/// Canonical ordering. utf8proc uses insertion sort, which is quadratic in long runs of marks.
void order_marks(CodePoints& points) {
  for (size_t i = 0; i < points.size(); ++i) {
    if (combining_class(points[i]) == 0) continue;
    size_t end = i + 1;
    while (end < points.size() && combining_class(points[end]) != 0) ++end;
    std::stable_sort(points.begin() + static_cast<std::ptrdiff_t>(i),
                     points.begin() + static_cast<std::ptrdiff_t>(end),
                     [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    i = end - 1;
  }
}

/// Canonical composition of the text between marks that do not compose.
void compose(CodePoints& points) {
  size_t written = 0;
  for (size_t begin = 0; begin < points.size();) {
    size_t end = begin;
    while (end < points.size() && !is_newer_mark(static_cast<char32_t>(points[end]))) ++end;
    const auto count = utf8proc_normalize_utf32(
        points.data() + begin, static_cast<utf8proc_ssize_t>(end - begin),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const size_t composed = count > 0 ? static_cast<size_t>(count) : 0;
    std::copy_n(points.begin() + static_cast<std::ptrdiff_t>(begin), composed,
                points.begin() + static_cast<std::ptrdiff_t>(written));
    written += composed;
    if (end < points.size()) points[written++] = points[end++];
    begin = end;
  }
  points.resize(written);
}

}  // namespace

std::string to_normal_form(std::string_view text, NormalForm form) {
  if (std::all_of(text.begin(), text.end(),
                  [](char byte) { return static_cast<unsigned char>(byte) < 0x80; })) {
    return std::string(text);
  }
  CodePoints points = decompose(text, form == NormalForm::kNfkc || form == NormalForm::kNfkd);
  order_marks(points);
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) compose(points);
  std::string out;
  out.reserve(text.size());
  for (const auto c : points) text::unicode::append(out, static_cast<char32_t>(c));
  return out;
}

}  // namespace mxgpt::tokenizer
