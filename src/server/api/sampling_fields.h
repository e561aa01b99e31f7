// The fields about sampling that all routes share.
#pragma once

#include <string>
#include <vector>

#include "engine/request.h"
#include "server/api/schema.h"

namespace mxgpt::server {

inline constexpr Field kStreamOptionsTable[] = {
    {"include_usage", kBoolean, "a last event has the usage"},
    Field{"include_obfuscation", kBoolean, "of OpenAI's"}.ignored(),
};
inline constexpr Schema kStreamOptionsSchema = kStreamOptionsTable;

inline constexpr Field kSamplingTable[] = {
    {"temperature", kNumber, "0 takes the most likely token; default 1", 0, 2},
    {"top_p", kNumber, "draw among the fewest tokens whose probabilities reach this sum", 0, 1},
    {"top_k", kInteger, "draw among so many of the likeliest; 0: all", 0, 1e6},
    {"min_p", kNumber, "draw among tokens of this share of the likeliest one's probability", 0, 1},
    {"repetition_penalty", kNumber, "above 1 discourages tokens of prompt and answer", 0.01, 100},
    {"presence_penalty", kNumber, "above 0 discourages tokens that the answer has", -2, 2},
    {"frequency_penalty", kNumber, "the same, by how often", -2, 2},
    {"seed", kInteger, "the same seed gives the same answer; default: another each time",
     -9223372036854775808.0, 9223372036854775807.0},
    {"logit_bias", kObject, "by token id, what is added to its logit, -100 to 100"},
    Field{"stop", kString | kArray, "the answer ends before these texts; at most 16"}
        .max_size(16384)
        .items(kString),
    {"stream", kBoolean, "send the answer as it comes, as server-sent events"},
    Field{"stream_options", kObject, "about streams"}.properties(&kStreamOptionsSchema),
    {"priority", kInteger, "a request of higher priority goes first", -100, 100},
    Field{"user", kString, "for the client's own use"}.ignored(),
};

/// Of routes that can give several answers.
inline constexpr Field kNField{"n", kInteger, "how many answers", 1, engine::kMaxChoices};

/// These and a route's own.
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

/// From an object that check_fields() has passed. Throws ApiError for what a table cannot say:
/// too many stop texts, a bias that is no number.
SamplingFields read_sampling_fields(const json::Node& body);

inline constexpr size_t kMaxStops = 16;
/// A text, or a list of them. Throws ApiError naming `field` for too many, or too long ones.
std::vector<std::string> read_stops(const json::Node& node, const std::string& field);

}  // namespace mxgpt::server
