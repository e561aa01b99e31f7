#include "numerics/score.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "base/threads.h"

namespace mxgpt {

std::vector<Piece> cut_into_pieces(const Documents& documents, int64_t length,
                                   std::optional<int32_t> bos) {
  MXGPT_CHECK(length >= 2, "pieces of {}", length);
  const int64_t step = length - (bos ? 1 : 0);
  std::vector<Piece> pieces;
  for (size_t d = 0; d < documents.size(); ++d) {
    const auto size = static_cast<int64_t>(documents[d].size());
    for (int64_t begin = 0; begin < size; begin += step) {
      Piece piece{.document = static_cast<int64_t>(d)};
      if (bos) piece.tokens.push_back(*bos);
      const auto first = documents[d].begin() + begin;
      piece.tokens.insert(piece.tokens.end(), first, first + std::min(step, size - begin));
      if (piece.tokens.size() >= 2) pieces.push_back(std::move(piece));
    }
  }
  return pieces;
}

std::vector<Piece> spread(std::vector<Piece> pieces, int64_t tokens) {
  const int64_t all = scored_tokens(pieces);
  if (all <= tokens) return pieces;
  std::vector<Piece> picked;
  int64_t seen = 0, taken = 0;
  for (Piece& piece : pieces) {
    // Taken as soon as the share of the text seen is ahead of the share of tokens taken.
    const auto size = static_cast<int64_t>(piece.tokens.size()) - 1;
    const double due =
        static_cast<double>(tokens) * static_cast<double>(seen) / static_cast<double>(all);
    seen += size;
    if (picked.empty() || (static_cast<double>(taken) <= due && taken + size <= tokens)) {
      taken += size;
      picked.push_back(std::move(piece));
    }
  }
  return picked;
}

int64_t scored_tokens(std::span<const Piece> pieces) {
  int64_t tokens = 0;
  for (const Piece& piece : pieces) tokens += static_cast<int64_t>(piece.tokens.size()) - 1;
  return tokens;
}

int64_t longest(std::span<const Piece> pieces) {
  size_t most = 0;
  for (const Piece& piece : pieces) most = std::max(most, piece.tokens.size());
  return static_cast<int64_t>(most);
}

Clusters clusters_of(std::span<const Piece> pieces) {
  int64_t documents = 0, last = -1;
  for (const Piece& piece : pieces) {
    documents += piece.document != last;
    last = piece.document;
  }
  Clusters clusters{.documents = documents >= kFewestDocuments};
  clusters.count = clusters.documents ? documents : static_cast<int64_t>(pieces.size());
  int32_t cluster = -1;
  last = -1;
  for (const Piece& piece : pieces) {
    if (!clusters.documents || piece.document != last) ++cluster;
    last = piece.document;
    clusters.of_piece.push_back(cluster);
  }
  return clusters;
}

int64_t rows_a_step(const Config& config) {
  constexpr int64_t kMostFloats = 16 << 20, kMostRows = 256;
  const int64_t row = std::max(config.vocabulary, (2 * config.layers + 1) * config.hidden);
  return std::clamp<int64_t>(kMostFloats / row, 1, kMostRows);
}

Teacher::Teacher(const Model& model, SessionOptions options)
    : model_(model), session_(model, [&] {
        options.all_logits = true;
        return options;
      }()) {}

std::span<const std::span<const float>> Teacher::step(std::span<const int32_t> tokens) {
  logits_.clear();
  session_.feed(tokens, [&](int64_t position, std::span<const float> logits) {
    bool finite = true;
    for (const float logit : logits) finite &= std::isfinite(logit);
    if (!finite) {
      throw Error(model_.path().string(),
                  fmt::format("the logits at position {} are not finite", position),
                  "check the file with `mxgpt verify`");
    }
    logits_.push_back(logits);
  });
  return logits_;
}

double log_sum_exp(std::span<const float> logits) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit) - most);
  return most + std::log(total);
}

double Perplexity::value() const {
  return std::exp(nll.value);
}

double Perplexity::standard_error() const {
  return value() * nll.standard_error;
}

Perplexity perplexity(const Model& model, SessionOptions options, std::span<const Piece> pieces,
                      const std::function<void(int64_t)>& progress) {
  options.context = longest(pieces);
  options.max_rows = rows_a_step(model.config());
  Teacher teacher(model, options);
  const auto rows = static_cast<size_t>(options.max_rows);
  const Clusters clusters = clusters_of(pieces);
  std::vector<double> nll;
  std::vector<int32_t> cluster;
  for (size_t p = 0; p < pieces.size(); ++p) {
    const std::span<const int32_t> tokens = pieces[p].tokens;
    teacher.begin_piece();
    for (size_t begin = 0; begin < tokens.size(); begin += rows) {
      const auto part = tokens.subspan(begin, std::min(rows, tokens.size() - begin));
      const auto logits = teacher.step(part);
      const auto scored = std::min(part.size(), tokens.size() - 1 - begin);
      const size_t before = nll.size();
      nll.resize(before + scored);
      cluster.resize(nll.size(), clusters.of_piece[p]);
      parallel_for(static_cast<int64_t>(scored), [&](int64_t i) {
        nll[before + i] = log_sum_exp(logits[i]) - logits[i][tokens[begin + i + 1]];
      });
      progress(static_cast<int64_t>(part.size()));
    }
  }
  return {.nll = clustered_mean(nll, cluster)};
}

}  // namespace mxgpt
