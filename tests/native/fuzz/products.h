// Numbers for sums of products: small and whole, so that every order of summation gives the same.
#pragma once

#include "fuzz/numbers.h"

namespace fuzz {

// A part of the cases has NaN and infinities among them, and a part any bits at all, where only memory is looked at.
enum Kind { whole, special, any_bits };

inline Kind any_kind() { return chance(70) ? whole : chance(60) ? special : any_bits; }

template <class E>
E any_real(Kind kind) {
  if (kind == any_bits) return any_number<E>(1);
  if (kind == special && chance(2)) {
    constexpr E infinity = std::numeric_limits<E>::infinity();
    return std::vector<E>{infinity, -infinity, std::numeric_limits<E>::quiet_NaN()}[between(0, 2)];
  }
  return static_cast<E>(between(-4, 4));
}

}  // namespace fuzz
