// What a route's JSON may hold, as a table: requests are checked against it and the OpenAPI
// document is written from it, so that the two cannot differ.
#pragma once

#include <algorithm>
#include <array>
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
using Fields = std::span<const Field>;

/// One kind of object, told from others by its member "type", which is not in `fields`.
struct Variant {
  std::string_view type;
  const Fields* fields;
};
using Variants = std::span<const Variant>;

/// One member of an object. null is as good as leaving it out.
struct Field {
  std::string_view name;
  unsigned types;  ///< of JsonType, those allowed
  std::string_view meaning;
  double low = -std::numeric_limits<double>::infinity();  ///< of numbers
  double high = std::numeric_limits<double>::infinity();

  std::string_view choices = {};       ///< of a string: "auto|none"; empty: any
  size_t max_size = SIZE_MAX;          ///< bytes of a string, entries of an array
  unsigned entries = 0;                ///< of an array: types of its entries; 0: anything
  const Fields* members = nullptr;     ///< of an object, or of objects in an array; null: anything
  const Variants* variants = nullptr;  ///< in place of members; the first is meant without a type
  bool typed = true;                   ///< variants always name their type
  bool required = false;
  bool ignored = false;  ///< taken, and without effect

  // Before those that use it: clang 14 evaluates them only then.
  template <typename T>
  constexpr Field with(T Field::*member, T value) const {
    Field out = *this;
    out.*member = value;
    return out;
  }
  constexpr Field one_of(std::string_view all) const { return with(&Field::choices, all); }
  constexpr Field at_most(size_t size) const { return with(&Field::max_size, size); }
  constexpr Field each(unsigned type) const { return with(&Field::entries, type); }
  constexpr Field of(const Fields* fields) const { return with(&Field::members, fields); }
  constexpr Field by_type(const Variants* all) const { return with(&Field::variants, all); }
  constexpr Field untyped() const { return with(&Field::typed, false); }
  constexpr Field needed() const { return with(&Field::required, true); }
  constexpr Field unused() const { return with(&Field::ignored, true); }
};

/// Two tables as one.
template <size_t A, size_t B>
constexpr std::array<Field, A + B> joined(const Field (&a)[A], const Field (&b)[B]) {
  std::array<Field, A + B> all{};
  std::copy(std::begin(a), std::end(a), all.begin());
  std::copy(std::begin(b), std::end(b), all.begin() + A);
  return all;
}

/// Throws ApiError, a 400 that names the field, for a member that is not in the table, is missing,
/// or is not what the table says.
void check_fields(const json::object& object, Fields fields);

/// The table as a JSON Schema.
json::object schema_of(Fields fields);

}  // namespace mxgpt::server
