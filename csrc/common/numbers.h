// Numbers of any floating-point type as lanes to calculate with: 16-bit floats are widened to float and rounded back.
#pragma once

#include "common/element.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class T>
using Raw = typename Element<T>::Raw;
template <class T>
using Wide = typename Element<T>::Sum;
template <class T>
constexpr int wide_lanes = vector_bytes / static_cast<int>(sizeof(Wide<T>));

// Words to double words and back. GCC takes convertvector apart into single lanes here, so x86 says it in instructions.
template <int N>
SWITCHGRAD_INLINE Vec<uint32_t, N> widen_words(Vec<int16_t, N> words) {
#if defined(__AVX512BW__)
  if constexpr (N == 16) return bits<Vec<uint32_t, N>>(_mm512_cvtepu16_epi32(bits<__m256i>(words)));
#endif
#if defined(__AVX2__)
  if constexpr (N == 8) return bits<Vec<uint32_t, N>>(_mm256_cvtepu16_epi32(bits<__m128i>(words)));
  if constexpr (N == 4) return bits<Vec<uint32_t, N>>(_mm_cvtepu16_epi32(_mm_cvtsi64_si128(bits<int64_t>(words))));
#elif defined(__SSE2__)
  if constexpr (N == 4)
    return bits<Vec<uint32_t, N>>(_mm_unpacklo_epi16(_mm_cvtsi64_si128(bits<int64_t>(words)), _mm_setzero_si128()));
#endif
  return convert<uint32_t, N>(bits<Vec<uint16_t, N>>(words));
}
template <int N>
SWITCHGRAD_INLINE Vec<int16_t, N> narrow_words(Vec<uint32_t, N> wide) {  // of numbers below 2^16
#if defined(__AVX512BW__)
  if constexpr (N == 16) return bits<Vec<int16_t, N>>(_mm512_cvtepi32_epi16(bits<__m512i>(wide)));
#endif
#if defined(__AVX2__)
  if constexpr (N == 8) {
    const auto v = bits<__m256i>(wide);
    return bits<Vec<int16_t, N>>(_mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
  }
  if constexpr (N == 4) {
    const auto v = bits<__m128i>(wide);
    return bits<Vec<int16_t, N>>(static_cast<int64_t>(_mm_cvtsi128_si64(_mm_packus_epi32(v, v))));
  }
#elif defined(__SSE2__)
  if constexpr (N == 4) {
    const __m128i v = _mm_srai_epi32(_mm_slli_epi32(bits<__m128i>(wide), 16), 16);
    return bits<Vec<int16_t, N>>(static_cast<int64_t>(_mm_cvtsi128_si64(_mm_packs_epi32(v, v))));
  }
#endif
  return convert<int16_t, N>(wide);
}

template <class T, int N>
struct Halves;

template <int N>
struct Halves<BFloat16, N> {
  using Words = Vec<uint32_t, N>;
  SWITCHGRAD_INLINE static Vec<float, N> widen(Vec<int16_t, N> raw) {
    return bits<Vec<float, N>>(static_cast<Words>(widen_words<N>(raw) << 16));
  }
  SWITCHGRAD_INLINE static Vec<int16_t, N> narrow(Vec<float, N> wide) {
    const auto word = bits<Words>(wide);
    const auto rounded = static_cast<Words>((word + 0x7fff + ((word >> 16) & 1)) >> 16);
    const auto nan = static_cast<Words>(Words{} + 0x7fc0u);
    return narrow_words<N>(select((word & 0x7fffffffu) > 0x7f800000u, nan, rounded));
  }
};

// As Element<Float16> does it, every case worked out and the right one chosen.
template <int N>
struct Halves<Float16, N> {
  using Words = Vec<uint32_t, N>;
  SWITCHGRAD_INLINE static Vec<float, N> widen(Vec<int16_t, N> raw) {
#if defined(__AVX512F__)
    if constexpr (N == 16) return bits<Vec<float, N>>(_mm512_cvtph_ps(bits<__m256i>(raw)));
#endif
    const Words half = widen_words<N>(raw);
    const auto magnitude = static_cast<Words>((half & 0x7fffu) << 13);
    const auto scaled = bits<Words>(static_cast<Vec<float, N>>(bits<Vec<float, N>>(magnitude) * 0x1p112f));
    const auto odd = static_cast<Words>(magnitude | 0x7f800000u);  // infinities and NaN
    const auto word = select((half & 0x7c00u) == 0x7c00u, odd, scaled);
    return bits<Vec<float, N>>(static_cast<Words>(word | ((half & 0x8000u) << 16)));
  }
  SWITCHGRAD_INLINE static Vec<int16_t, N> narrow(Vec<float, N> wide) {
    const auto word = bits<Words>(wide);
    const auto sign = static_cast<Words>((word >> 16) & 0x8000u);
    const auto magnitude = static_cast<Words>(word & 0x7fffffffu);
    const auto added = bits<Words>(static_cast<Vec<float, N>>(bits<Vec<float, N>>(magnitude) + 0.5f));
    const auto subnormal = static_cast<Words>(added - 0x3f000000u);  // the addition has rounded
    const auto normal = static_cast<Words>((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13);
    auto result = select(magnitude < 0x38800000u, subnormal, normal);
    result = select(magnitude >= 0x477ff000u, static_cast<Words>(Words{} + 0x7c00u), result);
    result = select(magnitude > 0x7f800000u, static_cast<Words>(Words{} + 0x7e00u), result);
    return narrow_words<N>(static_cast<Words>(result | sign));
  }
};

template <class T, int N, class Cover = Whole>
SWITCHGRAD_INLINE Vec<Wide<T>, N> load_wide(const Raw<T>* from, Cover cover = {}) {
  const auto raw = load<Vec<Raw<T>, N>>(from, cover);
  if constexpr (std::is_same_v<Raw<T>, Wide<T>>) {
    return raw;
  } else {
    return Halves<T, N>::widen(raw);
  }
}

template <class T, int N, class Cover = Whole>
SWITCHGRAD_INLINE void store_wide(Raw<T>* to, Vec<Wide<T>, N> wide, Cover cover = {}) {
  if constexpr (std::is_same_v<Raw<T>, Wide<T>>) {
    store(to, wide, cover);
  } else {
    store(to, Halves<T, N>::narrow(wide), cover);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
