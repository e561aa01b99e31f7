#include "base/arena.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace mxgpt {
namespace {

struct Buffers {
  std::span<char> bytes;
  std::span<double> numbers;
  std::span<int> none;
  explicit Buffers(Arena& arena)
      : bytes(arena.allocate<char>(3)),
        numbers(arena.allocate<double>(100'000)),
        none(arena.allocate<int>(0)) {}
};

TEST(Arena, TheSameCodeCountsAndThenTakes) {
  Arena counted;
  const Buffers planned(counted);
  EXPECT_EQ(planned.numbers.data(), nullptr);

  Arena arena(counted.used(), "a test");
  const Buffers buffers(arena);
  EXPECT_EQ(arena.used(), counted.used());
  EXPECT_EQ(buffers.bytes.size(), 3u);
  ASSERT_EQ(buffers.numbers.size(), 100'000u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffers.numbers.data()) % 64, 0u);
  EXPECT_TRUE(
      std::all_of(buffers.numbers.begin(), buffers.numbers.end(), [](double x) { return x == 0; }));
  EXPECT_GE(static_cast<const void*>(buffers.numbers.data()),
            static_cast<const void*>(buffers.bytes.data() + buffers.bytes.size()));
}

TEST(Arena, BuffersStayWhereTheyAreWhenItMoves) {
  Arena first(64, "a test");
  const std::span<int> buffer = first.allocate<int>(4);
  buffer[0] = 7;
  const Arena second(std::move(first));
  EXPECT_EQ(buffer[0], 7);
}

TEST(Arena, MoreThanWasPlannedIsAMistake) {
  Arena arena(64, "a test");
  arena.allocate<std::byte>(64);
  EXPECT_DEATH(arena.allocate<std::byte>(1), "128 bytes of 64");
}

TEST(PageMemory, TooMuchIsAnError) {
  EXPECT_THROW(PageMemory(size_t{1} << 60, "a test"), Error);
}

}  // namespace
}  // namespace mxgpt
