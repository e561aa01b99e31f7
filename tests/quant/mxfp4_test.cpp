#include "quant/mxfp4/mxfp4.h"

#include <limits>

#include "support/formats.h"

namespace mxgpt::quant {
namespace {

using Block = Mxfp4::Block;

/// E2M1 by definition: subnormal with exponent 0, otherwise (1 + m / 2) · 2^(e - 1).
double e2m1(int code) {
  const int exponent = code >> 1 & 3, mantissa = code & 1;
  const double magnitude =
      exponent == 0 ? mantissa * 0.5 : std::ldexp(1 + mantissa * 0.5, exponent - 1);
  return code & 8 ? -magnitude : magnitude;
}

/// Code of element i in a GGUF block, and in sixteen bytes of a checkpoint.
int gguf_code(const uint8_t* bytes, int i) {
  return bytes[i % 16] >> (i / 16 * 4) & 0xf;
}
int checkpoint_code(const uint8_t* bytes, int i) {
  return bytes[i / 2] >> (i % 2 * 4) & 0xf;
}

std::vector<float> values_of(const Block& block) {
  std::vector<float> out(32);
  traits(Format::mxfp4).dequantize(reinterpret_cast<const std::byte*>(&block), 32, out.data());
  return out;
}

Block quantized(const std::vector<float>& in) {
  Block block;
  traits(Format::mxfp4).quantize(in.data(), 32, nullptr, reinterpret_cast<std::byte*>(&block));
  return block;
}

TEST(Mxfp4Test, EveryByteUnderEveryScale) {
  for (int scale = 0; scale < 256; ++scale) {
    for (int byte = 0; byte < 256; ++byte) {
      Block block{.scale = static_cast<uint8_t>(scale), .nibbles = {}};
      block.nibbles[byte % 16] = static_cast<uint8_t>(byte);
      const std::vector<float> values = values_of(block);
      for (int i = 0; i < 32; ++i) {
        // 0xFF is NaN for all elements (OCP). The gguf package reads it as 2^128.
        if (scale == 255) {
          ASSERT_TRUE(std::isnan(values[i]));
          continue;
        }
        const int code = i % 16 == byte % 16 ? (i < 16 ? byte & 0xf : byte >> 4) : 0;
        const double exact = std::ldexp(e2m1(code), scale - 127);
        // Exact down to 2^-128; 2^128 and above are infinite in f32.
        ASSERT_EQ(values[i], static_cast<float>(exact)) << "scale " << scale << " code " << code;
        ASSERT_EQ(std::signbit(values[i]), std::signbit(exact) && code != 8);
      }
    }
  }
}

TEST(Mxfp4Test, CheckpointOrderBothWays) {
  eval::Random random(1);
  for (int round = 0; round < 1000; ++round) {
    uint8_t nibbles[16], back[16], scale = static_cast<uint8_t>(random()), back_scale;
    for (auto& byte : nibbles) byte = static_cast<uint8_t>(random());
    Block block;
    mxfp4_from_checkpoint(nibbles, scale, block);
    EXPECT_EQ(block.scale, scale);
    for (int i = 0; i < 32; ++i)
      ASSERT_EQ(gguf_code(block.nibbles, i), checkpoint_code(nibbles, i));
    mxfp4_to_checkpoint(block, back, back_scale);
    EXPECT_EQ(back_scale, scale);
    ASSERT_EQ(std::memcmp(back, nibbles, 16), 0);
  }
}

TEST(Mxfp4Test, EachNibbleMovesAlone) {
  for (int i = 0; i < 32; ++i) {
    uint8_t nibbles[16] = {};
    nibbles[i / 2] = static_cast<uint8_t>(0xf << (i % 2 * 4));
    Block block;
    mxfp4_from_checkpoint(nibbles, 1, block);
    for (int j = 0; j < 32; ++j) EXPECT_EQ(gguf_code(block.nibbles, j), j == i ? 0xf : 0);
  }
}

/// Nearest code by comparing distances in double: ties to the even code, saturating at 6.
int nearest_code(double x) {
  int best = 0;
  for (int code = 1; code < 8; ++code) {
    const double distance = std::abs(std::abs(x) - e2m1(code)),
                 least = std::abs(std::abs(x) - e2m1(best));
    if (distance < least || (distance == least && code % 2 == 0)) best = code;
  }
  return best | (std::signbit(x) ? 8 : 0);
}

/// Quantizes x · 2^exponent in a block whose scale another element fixes, and checks the code.
void expect_nearest(float x, int exponent) {
  std::vector<float> in(32, 0.0f);
  in[0] = std::ldexp(4.0f, exponent);
  in[17] = std::ldexp(x, exponent);
  const Block block = quantized(in);
  ASSERT_EQ(block.scale, exponent + 127);
  ASSERT_EQ(gguf_code(block.nibbles, 17), nearest_code(x)) << x << " at 2^" << exponent;
}

TEST(Mxfp4Test, RoundsToNearestEven) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float largest = std::nextafter(8.0f, 0.0f);
  for (int exponent : {-100, -2, 0, 5, 125}) {
    for (float middle :
         {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 0.0f, 0.5f, 1.0f, 6.0f, 7.0f}) {
      for (float x :
           {std::nextafter(middle, -infinity), middle, std::nextafter(middle, infinity)}) {
        expect_nearest(x, exponent);
        expect_nearest(-x, exponent);
      }
    }
    expect_nearest(largest, exponent);
    expect_nearest(-largest, exponent);
  }
  for (int i = -65535; i < 65536; ++i) expect_nearest(static_cast<float>(i) / 8192, 0);
}

TEST(Mxfp4Test, SharedExponentIsThatOfTheLargest) {
  for (int exponent = -126; exponent <= 127; ++exponent) {
    const float power = std::ldexp(1.0f, exponent);
    for (float largest : {power, std::nextafter(2 * power, 0.0f), -1.5f * power}) {
      if (std::isinf(largest)) continue;
      std::vector<float> in(32, power / 8);
      in[31] = largest;
      EXPECT_EQ(quantized(in).scale, std::max(exponent - 2, -127) + 127) << largest;
    }
  }
}

TEST(Mxfp4Test, ZeroesAndSubnormals) {
  std::vector<float> in(32, -0.0f);
  for (float v : values_of(quantized(in))) EXPECT_EQ(v, 0.0f);
  in[3] = 1;
  EXPECT_EQ(gguf_code(quantized(in).nibbles, 4), 8);  // a negative zero keeps its sign

  // Subnormals below 2^-128 become zero; 2^-128 is representable.
  in.assign(32, std::numeric_limits<float>::denorm_min());
  for (float v : values_of(quantized(in))) EXPECT_EQ(v, 0.0f);
  in.assign(32, 0x1p-128f);
  for (float v : values_of(quantized(in))) EXPECT_EQ(v, 0x1p-128f);
}

TEST(Mxfp4Test, LargestFloatSaturates) {
  const std::vector<float> in(32, std::numeric_limits<float>::max());
  for (float v : values_of(quantized(in))) EXPECT_EQ(v, 0x1.8p127f);
}

TEST(Mxfp4Test, NonFiniteIsNan) {
  for (float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                    std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> in(32, 1.0f);
    in[20] = bad;
    EXPECT_EQ(quantized(in).scale, 0xff);
    EXPECT_TRUE(std::isnan(values_of(quantized(in))[0]));
  }
}

double squared_error(const std::vector<float>& in, const Block& block,
                     const std::vector<float>& weights) {
  const std::vector<float> out = values_of(block);
  double error = 0;
  for (int i = 0; i < 32; ++i) error += double{weights[i]} * std::pow(double{in[i]} - out[i], 2);
  return error;
}

/// Compared with every scale, each with the nearest codes.
TEST(Mxfp4Test, LeastErrorIsTheLeastOfAllScales) {
  eval::Random random(5);
  std::student_t_distribution<float> heavy_tailed(4);
  std::uniform_real_distribution<float> uniform(0.01f, 1);
  double total = 0, total_ocp = 0;
  for (int round = 0; round < 500; ++round) {
    std::vector<float> in(32), weights(32, 1.0f);
    for (auto& v : in) v = heavy_tailed(random);
    if (round % 2) {
      for (auto& w : weights) w = uniform(random);
    }
    Block block;
    mxfp4_quantize(in.data(), 32, weights.data(), reinterpret_cast<std::byte*>(&block));
    double least = squared_error(in, Block{}, weights);
    for (int scale = 100; scale < 150; ++scale) {
      Block other{.scale = static_cast<uint8_t>(scale), .nibbles = {}};
      for (int i = 0; i < 32; ++i) {
        const int code = nearest_code(std::ldexp(in[i], 127 - scale));
        other.nibbles[i % 16] |= static_cast<uint8_t>(code << (i / 16 * 4));
      }
      least = std::min(least, squared_error(in, other, weights));
    }
    const double error = squared_error(in, block, weights);
    EXPECT_LE(error, least * (1 + 1e-12));
    total += error;
    total_ocp += squared_error(in, quantized(in), weights);
  }
  EXPECT_LT(total, 0.95 * total_ocp);
}

/// Values that are representable at a scale are quantized without error.
TEST(Mxfp4Test, RepresentableBlocksComeBack) {
  for (int scale = 1; scale < 253; ++scale) {
    std::vector<float> in(32);
    for (int i = 0; i < 32; ++i) in[i] = static_cast<float>(std::ldexp(e2m1(i % 16), scale - 127));
    const std::vector<float> out = values_of(quantized(in));
    for (int i = 0; i < 32; ++i) ASSERT_EQ(in[i], out[i]);
  }
}

}  // namespace
}  // namespace mxgpt::quant
