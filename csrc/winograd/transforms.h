// Winograd's transforms of one row of numbers, which the kernels apply to the rows and columns of a patch.
//
// For tiles of m outputs and 3 taps, with B, G and A of Winograd (1980) as Lavin and Gray (2016) apply them:
//   output = A' [(G taps) * (B' input)],   taps' gradient = G' [(B' input) * (A output's gradient)].
// Tiles of 2 use the points 0, 1, -1 and infinity. Tiles of 4 use 0, +-a, +-b and infinity with a = 2/3, b = 4/3: with
// the customary 1 and 2 the rounding errors are more than twice as large.
#pragma once

#include "common/simd.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

struct TilesOfTwo {
  static constexpr int outputs = 2, patch = 4;

  template <class E, class V>
  static SWITCHGRAD_INLINE void input(const V (&d)[4], V (&to)[4]) {
    to[0] = d[0] - d[2];
    to[1] = d[1] + d[2];
    to[2] = d[2] - d[1];
    to[3] = d[1] - d[3];
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void taps(const V (&g)[3], V (&to)[4]) {
    const V half = (g[0] + g[2]) * E(0.5), middle = g[1] * E(0.5);
    to[0] = g[0];
    to[1] = half + middle;
    to[2] = half - middle;
    to[3] = g[2];
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void output(const V (&m)[4], V (&to)[2]) {
    to[0] = m[0] + m[1] + m[2];
    to[1] = m[1] - m[2] - m[3];
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void output_gradient(const V (&y)[2], V (&to)[4]) {
    to[0] = y[0];
    to[1] = y[0] + y[1];
    to[2] = y[0] - y[1];
    to[3] = -y[1];
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void taps_gradient(const V (&w)[4], V (&to)[3]) {
    const V half = (w[1] + w[2]) * E(0.5);
    to[0] = w[0] + half;
    to[1] = (w[1] - w[2]) * E(0.5);
    to[2] = half + w[3];
  }
};

struct TilesOfFour {
  static constexpr int outputs = 4, patch = 6;
  static constexpr double a = 2.0 / 3, b = 4.0 / 3, aa = a * a, bb = b * b;
  static constexpr double of_zero = 1 / (aa * bb), of_a = 1 / (2 * aa * (aa - bb)), of_b = 1 / (2 * bb * (bb - aa));

  template <class E, class V>
  static SWITCHGRAD_INLINE void input(const V (&d)[6], V (&to)[6]) {
    const V even_a = d[4] - d[2] * E(bb), odd_a = (d[3] - d[1] * E(bb)) * E(a);
    const V even_b = d[4] - d[2] * E(aa), odd_b = (d[3] - d[1] * E(aa)) * E(b);
    to[0] = d[0] * E(aa * bb) - d[2] * E(aa + bb) + d[4];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = d[1] * E(aa * bb) - d[3] * E(aa + bb) + d[5];
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void taps(const V (&g)[3], V (&to)[6]) {
    const V even_a = g[0] * E(of_a) + g[2] * E(of_a * aa), odd_a = g[1] * E(of_a * a);
    const V even_b = g[0] * E(of_b) + g[2] * E(of_b * bb), odd_b = g[1] * E(of_b * b);
    to[0] = g[0] * E(of_zero);
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = g[2];
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void output(const V (&m)[6], V (&to)[4]) {
    const V even_a = m[1] + m[2], odd_a = (m[1] - m[2]) * E(a), even_b = m[3] + m[4], odd_b = (m[3] - m[4]) * E(b);
    to[0] = m[0] + even_a + even_b;
    to[1] = odd_a + odd_b;
    to[2] = even_a * E(aa) + even_b * E(bb);
    to[3] = odd_a * E(aa) + odd_b * E(bb) + m[5];
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void output_gradient(const V (&y)[4], V (&to)[6]) {
    const V even_a = y[0] + y[2] * E(aa), odd_a = (y[1] + y[3] * E(aa)) * E(a);
    const V even_b = y[0] + y[2] * E(bb), odd_b = (y[1] + y[3] * E(bb)) * E(b);
    to[0] = y[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = y[3];
  }
  template <class E, class V>
  static SWITCHGRAD_INLINE void taps_gradient(const V (&w)[6], V (&to)[3]) {
    const V even_a = (w[1] + w[2]) * E(of_a), even_b = (w[3] + w[4]) * E(of_b);
    to[0] = w[0] * E(of_zero) + even_a + even_b;
    to[1] = (w[1] - w[2]) * E(of_a * a) + (w[3] - w[4]) * E(of_b * b);
    to[2] = even_a * E(aa) + even_b * E(bb) + w[5];
  }
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
