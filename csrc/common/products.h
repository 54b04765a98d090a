// Sums of products in registers: T numbers that are broadcast times V vectors beside them, again and again.
#pragma once

#include "common/lanes.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class E, int T, int V>
struct ProductSums {
  static constexpr int N = lanes_of<E>;
  Vec<E, N> sum[T][V];

  SWITCHGRAD_INLINE void clear() {
#pragma GCC unroll 24
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[t][v] = Vec<E, N>{};
  }
  // Adds the products of numbers row[t * row_step] with the vectors at `beside`.
  SWITCHGRAD_INLINE void add(const E* row, int64_t row_step, const E* beside) {
    add_loaded(row, row_step, beside, std::make_integer_sequence<int, V>{});
  }
  SWITCHGRAD_INLINE void write(E* to, int64_t step) const {
    each([&](int t, int v, Vec<E, N> found) { store(to + t * step + v * N, found); });
  }
  SWITCHGRAD_INLINE void add_to(E* to, int64_t step) const {
    each([&](int t, int v, Vec<E, N> found) {
      E* at = to + t * step + v * N;
      store(at, load<Vec<E, N>>(at) + found);
    });
  }
  // Calls body(t, v, vector) for every sum.
  template <class F>
  SWITCHGRAD_INLINE void each(const F& body) const {
#pragma GCC unroll 24
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) body(t, v, sum[t][v]);
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
#pragma GCC unroll 24
    for (int t = 0; t < T; ++t) {
      const auto x = broadcast<E, N>(row[t * row_step]);
      ((sum[t][v] += x * vectors), ...);
    }
  }
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
