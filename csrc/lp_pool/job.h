// Lp pooling: what crosses from the checks to the kernels.
//
// A window's norm is the root of a sum of powers, and sums over windows are those of average pooling. So the kernels
// here go from number to number, and do so for a piece of the maps at a time, which stays in the caches meanwhile.
#pragma once

#include "common/table.h"

namespace switchgrad {

// A power. Halves of small whole numbers are products and a square root; others go through the logarithm.
struct Exponent {
  explicit Exponent(double number) : value(number), below(number < 0), is_product(whole_halves() <= most_halves) {
    if (!is_product) return;
    whole = whole_halves() / 2;
    half = whole_halves() % 2 == 1;
  }

  double value;
  bool below;       // 0
  bool is_product;  // of `whole` factors, and a square root where `half`
  int whole = 0;
  bool half = false;

 private:
  static constexpr int most_halves = 16;
  int whole_halves() const {
    const double halves = 2 * (below ? -value : value);
    return halves <= most_halves && halves == static_cast<int>(halves) ? static_cast<int>(halves) : most_halves + 1;
  }
};

// Of `count` numbers in a row; "sums" are in the type that numbers are added up in (float, or double for doubles).
// powers: |x|^p as sums. roots: sums^(1/p), in place where the types are the same. Both are 0 at 0.
using LpMap = void (*)(const void* from, void* to, int64_t count, const Exponent& exponent);
// shares: g / y^(p - 1) as sums, 0 where y is 0. slopes: sums times sign(x) |x|^(p - 1), 0 where x is 0.
using LpPairMap = void (*)(const void* first, const void* second, void* to, int64_t count, const Exponent& exponent);

struct LpPoolTable {
  LpMap powers[float_count];
  LpMap roots[float_count];
  LpPairMap shares[float_count];
  LpPairMap slopes[float_count];
};

}  // namespace switchgrad
