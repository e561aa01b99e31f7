// CHECK(condition, "format", values…) aborts on a programmer's mistake and prints the values. Input
// from outside never reaches it; that is an Error (base/error.h).
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#define MXGPT_CHECK(condition, ...)                                                       \
  do {                                                                                    \
    if (!(condition)) [[unlikely]] {                                                      \
      fmt::print(stderr, "{}:{}: CHECK({}) failed: {}\n", __FILE__, __LINE__, #condition, \
                 fmt::format(__VA_ARGS__));                                               \
      std::abort();                                                                       \
    }                                                                                     \
  } while (0)
