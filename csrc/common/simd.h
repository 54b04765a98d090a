// A few vector operations on N lanes, in the compilers' vector extensions: one text for every instruction set.
//
// This header is compiled once per instruction set (SWITCHGRAD_ISA names the namespace), so nothing in it may be
// shared between them: an inline function that the linker merges could carry AVX-512 code into the base kernels.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

#if defined(__AVX512BW__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

template <class E, int N>
struct VectorOf {
  typedef E type __attribute__((vector_size(sizeof(E) * N)));
};
template <class E>
struct VectorOf<E, 1> {
  using type = E;
};
template <class E, int N>
using Vec = typename VectorOf<E, N>::type;

template <int Bytes>
struct IntOf;
template <>
struct IntOf<1> {
  using type = int8_t;
};
template <>
struct IntOf<2> {
  using type = int16_t;
};
template <>
struct IntOf<4> {
  using type = int32_t;
};
template <>
struct IntOf<8> {
  using type = int64_t;
};
template <class E>
using Int = typename IntOf<sizeof(E)>::type;

template <class V, class E>
inline V load(const E* from) {
  V v;
  std::memcpy(&v, from, sizeof(V));
  return v;
}
template <class V, class E>
inline void store(E* to, V v) {
  std::memcpy(to, &v, sizeof(V));
}

template <class E, int N>
inline Vec<E, N> broadcast(E value) {
  if constexpr (N == 1) {
    return value;
  } else {
    return value - Vec<E, N>{};  // the compilers' splat; x - 0 keeps NaN, -0 and infinities
  }
}

// Lane by lane: mask ? yes : no.
template <class M, class V>
inline V select(M mask, V yes, V no) {
  return mask ? yes : no;
}

// Lanes from one element type to another: widening, narrowing or between integers and floats.
template <class To, int N, class V>
inline Vec<To, N> convert(V v) {
  if constexpr (N == 1) {
    return static_cast<To>(v);
  } else {
    return __builtin_convertvector(v, Vec<To, N>);
  }
}

template <class To, class V>
inline To bits(V v) {
  static_assert(sizeof(To) == sizeof(V));
  To to;
  std::memcpy(&to, &v, sizeof(To));
  return to;
}

template <class E, int N, int... I>
inline Vec<E, N> pick(Vec<E, N> a, Vec<E, N> b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, I...);
#else
  return __builtin_shuffle(a, b, Vec<Int<E>, N>{I...});
#endif
}
template <int Start, int... I>
constexpr auto every_second(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (Start + 2 * I)...>{};
}
template <int Start, int N, int... I>
constexpr auto zipped(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (Start + I / 2 + (I % 2) * N)...>{};
}

// Reads 2N neighbours and parts them into those at even and those at odd places.
template <class E, int N>
inline void load_pairs(const E* from, Vec<E, N>& even, Vec<E, N>& odd) {
  if constexpr (N == 1) {
    even = from[0];
    odd = from[1];
  } else {
    const auto a = load<Vec<E, N>>(from);
    const auto b = load<Vec<E, N>>(from + N);
    constexpr auto lanes = std::make_integer_sequence<int, N>{};
    even = pick<E, N>(a, b, every_second<0>(lanes));
    odd = pick<E, N>(a, b, every_second<1>(lanes));
  }
}

// The inverse of load_pairs: writes even[0], odd[0], even[1], odd[1], ...
template <class E, int N>
inline void store_pairs(E* to, Vec<E, N> even, Vec<E, N> odd) {
  if constexpr (N == 1) {
    to[0] = even;
    to[1] = odd;
  } else {
    constexpr auto lanes = std::make_integer_sequence<int, N>{};
    store(to, pick<E, N>(even, odd, zipped<0, N>(lanes)));
    store(to + N, pick<E, N>(even, odd, zipped<N / 2, N>(lanes)));
  }
}

// Calls body(std::integral_constant<int, N>) with the widest N <= Most that `count` elements fill.
template <int Most, class F>
inline void with_lanes(int64_t count, F&& body) {
  if constexpr (Most <= 2) {
    body(std::integral_constant<int, 1>{});
  } else {
    if (count >= Most) return body(std::integral_constant<int, Most>{});
    if constexpr (Most >= 8) return with_lanes<(Most >= 32 ? Most / 4 : Most / 2)>(count, body);
    body(std::integral_constant<int, 1>{});
  }
}

// Calls body(at) for blocks of N that cover 0 .. count - 1; the last block is drawn back to end at count, so some
// elements are done twice with the same result and no block is partial. Needs count >= N.
template <int N, class F>
inline void blocks(int64_t count, F&& body) {
  int64_t at = 0;
  for (; at + N <= count; at += N) body(at);
  if (at < count) body(count - N);
}

// Calls body(lanes, at) for 0 .. count - 1 in blocks of N, then of N / 2, ... : every element exactly once.
template <int N, class F>
inline void cascade(int64_t at, int64_t count, F&& body) {
  for (; at + N <= count; at += N) body(std::integral_constant<int, N>{}, at);
  if constexpr (N >= 8) {
    if (at < count) cascade<N / 2>(at, count, body);
  } else if constexpr (N > 1) {
    if (at < count) cascade<1>(at, count, body);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
