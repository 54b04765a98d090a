// Dropout by a counter-based generator: whether an element is kept is a function of the seed and of its place alone, so
// the mask is never stored, any thread can compute any part of it, and backward computes it again.
#pragma once

#include "common/numbers.h"
#include "common/threefry.h"
#include "dropout/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

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
