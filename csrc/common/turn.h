// A square of vectors turned over: rows become columns.
#pragma once

#include "common/simd.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Zips the first half of the vectors with the second: after log2(N) times the square is turned over.
template <class E, int N>
SWITCHGRAD_INLINE void zip_halves(Vec<E, N> (&v)[N]) {
  constexpr auto lanes = std::make_integer_sequence<int, N>{};
  Vec<E, N> zip[N];
#pragma GCC unroll 16
  for (int i = 0; i < N / 2; ++i) {
    zip[2 * i] = pick<E, N>(v[i], v[i + N / 2], zipped<0, N>(lanes));
    zip[2 * i + 1] = pick<E, N>(v[i], v[i + N / 2], zipped<N / 2, N>(lanes));
  }
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) v[i] = zip[i];
}

template <class E, int N>
SWITCHGRAD_INLINE void turn_over(Vec<E, N> (&v)[N]) {
#pragma GCC unroll 4
  for (int size = 1; size < N; size *= 2) zip_halves<E, N>(v);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
