// The weights' gradient: terms of the input times terms of the output's gradient, summed over all tiles, and back to
// taps.
#pragma once

#include "winograd/forward.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// The sums lie f x channels x filters.
template <class E>
struct SumShape {
  int64_t width, step;
  explicit SumShape(const WinogradJob& job)
      : width(rounded_up(job.filters, lanes_of<E>)),
        step(step_of<E>(rounded_up(job.input.channels, rows_of_product) * width)) {}
};

template <class W, class E>
int64_t winograd_block_of_tiles(const WinogradJob& job) {
  constexpr int64_t room = 3 << 20, least = 64, most = 1024;
  const int64_t bytes = W::patch * W::patch * (job.input.channels + job.filters) * static_cast<int64_t>(sizeof(E));
  const int64_t tiles = room / bytes;
  const int64_t block = tiles < least ? least : tiles > most ? most : tiles;
  return block < job.all_tiles() ? block : job.all_tiles();
}

template <class E>
int64_t blocks_of_channels(const WinogradJob& job) {
  return rounded_up(job.input.channels, rows_of_product) / rows_of_product;
}

template <class W, class E>
int64_t winograd_term_sizes(const WinogradJob& job, int64_t (&sizes)[3]) {
  const int64_t block = winograd_block_of_tiles<W, E>(job);
  sizes[0] = Terms<E>(block, job.input.channels).template size<W>();
  sizes[1] = Terms<E>(block, job.filters).template size<W>();
  sizes[2] = W::patch * W::patch * SumShape<E>(job).step;
  return W::patch * W::patch * blocks_of_channels<E>(job);
}

template <class W, class E>
void winograd_transform(const WinogradWeightJob& job, int64_t block, int64_t begin, int64_t end) {
  const int64_t tiles = winograd_block_of_tiles<W, E>(job), first = block * tiles;
  const Terms<E> input_terms(tiles, job.input.channels), grad_terms(tiles, job.filters);
  input_to_terms<W>(job, first + begin, first + end, static_cast<E*>(job.input_terms) + begin * input_terms.width,
                    input_terms);
  Patch<E> patch(job.grad, W::outputs);
  for (int64_t t = begin; t < end; ++t) {
    const TilePlace at = place_of<W>(job, first + t);
    patch.seek(at.image, at.row, at.column);
    patch_to_terms<W, W::outputs>(
        patch, job.filters, [](const auto& in, auto& out) { W::template output_gradient<E>(in, out); },
        static_cast<E*>(job.grad_terms) + t * grad_terms.width, grad_terms.step);
  }
}

// Part i is the sums of some f and some block of channels.
template <class W, class E>
void winograd_add(const WinogradWeightJob& job, int64_t block, int64_t begin, int64_t end) {
  const int64_t tiles = winograd_block_of_tiles<W, E>(job), left = job.all_tiles() - block * tiles;
  const int64_t count = tiles < left ? tiles : left, channel_blocks = blocks_of_channels<E>(job);
  const Terms<E> input_terms(tiles, job.input.channels), grad_terms(tiles, job.filters);
  const SumShape<E> shape(job);
  for (int64_t part = begin; part < end; ++part) {
    const int64_t f = part / channel_blocks, c = part % channel_blocks * rows_of_product;
    const E* input = static_cast<const E*>(job.input_terms) + f * input_terms.step + c;
    const E* grad = static_cast<const E*>(job.grad_terms) + f * grad_terms.step;
    E* to = static_cast<E*>(job.sums) + f * shape.step + c * shape.width;
    for_blocks_of_filters<E>(job.filters, [&](auto vectors, int64_t k) {
      channels_by_filters<E, vectors()>(input, input_terms.width, grad + k, grad_terms.width, count, block == 0, to + k,
                                        shape.width);
    });
  }
}

// Channels begin .. end - 1 of the result; false where a number is not finite.
template <class W, class E>
bool winograd_finish(const WinogradWeightJob& job, int64_t begin, int64_t end) {
  constexpr int N = lanes_of<E>, all = W::taps * W::taps;
  using V = Vec<E, N>;
  const SumShape<E> shape(job);
  Doubt<E> doubt;
  for (int64_t c = begin; c < end; ++c)
    for (int64_t k = 0; k < job.filters; k += N) {
      const E* from = static_cast<const E*>(job.sums) + c * shape.width + k;
      E taps[all][N];
      transform_both_ways<W::patch, W::taps, V>(
          [](const auto& in, auto& out) { W::template filter_gradient<E>(in, out); },
          [&](int i, int j) { return load<V>(from + (i * W::patch + j) * shape.step); },
          [&](int i, int j, V v) {
            doubt.see(v);
            store(taps[W::taps * i + j], v);
          });
      E* to = static_cast<E*>(job.weight_grad) + k * job.weight_stride[0] + c * job.weight_stride[1];
      for (int64_t l = 0; l < N && k + l < job.filters; ++l, to += job.weight_stride[0])
        for (int64_t tap = 0; tap < all; ++tap)
          to[tap / W::taps * job.weight_stride[2] + tap % W::taps * job.weight_stride[3]] = taps[tap][l];
    }
  return !doubt.arose();
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
