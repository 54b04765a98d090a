// Powers of numbers that are 0 or above, lane by lane, with the same bits in every instruction set.
#pragma once

#include <cmath>

#include "common/numbers.h"
#include "lp_pool/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class E, int N>
SWITCHGRAD_INLINE Vec<E, N> square_root(Vec<E, N> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(x) == 64 && sizeof(E) == 4) return bits<Vec<E, N>>(_mm512_sqrt_ps(bits<__m512>(x)));
  if constexpr (sizeof(x) == 64 && sizeof(E) == 8) return bits<Vec<E, N>>(_mm512_sqrt_pd(bits<__m512d>(x)));
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(x) == 32 && sizeof(E) == 4) return bits<Vec<E, N>>(_mm256_sqrt_ps(bits<__m256>(x)));
  if constexpr (sizeof(x) == 32 && sizeof(E) == 8) return bits<Vec<E, N>>(_mm256_sqrt_pd(bits<__m256d>(x)));
#endif
#if defined(__SSE2__)
  if constexpr (sizeof(x) == 16 && sizeof(E) == 4) return bits<Vec<E, N>>(_mm_sqrt_ps(bits<__m128>(x)));
  if constexpr (sizeof(x) == 16 && sizeof(E) == 8) return bits<Vec<E, N>>(_mm_sqrt_pd(bits<__m128d>(x)));
#endif
  if constexpr (N == 1) {
    return std::sqrt(x);
  } else {
    Vec<E, N> root{};
    for (int i = 0; i < N; ++i) root[i] = std::sqrt(x[i]);
    return root;
  }
}

// The logarithm to base 2 of a positive normal number: its exponent, and a series in s = (m - 1) / (m + 1) for the rest
// m from sqrt(1/2) to sqrt(2). The first term left out is below 1.3e-12 of the sum.
template <int N>
SWITCHGRAD_INLINE Vec<double, N> logarithm(Vec<double, N> x) {
  using V = Vec<double, N>;
  using I = Vec<int64_t, N>;
  constexpr int64_t of_root_half = 0x3fe6a09e667f3bcd;  // the bits of sqrt(1/2)
  const auto word = static_cast<I>(bits<I>(x) - of_root_half);
  const auto exponent = static_cast<I>(word >> 52);
  const V m = bits<V>(static_cast<I>((word & 0xfffffffffffff) + of_root_half));
  const V s = (m - 1.0) / (m + 1.0), square = s * s;
  V sum = broadcast<double, N>(1.0 / 13);
  for (const double by : {1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0}) sum = sum * square + by;
  constexpr double twice_per_ln2 = 2.8853900817779268;
  return convert<double, N>(exponent) + sum * s * twice_per_ln2;
}

// 2^t: a whole power, put together from its bits, times e^(f ln 2) with |f| <= 1/2 by its series. What lies beyond
// float's numbers on either side stays beyond them.
template <int N>
SWITCHGRAD_INLINE Vec<double, N> power_of_two(Vec<double, N> t) {
  using V = Vec<double, N>;
  using I = Vec<int64_t, N>;
  const V most = broadcast<double, N>(1000.0);
  t = select(t > most, most, select(t < -most, -most, t));
  constexpr double whole_only = 0x1.8p52;  // numbers as large as this have no fraction: adding it rounds
  const V rounded = t + whole_only;
  const V f = (t - (rounded - whole_only)) * 0.69314718055994531;
  V sum = broadcast<double, N>(1.0 / 362880);
  for (const double by : {1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1.0, 1.0})
    sum = sum * f + by;
  const auto whole = static_cast<I>((bits<I>(rounded) + 1023) << 52);
  return sum * bits<V>(whole);
}

// Half of the lanes of a vector whose doubles would not fit in one, and two halves as one.
template <int Half, int N>
SWITCHGRAD_INLINE Vec<float, N / 2> half_of(Vec<float, N> x) {
#if defined(__AVX512DQ__)
  if constexpr (N == 16) return bits<Vec<float, 8>>(_mm512_extractf32x8_ps(bits<__m512>(x), Half));
#endif
#if defined(__AVX2__)
  if constexpr (N == 8) return bits<Vec<float, 4>>(_mm256_extractf128_ps(bits<__m256>(x), Half));
#endif
  Vec<float, N / 2> half;
  std::memcpy(&half, reinterpret_cast<const char*>(&x) + Half * sizeof(half), sizeof(half));
  return half;
}
template <int N>
SWITCHGRAD_INLINE Vec<float, N> both(Vec<float, N / 2> low, Vec<float, N / 2> high) {
#if defined(__AVX512DQ__)
  if constexpr (N == 16)
    return bits<Vec<float, 16>>(_mm512_insertf32x8(_mm512_castps256_ps512(bits<__m256>(low)), bits<__m256>(high), 1));
#endif
#if defined(__AVX2__)
  if constexpr (N == 8)
    return bits<Vec<float, 8>>(_mm256_insertf128_ps(_mm256_castps128_ps256(bits<__m128>(low)), bits<__m128>(high), 1));
#endif
  Vec<float, N> x;
  std::memcpy(&x, &low, sizeof(low));
  std::memcpy(reinterpret_cast<char*>(&x) + sizeof(low), &high, sizeof(high));
  return x;
}

