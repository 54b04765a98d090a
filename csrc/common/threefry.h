// A counter-based generator: the 32-bit word of a place is a function of the seed and of the place alone, so numbers
// are never stored, any thread can draw any part of them, and backward draws them again.
//
// Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; 2011) turns a
// counter of 64 bits into two words. Counter 16 b + j serves places 32 b + j and 32 b + 16 + j. src/switchgrad/ops/
// counted.py says what the words are used for; every back end draws the same.
#pragma once

#include "common/element.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <int R, class V>
SWITCHGRAD_INLINE V rotated(V v) {
  return static_cast<V>((v << R) | (v >> (32 - R)));
}
template <int A, int B, int C, int D, class V>
SWITCHGRAD_INLINE void four_rounds(V& x, V& y) {
  x += y, y = rotated<A>(y) ^ x;
  x += y, y = rotated<B>(y) ^ x;
  x += y, y = rotated<C>(y) ^ x;
  x += y, y = rotated<D>(y) ^ x;
}
template <class V>
SWITCHGRAD_INLINE void threefry(uint64_t seed, V& x, V& y) {
  const auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32), k2 = 0x1bd11bdau ^ k0 ^ k1;
  x += k0, y += k1;
  four_rounds<13, 15, 26, 6>(x, y);
  x += k1, y += k2 + 1;
  four_rounds<17, 29, 16, 24>(x, y);
  x += k2, y += k0 + 2;
  four_rounds<13, 15, 26, 6>(x, y);
  x += k0, y += k1 + 3;
  four_rounds<17, 29, 16, 24>(x, y);
  x += k1, y += k2 + 4;
  four_rounds<13, 15, 26, 6>(x, y);
  x += k2, y += k0 + 5;
}

// The words of places first .. first + count - 1, rounded up to 32; `first` is a multiple of 32.
inline void draw(uint64_t seed, int64_t first, int64_t count, uint32_t* words) {
  constexpr int N = vector_bytes / 4;
  using V = Vec<uint32_t, N>;
  V lanes;
  for (int j = 0; j < N; ++j) lanes[j] = static_cast<uint32_t>(j);
  for (int64_t at = 0; at < count; at += 32) {
    const auto counter = static_cast<uint64_t>((first + at) / 2);
    for (int j = 0; j < 16; j += N) {
      V x = static_cast<V>(lanes + static_cast<uint32_t>(counter + j)), y = V{} + static_cast<uint32_t>(counter >> 32);
      threefry(seed, x, y);
      store(words + at + j, x);
      store(words + at + 16 + j, y);
    }
  }
}

// The words of places first, first + step, ...: `count` of them, rounded up to a vector.
inline void draw_apart(uint64_t seed, int64_t first, int64_t step, int64_t count, uint32_t* words) {
  constexpr int N = vector_bytes / 4;
  using V = Vec<uint32_t, N>;
  for (int64_t at = 0; at < count; at += N) {
    V low, high, second;
    for (int j = 0; j < N; ++j) {
      const auto place = static_cast<uint64_t>(first + (at + j) * step);
      const uint64_t counter = (place >> 5 << 4) + (place & 15);
      low[j] = static_cast<uint32_t>(counter);
      high[j] = static_cast<uint32_t>(counter >> 32);
      second[j] = static_cast<uint32_t>(place) & 16;
    }
    threefry(seed, low, high);
    store(words + at, select(second != V{}, high, low));
  }
}

// Words of a stream of places, drawn some hundreds ahead: for readers that go forward row by row.
class Words {
 public:
  Words(uint64_t seed, int64_t longest)
      : seed_(seed), room_(longest + 32 < 512 ? 512 : longest + 32), words_(room_ + 32) {}

  // The words of places first .. first + count - 1; count is at most `longest`.
  const uint32_t* at(int64_t first, int64_t count) {
    if (first < first_ || first + count > first_ + held_) {
      first_ = first / 32 * 32;
      held_ = room_;
      draw(seed_, first_, held_, words_.get());
    }
    return words_.get() + (first - first_);
  }

 private:
  uint64_t seed_;
  int64_t room_, first_ = 0, held_ = 0;
  Scratch<uint32_t> words_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
