#include "eval/stored_reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/escape.h"

namespace mxgpt::eval {

namespace {

template <class T>
std::vector<T> copy_values(const io::FileTensor& tensor) {
  std::vector<T> result(tensor.bytes.size() / sizeof(T));
  if (!result.empty()) std::memcpy(result.data(), tensor.bytes.data(), tensor.bytes.size());
  return result;
}

std::string field_name(size_t sequence, std::string_view field) {
  return fmt::format("{}.{}", sequence, field);
}

}  // namespace

StoredReference::StoredReference(const std::filesystem::path& path, int64_t vocabulary,
                                 const Documents& ids)
    : path_(path.string()), vocabulary_(vocabulary), file_(io::SafetensorsFile::open(path)) {
  for (size_t i = 0;; ++i) {
    const io::FileTensors& tensors = file_.tensors();
    const io::FileTensor* stored = tensors.find(field_name(i, "ids"));
    if (!stored && !tensors.find(field_name(i, "top_ids")) &&
        !tensors.find(field_name(i, "logits")))
      break;
    std::vector<int32_t> tokens;
    if (stored) {
      if (stored->shape.size() != 1 || stored->type != "I32") {
        throw Error(path_, fmt::format("'{}' is {} {}, not I32 in one dimension", stored->name,
                                       stored->type, io::format_shape(stored->shape)));
      }
      tokens = copy_values<int32_t>(*stored);
    } else if (i < ids.size()) {
      tokens = ids[i];
    } else {
      throw Error(path_, fmt::format("has no '{}'", field_name(i, "ids")),
                  "give the token ids that it was computed from");
    }
    if (tokens.empty()) throw Error(path_, fmt::format("sequence {} is empty", i));
    for (const int32_t token : tokens) {
      if (token < 0 || token >= vocabulary_) {
        throw Error(path_, fmt::format("sequence {} has token {}, outside the vocabulary of {}", i,
                                       token, vocabulary_));
      }
    }
    const auto n = static_cast<int64_t>(tokens.size());
    sequences_.emplace_back();
    sequences_[i].logits = find(i, "logits", "F32", {n, vocabulary_});
    sequences_[i].last_logits = find(i, "last_logits", "F32", {vocabulary_});
    const io::FileTensor* top_ids = find(i, "top_ids", "I32", {n, kTopTokens});
    const io::FileTensor* top_logprobs = find(i, "top_logprobs", "F32", {n, kTopTokens});
    if (top_ids && top_logprobs) {
      read_top(i, *top_ids, *top_logprobs);
    } else if (!sequences_[i].logits) {
      throw Error(path_,
                  fmt::format("sequence {} has neither logits nor top_ids and top_logprobs", i));
    }
    has_full_logits_ = has_full_logits_ && sequences_[i].logits;
    chunks_.push_back({.document = static_cast<int64_t>(i), .tokens = std::move(tokens)});
  }
  if (chunks_.empty()) {
    throw Error(path_, "is not a stored reference: it has neither '0.top_ids' nor '0.logits'",
                "`mxgpt logits --full` writes one");
  }
  for (size_t i = 0; !has_full_logits_ && i < sequences_.size(); ++i) {
    if (sequences_[i].top_ids.empty())
      throw Error(path_, fmt::format("sequence {} has no top_ids, but others have no logits", i));
  }
}

const io::FileTensor* StoredReference::find(size_t sequence, std::string_view field,
                                            std::string_view type,
                                            const std::vector<int64_t>& shape) const {
  const io::FileTensor* tensor = file_.tensors().find(field_name(sequence, field));
  if (tensor && (tensor->type != type || tensor->shape != shape)) {
    throw Error(path_, fmt::format("'{}' is {} {}, not {} {}", tensor->name, tensor->type,
                                   io::format_shape(tensor->shape), type, io::format_shape(shape)));
  }
  return tensor;
}

void StoredReference::read_top(size_t i, const io::FileTensor& ids,
                               const io::FileTensor& logprobs) {
  Sequence& sequence = sequences_[i];
  sequence.top_ids = copy_values<int32_t>(ids);
  sequence.top_logprobs = copy_values<float>(logprobs);
  // Tolerance for rounding in a sum of eight f32 values.
  constexpr double kMaxSum = 1 + 1e-5;
  for (size_t row = 0; row < sequence.top_ids.size(); row += kTopTokens) {
    const std::span<const int32_t> tokens(&sequence.top_ids[row], kTopTokens);
    const std::span<const float> row_logprobs(&sequence.top_logprobs[row], kTopTokens);
    const auto fail = [&](const std::string& problem) {
      throw Error(path_, fmt::format("sequence {}, position {}: {}", i, row / kTopTokens, problem));
    };
    double total = 0;
    for (int k = 0; k < kTopTokens; ++k) {
      if (tokens[k] < 0 || tokens[k] >= vocabulary_) {
        fail(fmt::format("token {} is outside the vocabulary of {}", tokens[k], vocabulary_));
      }
      if (std::find(tokens.begin(), tokens.begin() + k, tokens[k]) != tokens.begin() + k)
        fail(fmt::format("token {} occurs twice", tokens[k]));
      if (!std::isfinite(row_logprobs[k])) fail("a log-probability is not finite");
      total += std::exp(static_cast<double>(row_logprobs[k]));
    }
    if (total > kMaxSum) fail(fmt::format("the probabilities sum to {:.6g}", total));
    if (!std::is_sorted(row_logprobs.rbegin(), row_logprobs.rend()))
      fail("the tokens are not sorted by probability");
  }
}

TopLogprobs StoredReference::top_tokens(size_t sequence, size_t position) const {
  const Sequence& s = sequences_[sequence];
  return {.ids = {&s.top_ids[position * kTopTokens], kTopTokens},
          .logprobs = {&s.top_logprobs[position * kTopTokens], kTopTokens}};
}

void StoredReference::copy_row(const io::FileTensor& tensor, size_t row,
                               std::vector<float>& logits) const {
  logits.resize(vocabulary_);
  const size_t bytes = logits.size() * sizeof(float);
  std::memcpy(logits.data(), tensor.bytes.data() + row * bytes, bytes);
  if (!std::all_of(logits.begin(), logits.end(), [](float l) { return std::isfinite(l); }))
    throw Error(path_, fmt::format("'{}' has values that are not finite", tensor.name));
}

void StoredReference::logits(size_t sequence, size_t position, std::vector<float>& logits) const {
  copy_row(*sequences_[sequence].logits, position, logits);
}

bool StoredReference::last_logits(size_t sequence, std::vector<float>& logits) const {
  const io::FileTensor* tensor = sequences_[sequence].last_logits;
  if (tensor) copy_row(*tensor, 0, logits);
  return tensor;
}

std::string StoredReference::source() const {
  const auto found = file_.metadata().find("source");
  return found == file_.metadata().end() ? "" : escape_for_terminal(found->second);
}

}  // namespace mxgpt::eval
