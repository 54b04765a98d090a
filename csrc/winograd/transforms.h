// Winograd's transforms of one row of numbers, which the kernels apply to the rows and columns of a patch.
//
// For tiles of m outputs and r taps, with B, G and A of Winograd (1980) as Lavin and Gray (2016) apply them:
//   output = A' [(G taps) * (B' input)],   taps' gradient = G' [(B' input) * (A output's gradient)].
// All three follow from the points at which polynomials are multiplied: here 0, infinity and pairs +-p, so that the
// numbers of a pair are the sum and the difference of what even and odd places give.
#pragma once

#include "common/simd.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// One pair is exact for whole numbers. With two, 2/3 and 4/3 err less than half as much as the customary 1 and 2.
template <int Pairs>
struct Points;
template <>
struct Points<1> {
  static constexpr double at[1] = {1};
};
template <>
struct Points<2> {
  static constexpr double at[2] = {2.0 / 3, 4.0 / 3};
};
template <>
struct Points<3> {
  static constexpr double at[3] = {0.5, 1, 2};
};

// Coefficients of polynomials in the squares of the points, the lowest first.
template <int Pairs>
struct Coefficients {
  double without[Pairs][Pairs] = {};  // the product of x - p^2 over all pairs but one
  double all[Pairs + 1] = {};         // over all
  double of_zero[2] = {1, 1};         // what the point 0 is scaled by: not at all, or as the filters are
  double powers[2][Pairs][5] = {};    // of each pair, scaled likewise

  constexpr Coefficients() {
    for (int i = 0; i < Pairs; ++i) {
      multiply(without[i], i);
      const double square = Points<Pairs>::at[i] * Points<Pairs>::at[i];
      double product = 2 * square;
      for (int j = 0; j < Pairs; ++j)
        if (j != i) product *= square - Points<Pairs>::at[j] * Points<Pairs>::at[j];
      double power = 1;
      for (int k = 0; k < 5; ++k, power *= Points<Pairs>::at[i]) {
        powers[0][i][k] = power;
        powers[1][i][k] = power / product;
      }
      of_zero[1] /= -square;
    }
    multiply(all, Pairs);
  }

 private:
  static constexpr void multiply(double* polynomial, int but) {
    polynomial[0] = 1;
    for (int j = 0, degree = 0; j < Pairs; ++j) {
      if (j == but) continue;
      ++degree;
      for (int i = degree; i >= 0; --i)
        polynomial[i] = (i > 0 ? polynomial[i - 1] : 0) -
                        (i < degree ? Points<Pairs>::at[j] * Points<Pairs>::at[j] * polynomial[i] : 0);
    }
  }
};

// Outputs and Taps of a row; what is read for them is the patch.
template <int Outputs, int Taps>
struct Tiles {
  static constexpr int outputs = Outputs, taps = Taps, patch = Outputs + Taps - 1, pairs = patch / 2 - 1;
  static_assert(patch % 2 == 0);
  static constexpr Coefficients<pairs> numbers{};
  static constexpr const double (&point)[pairs] = Points<pairs>::at;

  template <class E, class V>
  static SWITCHGRAD_INLINE void input(const V (&d)[patch], V (&to)[patch]) {
    to[0] = combined<E, pairs + 1>(d, numbers.all);
    to[patch - 1] = combined<E, pairs + 1>(d + 1, numbers.all);
#pragma GCC unroll 4
    for (int i = 0; i < pairs; ++i) {
      const V even = combined<E, pairs>(d + 2, numbers.without[i]);
      const V odd = combined<E, pairs>(d + 1, numbers.without[i]);
      to[1 + 2 * i] = even + odd * E(point[i]);
      to[2 + 2 * i] = even - odd * E(point[i]);
    }
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void filter(const V (&g)[Taps], V (&to)[patch]) {
    to_points<E, Taps, true>(g, to);
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void output(const V (&m)[patch], V (&to)[Outputs]) {
    from_points<E, Outputs, false>(m, to);
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void output_gradient(const V (&y)[Outputs], V (&to)[patch]) {
    to_points<E, Outputs, false>(y, to);
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void filter_gradient(const V (&w)[patch], V (&to)[Taps]) {
    from_points<E, Taps, true>(w, to);
  }

 private:
  // The sum of every second number from `first` on.
  template <class E, int Count, class V>
  static SWITCHGRAD_INLINE V combined(const V* first, const double* by) {
    V sum = first[2 * (Count - 1)];  // the highest coefficient is 1
#pragma GCC unroll 4
    for (int i = Count - 2; i >= 0; --i) sum += first[2 * i] * E(by[i]);
    return sum;
  }
  // The polynomial with these coefficients at all points.
  template <class E, int Count, bool Scaled, class V>
  static SWITCHGRAD_INLINE void to_points(const V (&from)[Count], V (&to)[patch]) {
    constexpr const auto& powers = numbers.powers[Scaled];
    to[0] = from[0] * E(numbers.of_zero[Scaled]);
    to[patch - 1] = from[Count - 1];
#pragma GCC unroll 4
    for (int i = 0; i < pairs; ++i) {
      V even = from[0] * E(powers[i][0]), odd = from[1] * E(powers[i][1]);
#pragma GCC unroll 5
      for (int k = 2; k < Count; ++k) (k % 2 ? odd : even) += from[k] * E(powers[i][k]);
      to[1 + 2 * i] = even + odd;
      to[2 + 2 * i] = even - odd;
    }
  }
  // Its adjoint.
  template <class E, int Count, bool Scaled, class V>
  static SWITCHGRAD_INLINE void from_points(const V (&from)[patch], V (&to)[Count]) {
    constexpr const auto& powers = numbers.powers[Scaled];
    V even[pairs], odd[pairs];
#pragma GCC unroll 4
    for (int i = 0; i < pairs; ++i) {
      even[i] = from[1 + 2 * i] + from[2 + 2 * i];
      odd[i] = from[1 + 2 * i] - from[2 + 2 * i];
    }
#pragma GCC unroll 5
    for (int k = 0; k < Count; ++k) {
      V sum = (k % 2 ? odd : even)[0] * E(powers[0][k]);
#pragma GCC unroll 4
      for (int i = 1; i < pairs; ++i) sum += (k % 2 ? odd : even)[i] * E(powers[i][k]);
      to[k] = sum;
    }
    to[0] += from[0] * E(numbers.of_zero[Scaled]);
    to[Count - 1] += from[patch - 1];
  }
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
