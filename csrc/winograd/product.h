// Products of terms: those of tiles with filters, and of channels with filters.
#pragma once

#include "common/products.h"
#include "winograd/terms.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Products of T tiles with V vectors of filters, over all channels. Not inlined: in a larger function GCC keeps some of
// the sums in memory.
template <class E, int V>
__attribute__((noinline)) void tiles_by_filters(const E* terms, int64_t width, const E* filters, int64_t channels,
                                                E* to, int64_t to_width) {
  constexpr int T = rows_of_product;
  ProductSums<E, T, V> sums;
  sums.clear();
  for (int64_t c = 0; c < channels; ++c) sums.add(terms + c, width, filters + c * V * lanes_of<E>);
  sums.write(to, to_width);
}

// Products of T channels with V vectors of filters, over `tiles` tiles; the first block of tiles writes, others add.
template <class E, int V>
__attribute__((noinline)) void channels_by_filters(const E* input, int64_t width, const E* grad, int64_t grad_width,
                                                   int64_t tiles, bool first, E* to, int64_t to_width) {
  constexpr int T = rows_of_product;
  ProductSums<E, T, V> sums;
  sums.clear();
  for (int64_t t = 0; t < tiles; ++t) sums.add(input + t * width, 1, grad + t * grad_width);
  if (first) return sums.write(to, to_width);
  sums.add_to(to, to_width);
}

constexpr int vectors_of_product = vector_bytes == 64 ? 4 : 2;

// Calls body(V, k) for blocks of filters: V (an integral constant) vectors from filter k on.
template <class E, class F>
void for_blocks_of_filters(int64_t filters, const F& body) {
  constexpr int N = lanes_of<E>;
  for (int64_t k = 0; k < filters; k += vectors_of_product * N) {
    switch (rounded_up(filters - k, N) / N) {
      case 1: body(std::integral_constant<int, 1>{}, k); break;
#if defined(__AVX512BW__)
      case 2: body(std::integral_constant<int, 2>{}, k); break;
      case 3: body(std::integral_constant<int, 3>{}, k); break;
#endif
      default: body(std::integral_constant<int, vectors_of_product>{}, k); break;
    }
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
