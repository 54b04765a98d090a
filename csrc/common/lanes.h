// How many elements a vector has, and its first lanes alone.
#pragma once

#include "common/simd.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class E>
constexpr int lanes_of = vector_bytes / static_cast<int>(sizeof(E));

inline int64_t rounded_up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

// The first `count` lanes of a vector from memory, the others 0.
template <int N, class E>
SWITCHGRAD_INLINE Vec<E, N> load_first(const E* from, int64_t count) {
  if (count >= N) return load<Vec<E, N>>(from);
#if defined(__AVX512BW__)
  return load<Vec<E, N>>(from, Part{count});
#else
  E lanes[N] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return load<Vec<E, N>>(lanes);
#endif
}

// The first `count` lanes of a vector to memory, whatever the instruction set.
template <int N, class E>
SWITCHGRAD_INLINE void store_first(E* to, Vec<E, N> v, int64_t count) {
  if (count >= N) return store(to, v);
#if defined(__AVX512BW__)
  store(to, v, Part{count});
#else
  E lanes[N];
  std::memcpy(lanes, &v, sizeof(v));
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
#endif
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
