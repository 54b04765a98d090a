// Dropout by a counter-based generator: whether an element is kept is a function of the seed and of its place alone, so
// the mask is never stored, any thread can compute any part of it, and backward computes it again.
//
// Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; 2011) turns a
// counter of 64 bits into two words. Counter 16 b + j serves elements 32 b + j and 32 b + 16 + j.
#pragma once

#include "common/numbers.h"
#include "dropout/job.h"

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

// The words of elements first .. first + count - 1, rounded up to 32; `first` is a multiple of 32.
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

// `wide` scaled where its word says so, else 0.
template <class A, int N, class Cover>
SWITCHGRAD_INLINE Vec<A, N> kept(const DropoutJob& job, const uint32_t* words, Vec<A, N> wide, Cover cover) {
  const auto word = convert<std::make_unsigned_t<Int<A>>, N>(load<Vec<uint32_t, N>>(words, cover));
  const auto scale = broadcast<A, N>(static_cast<A>(job.scale));
  return select(word >= job.threshold, static_cast<Vec<A, N>>(wide * scale), Vec<A, N>{});
}

// Calls body(words, first element, elements) for the chunks, with the words of their elements.
template <class F>
void for_each_chunk(const DropoutJob& job, int64_t begin, int64_t end, F&& body) {
  uint32_t words[dropout_chunk];
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t first = chunk * dropout_chunk;
    const int64_t count = job.count - first < dropout_chunk ? job.count - first : dropout_chunk;
    draw(job.seed, first, count, words);
    body(static_cast<const uint32_t*>(words), first, count);
  }
}

template <class T>
void drop(const DropoutJob& job, int64_t begin, int64_t end) {
  const auto* input = static_cast<const Raw<T>*>(job.input);
  auto* output = static_cast<Raw<T>*>(job.output);
  for_each_chunk(job, begin, end, [&](const uint32_t* words, int64_t first, int64_t count) {
    cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
      constexpr int N = decltype(lanes)::value;
      const auto x = load_wide<T, N>(input + first + i, cover);
      store_wide<T, N>(output + first + i, kept<Wide<T>, N>(job, words + i, x, cover), cover);
    });
  });
}

// relu(x + bias), NaN passing, then dropout. `addend(lanes, i, cover)` is the bias of element i of the run.
template <class T, class F>
void rectify_run(const DropoutJob& job, const uint32_t* words, int64_t first, int64_t count, F&& addend) {
  const auto* input = static_cast<const Raw<T>*>(job.input) + first;
  auto* output = static_cast<Raw<T>*>(job.output) + first;
  cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
    constexpr int N = decltype(lanes)::value;
    using V = Vec<Wide<T>, N>;
    const auto z = static_cast<V>(load_wide<T, N>(input + i, cover) + addend(lanes, i, cover));
    store_wide<T, N>(output + i, kept<Wide<T>, N>(job, words + i, select(z <= V{}, V{}, z), cover), cover);
  });
}

template <class T>
void rectify_and_drop(const DropoutJob& job, int64_t begin, int64_t end) {
  using A = Wide<T>;
  Scratch<A> bias(job.channels);
  for (int64_t c = 0; c < job.channels; ++c) bias[c] = job.bias ? static_cast<A>(job.bias[c]) : A{};
  for_each_chunk(job, begin, end, [&](const uint32_t* words, int64_t first, int64_t count) {
    if (!job.bias)
      return rectify_run<T>(job, words, first, count,
                            [&](auto lanes, int64_t, auto) { return Vec<A, decltype(lanes)::value>{}; });
    for (int64_t at = 0; at < count;) {
      const int64_t c = (first + at) / job.inner % job.channels;
      const bool side_by_side = job.inner == 1;  // as many channels as are left in the row, or one channel
      const int64_t left = side_by_side ? job.channels - c : job.inner - (first + at) % job.inner;
      const int64_t run = left < count - at ? left : count - at;
      if (side_by_side) {
        rectify_run<T>(job, words + at, first + at, run, [&](auto lanes, int64_t i, auto cover) {
          return load<Vec<A, decltype(lanes)::value>>(bias.get() + c + i, cover);
        });
      } else {
        rectify_run<T>(job, words + at, first + at, run,
                       [&](auto lanes, int64_t, auto) { return broadcast<A, decltype(lanes)::value>(bias[c]); });
      }
      at += run;
    }
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
