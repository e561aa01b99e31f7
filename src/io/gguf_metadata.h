// The metadata of a GGUF file: typed values with keys such as "gpt-oss.block_count".
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/byte_reader.h"

namespace mxgpt::io {

/// Value types with their ids in the file.
enum class GgufType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

/// "u32", "bool", "string"…
std::string_view type_name(GgufType type);
/// Bytes per value; 0 for strings and arrays, which store their own sizes.
size_t type_bytes(GgufType type);

/// A decoded value. Integers are int64_t, or uint64_t if they do not fit.
using GgufScalar = std::variant<bool, int64_t, uint64_t, double, std::string_view>;

/// A view of an array of strings; iterating allocates nothing.
class GgufStrings {
 public:
  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using pointer = const std::string_view*;
    using reference = std::string_view;

    Iterator() = default;
    explicit Iterator(const std::byte* at) : at_(at) {}
    std::string_view operator*() const {
      return {reinterpret_cast<const char*>(at_ + sizeof(uint64_t)), load_le<uint64_t>(at_)};
    }
    Iterator& operator++() {
      at_ += sizeof(uint64_t) + load_le<uint64_t>(at_);
      return *this;
    }
    Iterator operator++(int) {
      const Iterator old = *this;
      ++*this;
      return old;
    }
    bool operator==(const Iterator&) const = default;

   private:
    const std::byte* at_ = nullptr;  // at the length of a string, or past the last string
  };

  /// `bytes` holds exactly `size` strings, each preceded by its length; checked on opening.
  GgufStrings(std::span<const std::byte> bytes, size_t size) : bytes_(bytes), size_(size) {}

  size_t size() const { return size_; }
  Iterator begin() const { return Iterator(bytes_.data()); }
  Iterator end() const { return Iterator(bytes_.data() + bytes_.size()); }

 private:
  std::span<const std::byte> bytes_;
  size_t size_;
};

/// A view of a value or an array of values.
struct GgufValue {
  GgufType type;  ///< type of the value or of the array's elements; never `array`
  bool is_array;
  size_t size;                       ///< elements; 1 if not an array
  std::span<const std::byte> bytes;  ///< the encoded elements

  /// The first `limit` elements.
  std::vector<GgufScalar> elements(size_t limit) const;
  /// "u32" or "array of 201088 strings".
  std::string type_description() const;
};

/// All metadata of a file, in file order. The typed getters throw Error naming the file, the key,
/// and the expected and actual types. Values are views, valid while the file object lives.
class GgufMetadata {
 public:
  struct Entry {
    std::string_view key;
    GgufValue value;
  };

  GgufMetadata() = default;
  explicit GgufMetadata(std::string where) : where_(std::move(where)) {}
  /// Throws Error if the key already exists.
  void add(std::string_view key, const GgufValue& value);

  std::span<const Entry> entries() const { return entries_; }
  const GgufValue* find(std::string_view key) const;  ///< null when missing
  bool contains(std::string_view key) const { return find(key) != nullptr; }

  /// An integer of any type, in [low, high].
  int64_t integer(std::string_view key, int64_t low, int64_t high) const;
  /// A finite number of any type.
  double number(std::string_view key) const;
  bool boolean(std::string_view key) const;
  std::string_view string(std::string_view key) const;
  GgufStrings strings(std::string_view key) const;
  /// An array of integers of any type, each in [low, high].
  std::vector<int32_t> integers(std::string_view key, int32_t low, int32_t high) const;
  /// An array of finite numbers of any type.
  std::vector<float> numbers(std::string_view key) const;

  int64_t integer_or(std::string_view key, int64_t fallback, int64_t low, int64_t high) const;
  double number_or(std::string_view key, double fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string_view string_or(std::string_view key, std::string_view fallback) const;

  /// Throws Error about a key: "model.gguf: metadata 'key' <problem>".
  [[noreturn]] void fail(std::string_view key, const std::string& problem) const;
  const std::string& where() const { return where_; }

 private:
  enum class Kind { integer, number, boolean, string };
  /// The value of a key. Throws Error if it is missing or of another kind.
  const GgufValue& at(std::string_view key, Kind kind, bool is_array) const;

  std::string where_;
  std::vector<Entry> entries_;
  std::map<std::string_view, size_t> by_key_;  // a tree, so that no input degrades lookups
};

}  // namespace mxgpt::io
