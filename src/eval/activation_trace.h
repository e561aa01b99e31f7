// Activations of two models on the same tokens: how far their hidden states diverge, and whether
// they route to the same experts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backend/activation_hook.h"

namespace mxgpt::eval {

/// Records the residual streams and chosen experts of a step.
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
  const std::vector<Residual>& residuals() const { return residuals_; }  ///< by tap point
  const std::vector<Routing>& routings() const { return routings_; }     ///< by layer

 private:
  size_t residuals_seen_ = 0, routings_seen_ = 0;  // in this step; later elements are spare
  std::vector<Residual> residuals_;
  std::vector<Routing> routings_;
};

/// Routing agreement in one MoE layer, over all tokens.
struct RoutingAgreement {
  double top_k_overlap =
      0;  ///< fraction of the reference's chosen experts that the candidate chose as well
  double same_top_expert = 0;  ///< fraction of tokens with the same top expert
};

/// Differences between two traces, accumulated over steps.
class TraceComparison {
 public:
  /// Adds one step. Both traces cover the same tokens; the models have the same layers and hidden
  /// size.
  void add(const ActivationTrace& reference, const ActivationTrace& candidate);

  /// Relative error per tap point: the root mean square over tokens of |x' - x| / |x|. Every token
  /// has equal weight, however large its hidden state. Tap point 0 is the embedding, 2i + 1 is
  /// after attention of layer i, 2i + 2 after its MLP.
  std::vector<double> hidden_errors() const;
  std::vector<RoutingAgreement> routing() const;

 private:
  int64_t rows_ = 0;
  std::vector<double> squares_;            // [tap points]: Σ |x' - x|² / |x|²
  std::vector<RoutingAgreement> routing_;  // sums
};

/// "embedding", "layer 3 attention", "layer 3 MLP".
std::string tap_point_name(size_t point);

/// First tap point at which the error jumps, if any: it is at least 10% (25% at the embedding), at
/// least twice the previous one, and at least half the maximum. Quantization error grows gradually;
/// a damaged layer meets all three conditions.
std::optional<size_t> first_error_jump(const std::vector<double>& hidden_errors);

}  // namespace mxgpt::eval
