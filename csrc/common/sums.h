// Sums in double whose rounding does not depend on the instruction set.
#pragma once

#include "common/simd.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <int N>
struct DoublePair {
  Vec<double, N> first, second;
};

// Two sums in sixteen lanes of double, whatever the instruction set: the same bits on all of them.
class Sums {
 public:
  // pair(lanes, i) gives what elements i .. i + lanes - 1 add to the two sums.
  template <class F>
  Sums(int64_t count, F&& pair) {
    constexpr int N = vector_bytes / 8, vectors = 16 / N;
    Vec<double, N> a[vectors] = {}, b[vectors] = {};
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const auto [x, y] = pair(std::integral_constant<int, N>{}, i + v * N);
        a[v] += x;
        b[v] += y;
      }
    }
    double lanes[2][16];
    std::memcpy(lanes[0], a, sizeof(a));
    std::memcpy(lanes[1], b, sizeof(b));
    for (int lane = 0; i < count; ++i, ++lane) {
      const auto [x, y] = pair(std::integral_constant<int, 1>{}, i);
      lanes[0][lane] += x;
      lanes[1][lane] += y;
    }
    for (int k = 0; k < 2; ++k)
      for (int lane = 0; lane < 16; ++lane) total[k] += lanes[k][lane];
  }
  double total[2] = {};
};

// The sum of what of(lanes, i) gives for elements i .. i + lanes - 1, over whole blocks of sixteen.
constexpr int sum_lanes = 16;
template <class F>
double sum_of_blocks(int64_t count, F&& of) {
  constexpr int N = vector_bytes / 8, vectors = sum_lanes / N;
  Vec<double, N> sums[vectors] = {};
  for (int64_t i = 0; i < count; i += sum_lanes) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sums[v] += of(std::integral_constant<int, N>{}, i + v * N);
  }
  double lanes[sum_lanes];
  std::memcpy(lanes, sums, sizeof(sums));
  for (int half = sum_lanes / 2; half > 0; half /= 2)  // pairs of pairs: short chains of additions
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
