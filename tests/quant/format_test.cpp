#include "quant/format.h"

#include <set>
#include <utility>

#include "support/formats.h"

namespace mxgpt::quant {
namespace {

class FormatTest : public testing::TestWithParam<Format> {};

TEST_P(FormatTest, IsFoundByTypeAndName) {
  const FormatTraits& t = traits(GetParam());
  EXPECT_EQ(format_from_ggml_type(t.ggml_type), GetParam());
  EXPECT_EQ(format_from_name(t.name), GetParam());
  std::string other_case(t.name);
  for (char& c : other_case)
    c = static_cast<char>(std::isupper(c) ? std::tolower(c) : std::toupper(c));
  EXPECT_EQ(format_from_name(other_case), GetParam());
}

TEST_P(FormatTest, HasAGeometryThatKernelsCanUse) {
  const FormatTraits& t = traits(GetParam());
  EXPECT_TRUE(t.block_elements == 1 || t.block_elements % kQuantGroup == 0);
  EXPECT_EQ(t.row_bytes(3 * t.block_elements), 3 * t.block_bytes);
}

/// No quantizer of a Gaussian with b bits per weight has a relative squared error below 2^-2b
/// (Shannon); a sound one stays within a factor of 8. numpy checks the rounding of floating-point
/// formats.
TEST_P(FormatTest, QuantizesWithSmallError) {
  const FormatTraits& t = traits(GetParam());
  if (!t.quantize || t.block_elements == 1) GTEST_SKIP() << t.name << " is not quantized";
  eval::Random random(1);
  std::normal_distribution<float> normal;
  std::vector<float> in(64 * 256);
  for (auto& v : in) v = normal(random);
  std::vector<std::byte> blocks(t.row_bytes(static_cast<int64_t>(in.size())));
  t.quantize(in.data(), static_cast<int64_t>(in.size()), nullptr, blocks.data());
  const std::vector<float> out = eval::dequantized(GetParam(), blocks);
  double error = 0, power = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    error += std::pow(double{in[i]} - out[i], 2);
    power += std::pow(double{in[i]}, 2);
  }
  const double bits = 8.0 * t.block_bytes / t.block_elements;
  EXPECT_LT(error / power, 8 * std::pow(2.0, -2 * bits));
}

TEST_P(FormatTest, ZeroStaysZero) {
  const FormatTraits& t = traits(GetParam());
  if (!t.quantize) GTEST_SKIP() << "no quantizer for " << t.name;
  const std::vector<float> zeros(512);
  std::vector<std::byte> blocks(t.row_bytes(512));
  t.quantize(zeros.data(), 512, nullptr, blocks.data());
  for (float v : eval::dequantized(GetParam(), blocks)) ASSERT_EQ(v, 0.0f);
}

/// Arbitrary bit patterns: a block with NaN or infinity becomes NaN, and nothing triggers the
/// sanitizers.
TEST_P(FormatTest, QuantizesAnyFloats) {
  const FormatTraits& t = traits(GetParam());
  if (!t.quantize) GTEST_SKIP() << "no quantizer for " << t.name;
  eval::Random random(2);
  const int64_t n = t.block_elements;
  for (int round = 0; round < 2000; ++round) {
    std::vector<float> in(n), importance(n);
    const uint32_t exponents = random() % 2 ? 0xffffffff : 0xbfffffff;  // any magnitude, or below 2
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t bits = random() & exponents, weight = random() & 0x7fffffff;
      std::memcpy(&in[i], &bits, sizeof bits);
      std::memcpy(&importance[i], &weight, sizeof weight);
    }
    std::vector<std::byte> block(t.block_bytes);
    for (const float* weights :
         {static_cast<const float*>(nullptr), std::as_const(importance).data()}) {
      t.quantize(in.data(), n, weights, block.data());
      const float largest = eval::magnitude(in);
      const bool finite = std::isfinite(eval::magnitude(eval::dequantized(GetParam(), block)));
      if (std::isnan(largest)) {
        ASSERT_FALSE(finite);
      }
      if (largest <= 65504) {
        ASSERT_TRUE(finite);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, FormatTest, testing::ValuesIn(eval::all_formats()),
                         [](const auto& info) { return std::string(traits(info.param).name); });

TEST(FormatsTest, TypesAndNamesDiffer) {
  std::set<uint32_t> types;
  std::set<std::string_view> names;
  for (Format format : eval::all_formats()) {
    types.insert(traits(format).ggml_type);
    names.insert(traits(format).name);
  }
  EXPECT_EQ(types.size(), size_t{kFormatCount});
  EXPECT_EQ(names.size(), size_t{kFormatCount});
}

TEST(FormatsTest, UnknownOnesAreEmpty) {
  EXPECT_EQ(format_from_ggml_type(4), std::nullopt);  // Q4_2, withdrawn
  EXPECT_EQ(format_from_ggml_type(0xffffffff), std::nullopt);
  EXPECT_EQ(format_from_name(""), std::nullopt);
  EXPECT_EQ(format_from_name("Q8"), std::nullopt);
  EXPECT_EQ(format_from_name("Q8_00"), std::nullopt);
}

}  // namespace
}  // namespace mxgpt::quant
