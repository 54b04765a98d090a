// A few vector operations on N lanes, in the compilers' vector extensions: one text for every instruction set.
//
// This header is compiled once per instruction set (SWITCHGRAD_ISA names the namespace), so nothing in it may be
// shared between them: an inline function that the linker merges could carry AVX-512 code into the base kernels.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// The inner loops must see through these functions: a vector that is returned through memory costs more than its work.
#define SWITCHGRAD_INLINE inline __attribute__((always_inline))

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

template <class To, class V>
SWITCHGRAD_INLINE To bits(V v) {
  static_assert(sizeof(To) == sizeof(V));
  To to;
  std::memcpy(&to, &v, sizeof(To));
  return to;
}

// Which lanes of a vector a load or store touches: all of them, or the first few. AVX-512 has masks for the latter;
// elsewhere the last block of a row is drawn back instead (see blocks), and no vector is ever touched in part.
struct Whole {};
struct Part {
  int64_t lanes;
};

template <class V, class E>
SWITCHGRAD_INLINE V load(const E* from, Whole = {}) {
  V v;
  std::memcpy(&v, from, sizeof(V));
  return v;
}
template <class V, class E>
SWITCHGRAD_INLINE void store(E* to, V v, Whole = {}) {
  std::memcpy(to, &v, sizeof(V));
}

#if defined(__AVX512BW__)
constexpr bool has_parts = true;

inline uint64_t first_lanes(int64_t lanes) { return _bzhi_u64(~uint64_t{0}, static_cast<uint64_t>(lanes)); }

// Masks count lanes of their own width; single bytes come in vectors of any length.
template <class V, class E>
SWITCHGRAD_INLINE V load(const E* from, Part part) {
  const uint64_t mask = first_lanes(part.lanes);
  if constexpr (sizeof(V) == 64) {
    if constexpr (sizeof(E) == 1) return bits<V>(_mm512_maskz_loadu_epi8(mask, from));
    if constexpr (sizeof(E) == 2) return bits<V>(_mm512_maskz_loadu_epi16(static_cast<__mmask32>(mask), from));
    if constexpr (sizeof(E) == 4) return bits<V>(_mm512_maskz_loadu_epi32(static_cast<__mmask16>(mask), from));
    if constexpr (sizeof(E) == 8) return bits<V>(_mm512_maskz_loadu_epi64(static_cast<__mmask8>(mask), from));
  } else if constexpr (sizeof(V) == 32) {
    if constexpr (sizeof(E) == 1) return bits<V>(_mm256_maskz_loadu_epi8(static_cast<__mmask32>(mask), from));
    if constexpr (sizeof(E) == 2) return bits<V>(_mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask), from));
    if constexpr (sizeof(E) == 4) return bits<V>(_mm256_maskz_loadu_epi32(static_cast<__mmask8>(mask), from));
  } else if constexpr (sizeof(V) == 16 && sizeof(E) == 2) {
    return bits<V>(_mm_maskz_loadu_epi16(static_cast<__mmask8>(mask), from));
  } else if constexpr (sizeof(V) == 16) {
    return bits<V>(_mm_maskz_loadu_epi8(static_cast<__mmask16>(mask), from));
  } else {
    return bits<V>(_mm_cvtsi128_si64(_mm_maskz_loadu_epi8(static_cast<__mmask16>(mask), from)));
  }
}
template <class V, class E>
SWITCHGRAD_INLINE void store(E* to, V v, Part part) {
  const uint64_t mask = first_lanes(part.lanes);
  if constexpr (sizeof(V) == 64) {
    const auto lanes = bits<__m512i>(v);
    if constexpr (sizeof(E) == 1) _mm512_mask_storeu_epi8(to, mask, lanes);
    if constexpr (sizeof(E) == 2) _mm512_mask_storeu_epi16(to, static_cast<__mmask32>(mask), lanes);
    if constexpr (sizeof(E) == 4) _mm512_mask_storeu_epi32(to, static_cast<__mmask16>(mask), lanes);
    if constexpr (sizeof(E) == 8) _mm512_mask_storeu_epi64(to, static_cast<__mmask8>(mask), lanes);
  } else if constexpr (sizeof(V) == 32) {
    if constexpr (sizeof(E) == 1) _mm256_mask_storeu_epi8(to, static_cast<__mmask32>(mask), bits<__m256i>(v));
    if constexpr (sizeof(E) == 2) _mm256_mask_storeu_epi16(to, static_cast<__mmask16>(mask), bits<__m256i>(v));
    if constexpr (sizeof(E) == 4) _mm256_mask_storeu_epi32(to, static_cast<__mmask8>(mask), bits<__m256i>(v));
  } else if constexpr (sizeof(V) == 16 && sizeof(E) == 2) {
    _mm_mask_storeu_epi16(to, static_cast<__mmask8>(mask), bits<__m128i>(v));
  } else if constexpr (sizeof(V) == 16) {
    _mm_mask_storeu_epi8(to, static_cast<__mmask16>(mask), bits<__m128i>(v));
  } else {
    _mm_mask_storeu_epi8(to, static_cast<__mmask16>(mask), _mm_cvtsi64_si128(bits<int64_t>(v)));
  }
}
#else
constexpr bool has_parts = false;
#endif

