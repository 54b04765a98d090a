// Products of terms: T rows of numbers that are broadcast, V vectors beside them, sums in registers.
#pragma once

#include "winograd/terms.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class E, int T, int V>
struct Sums {
  static constexpr int N = lanes_of<E>;
  Vec<E, N> sum[T][V];

  SWITCHGRAD_INLINE void clear() {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[t][v] = Vec<E, N>{};
  }
  // Adds the products of numbers row[t * row_step] with the vectors at `beside`.
  SWITCHGRAD_INLINE void add(const E* row, int64_t row_step, const E* beside) {
    add_loaded(row, row_step, beside, std::make_integer_sequence<int, V>{});
  }
  SWITCHGRAD_INLINE void write(E* to, int64_t step) const {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(to + t * step + v * N, sum[t][v]);
  }
  SWITCHGRAD_INLINE void add_to(E* to, int64_t step) const {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(to + t * step + v * N, load<Vec<E, N>>(to + t * step + v * N) + sum[t][v]);
  }

 private:
  // The vectors travel as arguments, not as an array: GCC would keep an array in memory.
  template <int... v>
  SWITCHGRAD_INLINE void add_loaded(const E* row, int64_t row_step, const E* beside,
                                    std::integer_sequence<int, v...> all) {
    add_products(row, row_step, all, load<Vec<E, N>>(beside + v * N)...);
  }
  template <int... v, class... Vectors>
  SWITCHGRAD_INLINE void add_products(const E* row, int64_t row_step, std::integer_sequence<int, v...>,
                                      Vectors... vectors) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const auto x = broadcast<E, N>(row[t * row_step]);
      ((sum[t][v] += x * vectors), ...);
    }
  }
};

// Products of T tiles with V vectors of filters, over all channels. Not inlined: in a larger function GCC keeps some of
// the sums in memory.
template <class E, int V>
__attribute__((noinline)) void tiles_by_filters(const E* terms, int64_t width, const E* filters, int64_t channels,
                                                E* to, int64_t to_width) {
  constexpr int T = rows_of_product;
  Sums<E, T, V> sums;
  sums.clear();
  for (int64_t c = 0; c < channels; ++c) sums.add(terms + c, width, filters + c * V * lanes_of<E>);
  sums.write(to, to_width);
}

// Products of T channels with V vectors of filters, over `tiles` tiles; the first block of tiles writes, others add.
template <class E, int V>
__attribute__((noinline)) void channels_by_filters(const E* input, int64_t width, const E* grad, int64_t grad_width,
                                                   int64_t tiles, bool first, E* to, int64_t to_width) {
  constexpr int T = rows_of_product;
  Sums<E, T, V> sums;
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
