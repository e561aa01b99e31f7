// What happens inside two models that are fed the same tokens: where their hidden states part, and
// whether they choose the same experts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backend/activation_hook.h"

namespace mxgpt::eval {

/// Keeps a step's residual streams and choices of experts.
class ActivationTrace final : public backend::ActivationHook {
 public:
  void begin_step();

  void residual(const float* x, int64_t rows, int64_t hidden) override;
  void expert_choices(const int32_t* experts, int64_t rows, int64_t top_k) override;

  struct Residual {
    int64_t hidden;
    std::vector<float> x;  ///< [rows, hidden]
  };
  struct Routing {
    int64_t top_k;
    std::vector<int32_t> experts;  ///< [rows, top_k]
  };
  const std::vector<Residual>& residuals() const { return residuals_; }  ///< in the order of places
  const std::vector<Routing>& routings() const { return routings_; }     ///< in the order of layers

 private:
  size_t residuals_seen_ = 0, routings_seen_ = 0;  // in this step; the rest is old room
  std::vector<Residual> residuals_;
  std::vector<Routing> routings_;
};

/// Of one MoE layer, over all tokens.
struct RoutingAgreement {
  double top_k_overlap =
      0;  ///< share of the reference's chosen experts that the candidate chose too
  double same_top_expert = 0;  ///< share of tokens whose best expert is the same
};

/// Two models' traces compared, summed over steps.
class TraceComparison {
 public:
  /// Of the same rows. The models have the same layers and hidden size.
  void add(const ActivationTrace& reference, const ActivationTrace& candidate);

  /// A place's relative error is the root mean square over tokens of |x' - x| / |x|: each token
  /// counts alike, however large its hidden state is. Place 0 is the embedding, 2i + 1 follows
  /// layer i's attention, 2i + 2 its MLP.
  std::vector<double> hidden_errors() const;
  std::vector<RoutingAgreement> routing() const;

 private:
  int64_t rows_ = 0;
  std::vector<double> squares_;            // [places]: Σ |x' - x|² / |x|²
  std::vector<RoutingAgreement> routing_;  // sums
};

/// "embedding", "layer 3 attention", "layer 3 MLP".
std::string tap_point_name(size_t point);

/// The first place where the error jumps: it is at least 10% (of the embedding, whose error is that
/// of its weights alone, 25%), at least twice what it was at the place before, and at least half of
/// the largest of all places. What quantization adds grows from place to place; a damaged layer
/// passes all three.
std::optional<size_t> first_error_jump(const std::vector<double>& hidden_errors);

}  // namespace mxgpt::eval
