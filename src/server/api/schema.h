// Schema of a route's JSON body. Requests are validated against it and the OpenAPI document is
// generated from it, so the two cannot differ.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"

namespace mxgpt::server {

enum JsonType : unsigned {
  kBoolean = 1,
  kInteger = 2,
  kNumber = 4,
  kString = 8,
  kArray = 16,
  kObject = 32,
};

struct Field;
struct Variant;

/// The members that an object may have. Refers to the array that it is made from.
class Schema {
 public:
  constexpr Schema() = default;  ///< any object
  // Templates, since Field is incomplete here.
  template <std::same_as<Field> F, size_t N>
  constexpr Schema(const F (&fields)[N]) : kind_(Kind::members), fields_(fields), size_(N) {}
  template <std::same_as<Field> F, size_t N>
  constexpr Schema(const std::array<F, N>& fields)
      : kind_(Kind::members), fields_(fields.data()), size_(N) {}
  static constexpr Schema empty_object() { return Schema(Kind::members); }
  /// For a route that takes no request body.
  static constexpr Schema no_body() { return Schema(Kind::no_body); }

  constexpr bool is_any() const { return kind_ == Kind::any; }
  constexpr bool has_body() const { return kind_ != Kind::no_body; }
  std::span<const Field> fields() const;

 private:
  enum class Kind { any, members, no_body };
  constexpr explicit Schema(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::any;
  const Field* fields_ = nullptr;
  size_t size_ = 0;
};

/// Kinds of object that are told apart by their member "type".
class Variants {
 public:
  constexpr Variants() = default;  ///< none
  template <std::same_as<Variant> V, size_t N>
  constexpr Variants(const V (&variants)[N]) : variants_(variants), size_(N) {}

  std::span<const Variant> all() const;
  constexpr bool empty() const { return size_ == 0; }

 private:
  const Variant* variants_ = nullptr;
  size_t size_ = 0;
};

/// One member of an object. null counts as absent.
struct Field {
  std::string_view name;
  unsigned types;  ///< allowed types, bits of JsonType
  std::string_view description;
  double minimum = -std::numeric_limits<double>::infinity();  ///< of a number
  double maximum = std::numeric_limits<double>::infinity();

  std::string_view enum_values = {};  ///< allowed strings, "auto|none"; empty: any
  size_t size_limit = SIZE_MAX;       ///< bytes of a string, items of an array
  unsigned item_types = 0;            ///< allowed types of array items; 0: any
  Schema object_schema;               ///< of an object, or of objects in an array
  Variants variants;                  ///< instead of object_schema
  bool type_required = true;          ///< without: an object without a type is the first variant
  bool is_required = false;
  bool is_ignored = false;  ///< accepted, without effect

  // Defined before its uses: clang 14 requires it.
  template <typename T>
  constexpr Field with(T Field::*member, T value) const {
    Field out = *this;
    out.*member = value;
    return out;
  }
  constexpr Field enum_(std::string_view values) const { return with(&Field::enum_values, values); }
  constexpr Field max_size(size_t size) const { return with(&Field::size_limit, size); }
  constexpr Field items(unsigned type) const { return with(&Field::item_types, type); }
  constexpr Field properties(Schema schema) const { return with(&Field::object_schema, schema); }
  constexpr Field any_of(Variants all) const { return with(&Field::variants, all); }
  constexpr Field type_optional() const { return with(&Field::type_required, false); }
  constexpr Field required() const { return with(&Field::is_required, true); }
  constexpr Field ignored() const { return with(&Field::is_ignored, true); }
};

struct Variant {
  std::string_view type;
  Schema schema;  ///< without the member "type"
};

inline std::span<const Field> Schema::fields() const {
  return {fields_, size_};
}
inline std::span<const Variant> Variants::all() const {
  return {variants_, size_};
}

/// Both arrays as one.
template <size_t A, size_t B>
constexpr std::array<Field, A + B> concat(const Field (&a)[A], const Field (&b)[B]) {
  std::array<Field, A + B> all{};
  std::copy(std::begin(a), std::end(a), all.begin());
  std::copy(std::begin(b), std::end(b), all.begin() + A);
  return all;
}

/// Throws ApiError, a 400 that names the field, for a member that the schema does not have, for a
/// missing one, and for a value that it does not allow.
void validate_request(const json::object& object, Schema schema);

/// The same as JSON Schema.
json::object to_json_schema(Schema schema);

}  // namespace mxgpt::server
