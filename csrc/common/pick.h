// Lanes picked out of one or two vectors by their numbers, where the processor can do that in one step.
#pragma once

#include "common/simd.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

#if defined(__AVX512BW__)
constexpr bool can_pick = true;

// lane i: that of a, then b, which `index` names, or 0 where bit i of `mask` is not set.
template <class E, int N>
SWITCHGRAD_INLINE Vec<E, N> picked(uint32_t mask, Vec<Int<E>, N> index, Vec<E, N> a, Vec<E, N> b) {
  const auto at = bits<__m512i>(index);
  if constexpr (sizeof(E) == 4) {
    const auto lanes = static_cast<__mmask16>(mask);
    return bits<Vec<E, N>>(_mm512_maskz_permutex2var_epi32(lanes, bits<__m512i>(a), at, bits<__m512i>(b)));
  } else {
    const auto lanes = static_cast<__mmask8>(mask);
    return bits<Vec<E, N>>(_mm512_maskz_permutex2var_epi64(lanes, bits<__m512i>(a), at, bits<__m512i>(b)));
  }
}
template <class E, int N>
SWITCHGRAD_INLINE Vec<E, N> picked(uint32_t mask, Vec<Int<E>, N> index, Vec<E, N> a) {
  const auto at = bits<__m512i>(index);
  if constexpr (sizeof(E) == 4) {
    return bits<Vec<E, N>>(_mm512_maskz_permutexvar_epi32(static_cast<__mmask16>(mask), at, bits<__m512i>(a)));
  } else {
    return bits<Vec<E, N>>(_mm512_maskz_permutexvar_epi64(static_cast<__mmask8>(mask), at, bits<__m512i>(a)));
  }
}
#else
constexpr bool can_pick = false;
#endif

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
