// Sampling and streaming fields that all generating routes share.
#pragma once

#include <string>
#include <vector>

#include "engine/request.h"
#include "server/api/schema.h"

namespace mxgpt::server {

inline constexpr Field kStreamOptions[] = {
    {"include_usage", kBoolean, "the last event reports the token usage"},
    Field{"include_obfuscation", kBoolean, "specific to OpenAI's service"}.ignored(),
};

inline constexpr Field kSamplingTable[] = {
    {"temperature", kNumber, "0 selects the most likely token; default 1", 0, 2},
    {"top_p", kNumber, "sample from the smallest set of tokens with this total probability", 0, 1},
    {"top_k", kInteger, "sample from this many most likely tokens; 0: all", 0, 1e6},
    {"min_p", kNumber, "minimum probability of a token, relative to the most likely one", 0, 1},
    {"repetition_penalty", kNumber, "above 1 discourages tokens of the prompt and the response",
     0.01, 100},
    {"presence_penalty", kNumber, "above 0 discourages tokens that the response contains", -2, 2},
    {"frequency_penalty", kNumber, "above 0 discourages tokens by how often they occurred", -2, 2},
    {"seed", kInteger, "equal seeds give equal responses; default: random", -9223372036854775808.0,
     9223372036854775807.0},
    {"logit_bias", kObject, "maps token ids to a bias of their logit, -100 to 100"},
    Field{"stop", kString | kArray, "the response ends before any of these strings; at most 16"}
        .max_size(16384)
        .items(kString),
    {"stream", kBoolean, "send the response incrementally, as server-sent events"},
    Field{"stream_options", kObject, "options of streams"}.properties(kStreamOptions),
    {"priority", kInteger, "requests with a higher priority are scheduled first", -100, 100},
    Field{"user", kString, "identifies the end user to the client"}.ignored(),
};

/// For routes that can return several choices.
inline constexpr Field kNField{"n", kInteger, "number of choices", 1, engine::kMaxChoices};

/// A route's own fields, followed by these.
template <size_t N>
constexpr auto with_sampling(const Field (&own)[N]) {
  return concat(own, kSamplingTable);
}
template <size_t N>
constexpr auto with_sampling(const std::array<Field, N>& own) {
  std::array<Field, N + std::size(kSamplingTable)> all{};
  std::copy(own.begin(), own.end(), all.begin());
  std::copy(std::begin(kSamplingTable), std::end(kSamplingTable), all.begin() + N);
  return all;
}

struct SamplingFields {
  engine::SamplingParams params;
  std::vector<std::string> stop_strings;
  int choices = 1;
  bool stream = false, include_usage = false;
  int priority = 0;
};

/// Reads an object that validate_request() has accepted. Throws ApiError for faults that a schema
/// cannot express: too many stop strings, a bias that is not a number.
SamplingFields read_sampling_fields(const json::Node& body);

inline constexpr size_t kMaxStops = 16;
/// Reads a string or a list of strings. Throws ApiError naming `field` if there are too many, or
/// one is too long.
std::vector<std::string> read_stops(const json::Node& node, const std::string& field);

}  // namespace mxgpt::server
