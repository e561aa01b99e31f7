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
using Schema = std::span<const Field>;

/// One kind of object, told from others by its member "type", which is not in `fields`.
struct Variant {
  std::string_view type;
  const Schema* schema;
};
using Variants = std::span<const Variant>;

/// One member of an object. null is as good as leaving it out.
struct Field {
  std::string_view name;
  unsigned types;  ///< of JsonType, those allowed
  std::string_view description;
  double minimum = -std::numeric_limits<double>::infinity();  ///< of numbers
  double maximum = std::numeric_limits<double>::infinity();

  std::string_view enum_values = {};  ///< of a string: "auto|none"; empty: any
  size_t size_limit = SIZE_MAX;       ///< bytes of a string, entries of an array
  unsigned item_types = 0;            ///< of an array: types of its entries; 0: anything
  const Schema* object_schema =
      nullptr;                         ///< of an object, or of objects in an array; null: anything
  const Variants* variants = nullptr;  ///< in place of members; the first is meant without a type
  bool type_required = true;           ///< variants always name their type
  bool is_required = false;
  bool is_ignored = false;  ///< taken, and without effect

  // Before those that use it: clang 14 evaluates them only then.
  template <typename T>
  constexpr Field with(T Field::*member, T value) const {
    Field out = *this;
    out.*member = value;
    return out;
  }
  constexpr Field enum_(std::string_view values) const { return with(&Field::enum_values, values); }
  constexpr Field max_size(size_t size) const { return with(&Field::size_limit, size); }
  constexpr Field items(unsigned type) const { return with(&Field::item_types, type); }
  constexpr Field properties(const Schema* schema) const {
    return with(&Field::object_schema, schema);
  }
  constexpr Field any_of(const Variants* all) const { return with(&Field::variants, all); }
  constexpr Field type_optional() const { return with(&Field::type_required, false); }
  constexpr Field required() const { return with(&Field::is_required, true); }
  constexpr Field ignored() const { return with(&Field::is_ignored, true); }
};

/// Two tables as one.
template <size_t A, size_t B>
constexpr std::array<Field, A + B> concat(const Field (&a)[A], const Field (&b)[B]) {
  std::array<Field, A + B> all{};
  std::copy(std::begin(a), std::end(a), all.begin());
  std::copy(std::begin(b), std::end(b), all.begin() + A);
  return all;
}

/// Throws ApiError, a 400 that names the field, for a member that is not in the table, is missing,
/// or is not what the table says.
void validate_request(const json::object& object, Schema schema);

/// The table as a JSON Schema.
json::object to_json_schema(Schema schema);

}  // namespace mxgpt::server