// The parts of the two halves of 2N lanes of which the first 2 * part.lanes are touched.
inline Whole lower_half(Whole, int64_t) { return {}; }
inline Whole upper_half(Whole, int64_t) { return {}; }
inline Part lower_half(Part part, int64_t n) { return {2 * part.lanes < n ? 2 * part.lanes : n}; }
inline Part upper_half(Part part, int64_t n) { return {2 * part.lanes < n ? 0 : 2 * part.lanes - n}; }

// Asks for the cache lines that a loop will read some blocks from now: the processor's own look-ahead stops
// at each page of 4 KiB. Asking beyond the end of a tensor is harmless.
constexpr int64_t ahead_bytes = 3072;
template <int Bytes>
SWITCHGRAD_INLINE void fetch_ahead(const void* at) {
  const auto address = reinterpret_cast<uintptr_t>(at) + ahead_bytes;
  for (int line = 0; line < Bytes; line += 64) __builtin_prefetch(reinterpret_cast<const void*>(address + line));
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
SWITCHGRAD_INLINE V select(M mask, V yes, V no) {
  return mask ? yes : no;
}

// Lanes from one element type to another: widening, narrowing or between integers and floats.
template <class To, int N, class V>
SWITCHGRAD_INLINE Vec<To, N> convert(V v) {
  if constexpr (N == 1) {
    return static_cast<To>(v);
  } else {
    return __builtin_convertvector(v, Vec<To, N>);
  }
}

// Codes between memory (bytes) and lanes. GCC takes convertvector apart into single lanes where it has to cross
// several widths, so x86 says it in instructions; codes in lanes are 0 .. 255, so packing never saturates.
template <class Lane, int N, class Code>
SWITCHGRAD_INLINE Vec<Lane, N> widen_codes(Vec<Code, N> codes) {
#if defined(__AVX2__)
  if constexpr (sizeof(Code) == 1 && N > 1) {
    __m256i room = _mm256_setzero_si256();
    std::memcpy(&room, &codes, sizeof(codes));
    const __m128i bytes = _mm256_castsi256_si128(room);
#if defined(__AVX512BW__)
    if constexpr (sizeof(Lane) == 8 && N == 8) return bits<Vec<Lane, N>>(_mm512_cvtepu8_epi64(bytes));
    if constexpr (sizeof(Lane) == 4 && N == 16) return bits<Vec<Lane, N>>(_mm512_cvtepu8_epi32(bytes));
    if constexpr (sizeof(Lane) == 2 && N == 32) return bits<Vec<Lane, N>>(_mm512_cvtepu8_epi16(room));
#endif
    if constexpr (sizeof(Lane) == 8 && N == 4) return bits<Vec<Lane, N>>(_mm256_cvtepu8_epi64(bytes));
    if constexpr (sizeof(Lane) == 4 && N == 8) return bits<Vec<Lane, N>>(_mm256_cvtepu8_epi32(bytes));
    if constexpr (sizeof(Lane) == 4 && N == 4) return bits<Vec<Lane, N>>(_mm_cvtepu8_epi32(bytes));
    if constexpr (sizeof(Lane) == 2 && N == 16) return bits<Vec<Lane, N>>(_mm256_cvtepu8_epi16(bytes));
    if constexpr (sizeof(Lane) == 2 && N == 8) return bits<Vec<Lane, N>>(_mm_cvtepu8_epi16(bytes));
  }
#elif defined(__SSE2__)
  if constexpr (sizeof(Code) == 1 && sizeof(Lane) <= 4 && sizeof(Lane) * N == 16 && N > 1 && sizeof(Lane) > 1) {
    int64_t word = 0;
    std::memcpy(&word, &codes, sizeof(codes));
    const __m128i zero = _mm_setzero_si128(), words = _mm_unpacklo_epi8(_mm_cvtsi64_si128(word), zero);
    return bits<Vec<Lane, N>>(sizeof(Lane) == 2 ? words : _mm_unpacklo_epi16(words, zero));
  }
#endif
  return convert<Lane, N>(codes);
}

template <class Code, int N, class V>
SWITCHGRAD_INLINE Vec<Code, N> narrow_codes(V lanes) {
#if defined(__AVX2__) && !defined(__AVX512BW__)
  if constexpr (sizeof(Code) == 1 && N > 1 && sizeof(V) == 32 && sizeof(V) / N <= 4 && sizeof(V) > N) {
    const auto v = bits<__m256i>(lanes);
    const __m128i low = _mm256_castsi256_si128(v), high = _mm256_extracti128_si256(v, 1);
    const __m128i words = sizeof(V) / N == 4 ? _mm_packs_epi32(low, high) : low;
    const __m128i bytes = _mm_packus_epi16(words, sizeof(V) / N == 4 ? words : high);
    Vec<Code, N> codes;
    std::memcpy(&codes, &bytes, sizeof(codes));
    return codes;
  }
#endif
#if defined(__SSE2__) && !defined(__AVX512BW__)
  if constexpr (sizeof(Code) == 1 && N > 1 && sizeof(V) == 16 && sizeof(V) / N <= 4 && sizeof(V) > N) {
    const auto v = bits<__m128i>(lanes);
    const __m128i words = sizeof(V) / N == 4 ? _mm_packs_epi32(v, v) : v;
    const __m128i bytes = _mm_packus_epi16(words, words);
    Vec<Code, N> codes;
    std::memcpy(&codes, &bytes, sizeof(codes));
    return codes;
  }
#endif
  return convert<Code, N>(lanes);
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

template <int Half, int N, int... I>
constexpr auto twice(std::integer_sequence<int, I...>) {
  return std::integer_sequence<int, (Half * N / 2 + I / 2)...>{};
}

// Half a vector with each of its lanes twice: a, a, b, b, ...
template <int Half, class E, int N>
SWITCHGRAD_INLINE Vec<E, N> doubled(Vec<E, N> v) {
  return pick<E, N>(v, v, twice<Half, N>(std::make_integer_sequence<int, N>{}));
}
template <class E, int N, int... I>
SWITCHGRAD_INLINE Vec<E, N> alternating(E even, E odd, std::integer_sequence<int, I...>) {
  return Vec<E, N>{(I % 2 == 0 ? even : odd)...};
}

// Reads 2N neighbours and parts them into those at even and those at odd places.
template <class E, int N, class Cover = Whole>
SWITCHGRAD_INLINE void load_pairs(const E* from, Vec<E, N>& even, Vec<E, N>& odd, Cover cover = {}) {
  if constexpr (N == 1) {
    even = from[0];
    odd = from[1];
  } else {
    const auto a = load<Vec<E, N>>(from, lower_half(cover, N));
    const auto b = load<Vec<E, N>>(from + N, upper_half(cover, N));
    constexpr auto lanes = std::make_integer_sequence<int, N>{};
    even = pick<E, N>(a, b, every_second<0>(lanes));
    odd = pick<E, N>(a, b, every_second<1>(lanes));
  }
}

// The inverse of load_pairs: writes even[0], odd[0], even[1], odd[1], ...
template <class E, int N, class Cover = Whole>
SWITCHGRAD_INLINE void store_pairs(E* to, Vec<E, N> even, Vec<E, N> odd, Cover cover = {}) {
  if constexpr (N == 1) {
    to[0] = even;
    to[1] = odd;
  } else {
    constexpr auto lanes = std::make_integer_sequence<int, N>{};
    store(to, pick<E, N>(even, odd, zipped<0, N>(lanes)), lower_half(cover, N));
    store(to + N, pick<E, N>(even, odd, zipped<N / 2, N>(lanes)), upper_half(cover, N));
  }
}

// Calls body(std::integral_constant<int, N>) with the lanes to use for `count` elements: all, where vectors can be
// touched in part, else the widest N that the elements fill.
template <int Most, class F>
inline void with_lanes(int64_t count, F&& body) {
  if constexpr (Most <= 2) {
    body(std::integral_constant<int, 1>{});
  } else if constexpr (has_parts) {
    body(std::integral_constant<int, Most>{});
  } else {
    if (count >= Most) return body(std::integral_constant<int, Most>{});
    if constexpr (Most >= 8) return with_lanes<(Most >= 32 ? Most / 4 : Most / 2)>(count, body);
    body(std::integral_constant<int, 1>{});
  }
}

// Calls body(at, cover) for blocks of N that cover 0 .. count - 1, N chosen by with_lanes. The last block is a part,
// or is drawn back to end at count: then some elements are done twice, with the same result.
template <int N, class F>
inline void blocks(int64_t count, F&& body) {
  int64_t at = 0;
  for (; at + N <= count; at += N) body(at, Whole{});
  if (at == count) return;
  if constexpr (has_parts && N > 1) {
    body(at, Part{count - at});
  } else {
    body(count - N, Whole{});
  }
}

// Rows shorter than a vector, or ending in the middle of one, may be written a little beyond their end while a later
// row of the same task will write there again; that is cheaper than touching a part. `count` elements, rounded up.
template <int N>
inline int64_t spilled(int64_t count) {
  return (count + N - 1) / N * N;
}

// Calls body(lanes, at, cover) for 0 .. count - 1, each once: blocks of N, then a part, or blocks of N / 2 and so on.
template <int N, class F>
inline void cascade(int64_t at, int64_t count, F&& body) {
  for (; at + N <= count; at += N) body(std::integral_constant<int, N>{}, at, Whole{});
  if (at == count) return;
  if constexpr (has_parts && N > 1) {
    body(std::integral_constant<int, N>{}, at, Part{count - at});
  } else if constexpr (N > 1) {
    cascade<(N >= 8 ? N / 2 : 1)>(at, count, body);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
