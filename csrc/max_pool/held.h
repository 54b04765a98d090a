// Where the compiler is told to keep what it has read.
#pragma once

#include "common/simd.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Keeps a vector that is used several times in its register: GCC would read it again for each use, and loops with
// little to do wait for their reads.
template <class V>
SWITCHGRAD_INLINE V held(V v) {
#if defined(__AVX512BW__)
  if constexpr (sizeof(V) >= 16) __asm__("" : "+v"(v));
#elif defined(__AVX2__)
  if constexpr (sizeof(V) == 16 || sizeof(V) == 32) __asm__("" : "+x"(v));
#elif defined(__SSE2__)
  if constexpr (sizeof(V) == 16) __asm__("" : "+x"(v));
#endif
  return v;
}

// The same for a pointer, which GCC would keep in a part of a vector.
template <class E>
SWITCHGRAD_INLINE E* held_pointer(E* at) {
  __asm__("" : "+r"(at));
  return at;
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
