// CHECK(condition, "format", values…): a programmer's mistake aborts with the values that show it.
// Never reachable from outside input; for that see base/error.h.
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
