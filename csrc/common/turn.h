// A square of vectors turned over: rows become columns.
#pragma once

#include "common/simd.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Zips the first half of the vectors with the second.
template <class E, int N, int Count>
SWITCHGRAD_INLINE void zip_halves(Vec<E, N> (&v)[Count]) {
  constexpr auto lanes = std::make_integer_sequence<int, N>{};
  Vec<E, N> zip[Count];
#pragma GCC unroll 16
  for (int i = 0; i < Count / 2; ++i) {
    zip[2 * i] = pick<E, N>(v[i], v[i + Count / 2], zipped<0, N>(lanes));
    zip[2 * i + 1] = pick<E, N>(v[i], v[i + Count / 2], zipped<N / 2, N>(lanes));
  }
#pragma GCC unroll 16
  for (int i = 0; i < Count; ++i) v[i] = zip[i];
}

// The first lane of each vector, then the second of each and so on: after log2(Count) zips they lie so. Of as many
// vectors as lanes, that makes a square turned over.
template <class E, int N, int Count>
SWITCHGRAD_INLINE void interleave(Vec<E, N> (&v)[Count]) {
#pragma GCC unroll 4
  for (int size = 1; size < Count; size *= 2) zip_halves<E, N, Count>(v);
}
template <class E, int N>
SWITCHGRAD_INLINE void turn_over(Vec<E, N> (&v)[N]) {
  interleave<E, N, N>(v);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
