#include "server/api/sampling_fields.h"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <charconv>

#include "base/escape.h"
#include "server/api/api_error.h"

namespace mxgpt::server {

namespace {

constexpr size_t kMaxStopBytes = 1024;

void read_logit_bias(const json::Node& node, engine::SamplingParams& params) {
  for (const auto& [key, value] : node.object()) {
    const std::string_view id = key;
    int32_t token = 0;
    const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), token);
    if (error != std::errc() || end != id.data() + id.size())
      throw ApiError(400,
                     fmt::format("logit_bias: '{}' is not a token id", escape_for_terminal(id)),
                     "logit_bias");
    if (!value.is_number()) throw ApiError(400, "logit_bias: biases must be numbers", "logit_bias");
    params.logit_bias[token] = value.to_number<double>();
  }
}

}  // namespace

std::vector<std::string> read_stops(const json::Node& node, const std::string& field) {
  std::vector<std::string> stops;
  if (node.raw().is_string()) {
    stops.emplace_back(node.string());
  } else {
    for (size_t i = 0; i < node.array().size(); ++i) stops.emplace_back(node.at(i).string());
  }
  if (stops.size() > kMaxStops)
    throw ApiError(400, fmt::format("{}: has more than {} strings", field, kMaxStops), field);
  for (const std::string& stop : stops) {
    if (stop.size() > kMaxStopBytes)
      throw ApiError(400, fmt::format("{}: is longer than {} bytes", field, kMaxStopBytes), field);
  }
  return stops;
}

SamplingFields read_sampling_fields(const json::Node& body) {
  SamplingFields out;
  engine::SamplingParams& params = out.params;
  params.temperature = body.number_or("temperature", 1);
  params.top_p = body.number_or("top_p", 1);
  params.top_k = body.integer_or("top_k", 0, 0, 1'000'000);
  params.min_p = body.number_or("min_p", 0);
  params.repetition_penalty = body.number_or("repetition_penalty", 1);
  params.presence_penalty = body.number_or("presence_penalty", 0);
  params.frequency_penalty = body.number_or("frequency_penalty", 0);
  if (const auto seed = body.find("seed")) {
    const json::value& value = seed->raw();
    params.seed = value.is_int64()    ? static_cast<uint64_t>(value.get_int64())
                  : value.is_uint64() ? value.get_uint64()
                                      : static_cast<uint64_t>(seed->integer(INT64_MIN, INT64_MAX));
  } else {
    RAND_bytes(reinterpret_cast<unsigned char*>(&params.seed), sizeof params.seed);
  }
  if (const auto biases = body.find("logit_bias")) read_logit_bias(*biases, params);
  if (const auto stop = body.find("stop")) out.stop_strings = read_stops(*stop, "stop");
  out.choices = static_cast<int>(body.integer_or("n", 1, 1, engine::kMaxChoices));
  out.stream = body.boolean_or("stream", false);
  if (const auto options = body.find("stream_options")) {
    if (!out.stream)
      throw ApiError(400, "stream_options: requires stream to be true", "stream_options");
    out.include_usage = options->boolean_or("include_usage", false);
  }
  out.priority = static_cast<int>(body.integer_or("priority", 0, -100, 100));
  return out;
}

}  // namespace mxgpt::server
