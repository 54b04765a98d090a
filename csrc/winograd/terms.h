// Terms: the transformed numbers of a block of tiles, f x tiles x channels, and how patches become terms.
#pragma once

#include "common/element.h"
#include "common/lanes.h"
#include "winograd/job.h"
#include "winograd/transforms.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Rows of tiles, or channels in the weights' gradient, that one product takes: with four vectors of filters beside
// them they fill the registers.
constexpr int rows_of_product = vector_bytes == 64 ? 6 : 4;

// Numbers from f to f: an odd number of cache lines, or what is written for all f at once would fall on few sets.
template <class E>
int64_t step_of(int64_t numbers) {
  constexpr int64_t line = lanes_of<E> > 64 / static_cast<int>(sizeof(E)) ? lanes_of<E> : 64 / sizeof(E);
  return (rounded_up(numbers, line) / line | 1) * line;
}

template <class E>
struct Terms {
  int64_t width = 0;  // from tile to tile
  int64_t step = 0;   // from f to f

  Terms(int64_t tiles, int64_t channels)
      : width(rounded_up(rounded_up(channels, rows_of_product), lanes_of<E>)),
        step(step_of<E>(rounded_up(tiles, rows_of_product) * width)) {}

  template <class W>
  int64_t size() const {
    return W::patch * W::patch * step;
  }
};

// Applies a transform of rows to all columns, then to all rows, of an array of vectors: read(i, j) to write(i, j, v).
template <int From, int To, class V, class Transform, class Read, class Write>
SWITCHGRAD_INLINE void transform_both_ways(const Transform& transform, const Read& read, const Write& write) {
  V half[To][From];
  for (int j = 0; j < From; ++j) {
    V in[From], out[To];
#pragma GCC unroll 8
    for (int i = 0; i < From; ++i) in[i] = read(i, j);
    transform(in, out);
#pragma GCC unroll 8
    for (int i = 0; i < To; ++i) half[i][j] = out[i];
  }
  for (int i = 0; i < To; ++i) {
    V in[From], out[To];
#pragma GCC unroll 8
    for (int j = 0; j < From; ++j) in[j] = half[i][j];
    transform(in, out);
#pragma GCC unroll 8
    for (int j = 0; j < To; ++j) write(i, j, out[j]);
  }
}

// Size x Size pixels from (row, column) on, some of them outside the picture, where zeros are.
template <class E>
class Patch {
 public:
  Patch(const Pixels& pixels, int size)
      : pixels_(pixels), size_(size), padded_(size * size * pixels.channels), at_(nullptr) {}

  void seek(int64_t image, int64_t row, int64_t column) {
    const E* from = static_cast<const E*>(pixels_.data) + image * pixels_.stride[0];
    if (row >= 0 && column >= 0 && row + size_ <= pixels_.rows && column + size_ <= pixels_.columns) {
      at_ = from + row * pixels_.stride[1] + column * pixels_.stride[2];
      row_step_ = pixels_.stride[1];
      column_step_ = pixels_.stride[2];
      return;
    }
    E* to = padded_.get();
    const size_t bytes = static_cast<size_t>(pixels_.channels) * sizeof(E);
    for (int64_t y = row; y < row + size_; ++y)
      for (int64_t x = column; x < column + size_; ++x, to += pixels_.channels) {
        const bool inside = y >= 0 && y < pixels_.rows && x >= 0 && x < pixels_.columns;
        if (inside)
          std::memcpy(to, from + y * pixels_.stride[1] + x * pixels_.stride[2], bytes);
        else
          std::memset(to, 0, bytes);
      }
    at_ = padded_.get();
    column_step_ = pixels_.channels;
    row_step_ = size_ * pixels_.channels;
  }
  const E* pixel(int64_t i, int64_t j) const { return at_ + i * row_step_ + j * column_step_; }

 private:
  const Pixels& pixels_;
  int size_;
  Scratch<E> padded_;
  const E* at_;
  int64_t row_step_ = 0, column_step_ = 0;
};

// All channels of one patch of Size x Size pixels to its patch x patch terms.
template <class W, int Size, class E, class Transform>
void patch_to_terms(const Patch<E>& patch, int64_t channels, const Transform& transform, E* to, int64_t step) {
  constexpr int N = lanes_of<E>;
  using V = Vec<E, N>;
  for (int64_t c = 0; c < channels; c += N) {
    const auto write = [&](int i, int j, V v) { store(to + (i * W::patch + j) * step + c, v); };
    if (c + N <= channels) {
      transform_both_ways<Size, W::patch, V>(
          transform, [&](int i, int j) { return load<V>(patch.pixel(i, j) + c); }, write);
    } else {
      transform_both_ways<Size, W::patch, V>(
          transform, [&](int i, int j) { return load_first<N>(patch.pixel(i, j) + c, channels - c); }, write);
    }
  }
}

struct TilePlace {
  int64_t image, row, column;  // of the tile's first output
};
template <class W>
TilePlace place_of(const WinogradJob& job, int64_t tile) {
  const int64_t in_image = tile % job.tiles_of_image();
  return {tile / job.tiles_of_image(), in_image / job.tiles[1] * W::outputs, in_image % job.tiles[1] * W::outputs};
}

// The terms of the input of tiles begin .. end - 1; the first goes to `to`.
template <class W, class E>
void input_to_terms(const WinogradJob& job, int64_t begin, int64_t end, E* to, const Terms<E>& terms) {
  Patch<E> patch(job.input, W::patch);
  for (int64_t t = begin; t < end; ++t) {
    const TilePlace at = place_of<W>(job, t);
    patch.seek(at.image, at.row - job.pad[0], at.column - job.pad[1]);
    patch_to_terms<W, W::patch>(
        patch, job.input.channels, [](const auto& in, auto& out) { W::template input<E>(in, out); },
        to + (t - begin) * terms.width, terms.step);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