template <int N>
SWITCHGRAD_INLINE Vec<float, N> power_by_logarithm(Vec<float, N> x, double exponent) {
  if constexpr (N > 1 && N * sizeof(double) > vector_bytes) {
    return both<N>(power_by_logarithm<N / 2>(half_of<0, N>(x), exponent),
                   power_by_logarithm<N / 2>(half_of<1, N>(x), exponent));
  } else {
    using V = Vec<float, N>;
    const auto power = convert<float, N>(power_of_two<N>(logarithm<N>(convert<double, N>(x)) * exponent));
    const V infinity = broadcast<float, N>(__builtin_inff());
    const V at_infinity = broadcast<float, N>(exponent > 0 ? __builtin_inff() : 0.0f);
    return select(x == infinity, at_infinity, select(x != x, x, static_cast<V>(power)));
  }
}

template <int N>
SWITCHGRAD_INLINE Vec<double, N> power_by_logarithm(Vec<double, N> x, double exponent) {
  if constexpr (N == 1) {
    return std::pow(x, exponent);
  } else {
    for (int i = 0; i < N; ++i) x[i] = std::pow(x[i], exponent);
    return x;
  }
}

// x^|e| of a product.
template <class E, int N, class Power>
SWITCHGRAD_INLINE Vec<E, N> product_of(Vec<E, N> x, Power e) {
  Vec<E, N> y = e.half ? square_root<E, N>(x) : broadcast<E, N>(1);
  for (int i = 0; i < e.whole; ++i) y = y * x;
  return y;
}

// by x^e, for x above 0 (or NaN); what it gives at 0 is left to those who call.
template <class E, int N, class Power>
SWITCHGRAD_INLINE Vec<E, N> times_power(Vec<E, N> by, Vec<E, N> x, Power e) {
  if (!e.is_product) return by * power_by_logarithm<N>(x, e.value);
  const Vec<E, N> power = product_of<E, N>(x, e);
  return e.below ? by / power : by * power;
}

// The exponents of p = 2, known when this is compiled: 2, 1/2, 1 and -1.
template <int Whole, bool Half, bool Below>
struct KnownExponent {
  static constexpr double value = 0;
  static constexpr bool is_product = true, half = Half, below = Below;
  static constexpr int whole = Whole;
};
template <class F>
SWITCHGRAD_INLINE void with_exponent(const Exponent& e, const F& body) {
  if (e.value == 2) return body(KnownExponent<2, false, false>{});
  if (e.value == 0.5) return body(KnownExponent<0, true, false>{});
  if (e.value == 1) return body(KnownExponent<1, false, false>{});
  if (e.value == -1) return body(KnownExponent<1, false, true>{});
  body(e);
}

template <class E, int N>
SWITCHGRAD_INLINE Vec<E, N> magnitude(Vec<E, N> x) {
  return select(x < Vec<E, N>{}, -x, x + Vec<E, N>{});  // -0 + 0 is 0
}

template <class E, int N, class Power>
SWITCHGRAD_INLINE Vec<E, N> power_or_0(Vec<E, N> x, Power e) {
  using V = Vec<E, N>;
  return select(x == V{}, V{}, times_power<E, N>(broadcast<E, N>(1), x, e));
}

template <class T>
void powers(const void* from, void* to, int64_t count, const Exponent& exponent) {
  const auto* x = static_cast<const Raw<T>*>(from);
  auto* sums = static_cast<Wide<T>*>(to);
  with_exponent(exponent, [&](auto e) {
    cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
      constexpr int N = decltype(lanes)::value;
      const auto size = magnitude<Wide<T>, N>(load_wide<T, N>(x + i, cover));
      store(sums + i, power_or_0<Wide<T>, N>(size, e), cover);
    });
  });
}

template <class T>
void roots(const void* from, void* to, int64_t count, const Exponent& exponent) {
  const auto* sums = static_cast<const Wide<T>*>(from);
  auto* values = static_cast<Raw<T>*>(to);
  with_exponent(exponent, [&](auto e) {
    cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
      constexpr int N = decltype(lanes)::value;
      store_wide<T, N>(values + i, power_or_0<Wide<T>, N>(load<Vec<Wide<T>, N>>(sums + i, cover), e), cover);
    });
  });
}

template <class T>
void shares(const void* first, const void* second, void* to, int64_t count, const Exponent& exponent) {
  const auto *g = static_cast<const Raw<T>*>(first), *y = static_cast<const Raw<T>*>(second);
  auto* sums = static_cast<Wide<T>*>(to);
  with_exponent(exponent, [&](auto e) {
    cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
      constexpr int N = decltype(lanes)::value;
      using V = Vec<Wide<T>, N>;
      const V norm = load_wide<T, N>(y + i, cover);
      const V share = times_power<Wide<T>, N>(load_wide<T, N>(g + i, cover), norm, e);
      store(sums + i, select(norm == V{}, V{}, share), cover);
    });
  });
}

template <class T>
void slopes(const void* first, const void* second, void* to, int64_t count, const Exponent& exponent) {
  const auto* sums = static_cast<const Wide<T>*>(first);
  const auto* x = static_cast<const Raw<T>*>(second);
  auto* result = static_cast<Raw<T>*>(to);
  with_exponent(exponent, [&](auto e) {
    cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
      constexpr int N = decltype(lanes)::value;
      using V = Vec<Wide<T>, N>;
      const V cell = load_wide<T, N>(x + i, cover), sum = load<V>(sums + i, cover);
      const V slope = times_power<Wide<T>, N>(sum, magnitude<Wide<T>, N>(cell), e);
      const V not_above = select(cell < V{}, static_cast<V>(-slope), static_cast<V>(cell + V{}));  // 0, or NaN
      store_wide<T, N>(result + i, select(cell > V{}, slope, not_above), cover);
    });
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
