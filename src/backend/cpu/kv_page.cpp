#include "backend/cpu/kv_page.h"

#include <cstring>

namespace mxgpt::cpu {

namespace {

/// Calls move(row offset, page offset) for each element, of kBytes each, of a row.
template <int kBytes, class Move>
void for_each_element(int64_t elements, int64_t slot, const Move& move) {
  for (int64_t i = 0; i < elements; ++i)
    move(i * kBytes, (i * backend::kPageTokens + slot) * kBytes);
}

/// Calls move<kBytes>(row offset, page offset) for all parts of a row.
template <class Move>
void for_each_block_part(quant::Format format, int64_t head_dim, int64_t slot, const Move& move) {
  const auto moves = [&]<int kBytes>() {
    return [&](int64_t row, int64_t page) { move.template operator()<kBytes>(row, page); };
  };
  const quant::FormatTraits& t = quant::traits(format);
  if (t.block_elements == 1) {
    if (t.block_bytes == 4)
      for_each_element<4>(head_dim, slot, moves.template operator()<4>());
    else
      for_each_element<2>(head_dim, slot, moves.template operator()<2>());
    return;
  }
  const int64_t scale_bytes = 2;
  for (int64_t block = 0; block < head_dim / t.block_elements; ++block) {
    const int64_t row = block * t.block_bytes, page = row * backend::kPageTokens;
    move.template operator()<2>(row, page + slot * scale_bytes);
    for_each_element<1>(t.block_elements, slot, [&](int64_t in_row, int64_t in_page) {
      move.template operator()<1>(row + scale_bytes + in_row,
                                  page + backend::kPageTokens * scale_bytes + in_page);
    });
  }
}

}  // namespace

void store_key(quant::Format format, int64_t head_dim, const std::byte* row, int64_t slot,
               std::byte* page) {
  for_each_block_part(format, head_dim, slot, [&]<int kBytes>(int64_t in_row, int64_t in_page) {
    std::memcpy(page + in_page, row + in_row, kBytes);
  });
}

void load_key(quant::Format format, int64_t head_dim, const std::byte* page, int64_t slot,
              std::byte* row) {
  for_each_block_part(format, head_dim, slot, [&]<int kBytes>(int64_t in_row, int64_t in_page) {
    std::memcpy(row + in_row, page + in_page, kBytes);
  });
}

}  // namespace mxgpt::cpu
