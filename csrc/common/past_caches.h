// Results that are too large for the caches go past them: nobody would find them there, and a line that is written
// whole need not be read before.
#pragma once

#include "common/lanes.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// A vector to memory that is aligned to its size; nothing reads it before `all_past_caches`.
template <class E>
SWITCHGRAD_INLINE void store_past_caches(E* to, Vec<E, lanes_of<E>> v) {
#if defined(__AVX512BW__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), bits<__m512i>(v));
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), bits<__m256i>(v));
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), bits<__m128i>(v));
#else
  store(to, v);
#endif
}

// The same of a vector's first numbers, as many as fill pieces of 16 bytes, to memory that is aligned to such pieces:
// the processor gathers lines from pieces that follow each other.
constexpr int64_t piece_past_caches = 16;
template <class V, class E>
SWITCHGRAD_INLINE void store_pieces_past_caches(E* to, V v, int64_t count) {
#if defined(__SSE2__)
  const int64_t pieces = count * static_cast<int64_t>(sizeof(E)) / piece_past_caches;
  auto* at = reinterpret_cast<__m128i*>(to);
  if constexpr (sizeof(V) == 16) {
    if (pieces > 0) _mm_stream_si128(at, bits<__m128i>(v));
    return;
  }
#if defined(__AVX2__)
  if constexpr (sizeof(V) == 32) {
    const auto whole = bits<__m256i>(v);
    if (pieces > 0) _mm_stream_si128(at, _mm256_castsi256_si128(whole));
    if (pieces > 1) _mm_stream_si128(at + 1, _mm256_extracti128_si256(whole, 1));
    return;
  }
#endif
#if defined(__AVX512BW__)
  if constexpr (sizeof(V) == 64) {
    const auto whole = bits<__m512i>(v);
    if (pieces > 0) _mm_stream_si128(at, _mm512_castsi512_si128(whole));
    if (pieces > 1) _mm_stream_si128(at + 1, _mm512_extracti32x4_epi32(whole, 1));
    if (pieces > 2) _mm_stream_si128(at + 2, _mm512_extracti32x4_epi32(whole, 2));
    if (pieces > 3) _mm_stream_si128(at + 3, _mm512_extracti32x4_epi32(whole, 3));
    return;
  }
#endif
#endif
  std::memcpy(to, &v, static_cast<size_t>(count) * sizeof(E));
}

// What a thread wrote past the caches is seen by all others from here on.
inline void all_past_caches() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
