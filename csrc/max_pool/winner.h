// The winner among neighbours in memory: first the largest in lanes, then the cell that holds it.
#pragma once

#include "common/element.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// The lanes of a comparison that hold: as many bits each as a lane has bytes.
template <class M>
SWITCHGRAD_INLINE uint64_t bits_of(M lanes) {
#if defined(__AVX512BW__)
  if constexpr (sizeof(M) == 64) return _mm512_movepi8_mask(bits<__m512i>(lanes));
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(M) == 32) return static_cast<uint32_t>(_mm256_movemask_epi8(bits<__m256i>(lanes)));
#endif
#if defined(__SSE2__)
  if constexpr (sizeof(M) == 16) return static_cast<uint32_t>(_mm_movemask_epi8(bits<__m128i>(lanes)));
#endif
  uint8_t bytes[sizeof(M)];
  std::memcpy(bytes, &lanes, sizeof(M));
  uint64_t found = 0;
  for (size_t i = 0; i < sizeof(M); ++i) found |= static_cast<uint64_t>(bytes[i] & 1) << i;
  return found;
}

template <int By, int... I>
constexpr auto turned(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, ((I + By) % static_cast<int>(sizeof...(I)))...>{};
}

template <class T, int N>
SWITCHGRAD_INLINE Vec<typename Element<T>::Raw, N> larger(Vec<typename Element<T>::Raw, N> best,
                                                          Vec<typename Element<T>::Raw, N> next) {
  return select(Element<T>::beats(next, best), next, best);
}

template <class T, int N, int By = N / 2>
SWITCHGRAD_INLINE typename Element<T>::Raw largest_lane(Vec<typename Element<T>::Raw, N> keys) {
  using Raw = typename Element<T>::Raw;
  if constexpr (By == 0) {
    return keys[0];
  } else {
    const auto beside = pick<Raw, N>(keys, keys, turned<By>(std::make_integer_sequence<int, N>{}));
    return largest_lane<T, N, By / 2>(larger<T, N>(keys, beside));
  }
}

// The largest key of at least N neighbours; four chains, because each comparison waits for the one before.
template <class T, int N>
SWITCHGRAD_INLINE typename Element<T>::Raw largest_key(const typename Element<T>::Raw* from, int64_t count) {
  const auto at = [&](int64_t i) { return Element<T>::key(load<Vec<typename Element<T>::Raw, N>>(from + i)); };
  auto a = at(0), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * N <= count; i += 4 * N) {
    a = larger<T, N>(a, at(i));
    b = larger<T, N>(b, at(i + N));
    c = larger<T, N>(c, at(i + 2 * N));
    d = larger<T, N>(d, at(i + 3 * N));
  }
  for (; i + N <= count; i += N) a = larger<T, N>(a, at(i));
  if (i < count) b = larger<T, N>(b, at(count - N));
  return largest_lane<T, N>(larger<T, N>(larger<T, N>(a, b), larger<T, N>(c, d)));
}

// Only NaN beats itself.
template <class T>
SWITCHGRAD_INLINE bool is_nan_key(typename Element<T>::Raw key) {
  return Element<T>::beats(key, key);
}

// The place of the winner among `count` neighbours: the first of the largest, or the last NaN.
template <class T>
int64_t winner_of_run(const typename Element<T>::Raw* from, int64_t count) {
  using Raw = typename Element<T>::Raw;
  constexpr int N = vector_bytes / static_cast<int>(sizeof(Raw));
  if (count < N) {
    int64_t winner = 0;
    Raw best = Element<T>::key(from[0]);
    for (int64_t i = 1; i < count; ++i) {
      const Raw key = Element<T>::key(from[i]);
      if (!Element<T>::beats(key, best)) continue;
      best = key;
      winner = i;
    }
    return winner;
  }
  const Raw best = largest_key<T, N>(from, count);
  if (is_nan_key<T>(best)) {
    int64_t i = count - 1;
    while (!is_nan_key<T>(Element<T>::key(from[i]))) --i;
    return i;
  }
  const auto wanted = broadcast<Raw, N>(best);
  for (int64_t i = 0;; i += N) {
    if (i > count - N) i = count - N;
    const auto keys = Element<T>::key(load<Vec<Raw, N>>(from + i));
    const uint64_t found = bits_of(keys == wanted);
    if (found != 0) return i + __builtin_ctzll(found) / static_cast<int>(sizeof(Raw));
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
