// Batch normalisation with a ReLU behind it, and with max pooling behind that.
//
//   z = (x - mean) * scale + bias        y = max(z, 0)        pooled = the largest y of each window
//
// The activation is never kept. Forward pooling makes z of a piece in the cache and lets the max-pooling kernels read
// it there; backward computes z again (without pooling) or lets the codes put the gradients back (with pooling), once
// for the two sums that weight, bias and the mean terms need, and once for the gradient of the input.
#pragma once

#include "batch_norm/channels.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <int N, class Numbers, class V, class Cover>
SWITCHGRAD_INLINE V normalised(const Numbers& numbers, V x, int64_t i, Cover cover) {
  return static_cast<V>((x - numbers.template mean<N>(i, cover)) * numbers.template scale<N>(i, cover) +
                        numbers.template bias<N>(i, cover));
}

template <class T>
const Raw<T>* elements(const void* of) {
  return static_cast<const Raw<T>*>(of);
}

// The first number of each channel: any number of the channel serves as the shift of its statistics, and this one
// bounds the rounding of the variance by the number of cells times the precision, whatever the mean is.
template <class T>
void first(const NormJob& job, int64_t begin, int64_t end) {
  const int64_t apart = job.channels_last ? 1 : job.window.axis[1].size * job.row();
  for (int64_t c = begin; c < end; ++c)
    job.partial[c] = static_cast<double>(Element<T>::widen(elements<T>(job.input)[c * apart]));
}

template <class T>
void statistics(const NormJob& job, int64_t begin, int64_t end) {
  const AllChannels<Wide<T>> all(job);
  const Split split = job.split();
  for (int64_t index = begin; index < end; ++index)
    write_sums(job, all, split, index, [&](const auto& numbers, auto lanes, int64_t from, int64_t i, auto cover) {
      constexpr int N = decltype(lanes)::value;
      const auto x = convert<double, N>(load_wide<T, N>(elements<T>(job.input) + from + i, cover));
      const auto away = static_cast<Vec<double, N>>(x - convert<double, N>(numbers.template mean<N>(i, cover)));
      return DoublePair<N>{away, static_cast<Vec<double, N>>(away * away)};
    });
}

template <class T>
void apply(const NormJob& job, int64_t begin, int64_t end) {
  const AllChannels<Wide<T>> all(job);
  const Split split = job.split();
  auto* output = static_cast<Raw<T>*>(job.output);
  for (int64_t index = begin; index < end; ++index)
    for_each_run(job, all, split.at(index), [&](const auto& numbers, int64_t from, int64_t count) {
      cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
        constexpr int N = decltype(lanes)::value;
        const auto z = normalised<N>(numbers, load_wide<T, N>(elements<T>(job.input) + from + i, cover), i, cover);
        store_wide<T, N>(output + from + i, select(z <= Vec<Wide<T>, N>{}, Vec<Wide<T>, N>{}, z), cover);
      });
    });
}

// ---- pooling: windows over a piece --------------------------------------------------------------------------------

// The windows row .. row_end - 1 as an axis of their own, over the input rows that they reach: from input row `begin`.
inline Axis axis_of_places(const Axis& axis, int64_t row, int64_t row_end, int64_t& begin) {
  const int64_t start = axis.start(row), stop = axis.start(row_end - 1) + axis.span();
  begin = start > 0 ? start : 0;
  Axis part = axis;
  part.size = (stop < axis.size ? stop : axis.size) - begin;
  part.pad_begin = begin - start;
  part.places = row_end - row;
  return part;
}

// Input rows row .. row_end - 1 as an axis of their own, under the windows that can hold them: from window `begin`.
inline Axis axis_of_rows(const Axis& axis, int64_t row, int64_t row_end, int64_t& begin) {
  const int64_t held = axis.covering_begin(row), started = (row + axis.pad_begin) / axis.stride;
  const int64_t end = axis.covering_end(row_end - 1);
  begin = held < started ? held : started;
  if (begin > end) begin = end;
  Axis part = axis;
  part.size = row_end - row;
  part.pad_begin = row - axis.start(begin);
  part.places = end - begin;
  return part;
}

template <class T>
void pool(const NormJob& job, int64_t begin, int64_t end) {
  const AllChannels<Wide<T>> all(job);
  const Split split = job.split_places();
  const Axis& height = job.window.axis[1];
  const int64_t a_place_row = job.window.axis[2].places * job.depth();
  const int64_t code_bytes = int64_t{1} << code_width(job.window.cells());
  const int64_t most_rows = split.rows_a_piece * height.stride + height.span();
  Scratch<Raw<T>> scratch(split.volumes_a_piece * (most_rows < height.size ? most_rows : height.size) * job.row());
  for (int64_t index = begin; index < end; ++index) {
    const Split::Piece places = split.at(index);
    PoolJob part;
    part.window = job.window;
    int64_t top = 0;
    Axis& rows = part.window.axis[1];
    rows = axis_of_places(height, places.row, places.row_end, top);
    const Split::Piece piece = {places.volume, places.volume_end, top, top + rows.size, 0};
    Raw<T>* to = scratch.get();
    for_each_run(job, all, piece, [&](const auto& numbers, int64_t from, int64_t count) {
      cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
        constexpr int N = decltype(lanes)::value;
        const auto x = load_wide<T, N>(elements<T>(job.input) + from + i, cover);
        store_wide<T, N>(to + i, normalised<N>(numbers, x, i, cover), cover);
      });
      to += count;
    });
    const int64_t volume = rows.size * job.row(), where = (places.volume * height.places + places.row) * a_place_row;
    part.batch = job.channels_last ? piece.volumes() : 1;
    part.channels = job.channels_last ? job.channels : piece.volumes();
    const int64_t strides[] = {volume, job.channels_last ? 1 : volume, volume, job.row(), job.depth()};
    for (int i = 0; i < 5; ++i) part.input_stride[i] = strides[i];
    part.input = scratch.get();
    part.values = static_cast<Raw<T>*>(job.output) + where;
    part.codes = job.output_codes ? static_cast<char*>(job.output_codes) + where * code_bytes : nullptr;
    job.pool(part, 0, piece.volumes() * rows.places * (job.channels_last ? job.window.axis[2].places : 1));
  }
}

// The gradients of pooled cells, put back over a piece of the input.
template <class T>
void put_back(const NormJob& job, const Split::Piece& piece, Raw<T>* routed) {
  const Axis& height = job.window.axis[1];
  const int64_t a_place_row = job.window.axis[2].places * job.depth();
  const int64_t code_bytes = int64_t{1} << code_width(job.window.cells());
  RouteJob part;
  part.window = job.window;
  int64_t top = 0;
  part.window.axis[1] = axis_of_rows(height, piece.row, piece.row_end, top);
  const int64_t where = (piece.volume * height.places + top) * a_place_row;
  part.batch = job.channels_last ? piece.volumes() : 1;
  part.channels = job.channels_last ? job.channels : piece.volumes();
  part.pooled = elements<T>(job.grad) + where;
  part.codes = static_cast<const char*>(job.codes) + where * code_bytes;
  part.routed = routed;
  job.route(part, 0, piece.volumes() * piece.rows() * (job.channels_last ? job.width() : 1));
}

// ---- backward ----------------------------------------------------------------------------------------------------

// Where the gradient behind the ReLU comes from: the gradient sent back, where z is above 0 or NaN ...
template <class T>
struct Masked {
  const NormJob& job;
  Masked(const NormJob& job_, const Split&) : job(job_) {}
  void go_to(const Split::Piece&) {}

  template <int N, class Numbers, class V, class Cover>
  SWITCHGRAD_INLINE V at(const Numbers& numbers, V x, int64_t from, int64_t i, Cover cover) const {
    const auto z = normalised<N>(numbers, x, i, cover);
    return select(z <= V{}, V{}, load_wide<T, N>(elements<T>(job.grad) + from + i, cover));
  }
};

// ... or what the codes put back over the piece.
template <class T>
struct Routed {
  const NormJob& job;
  Scratch<Raw<T>> scratch;
  int64_t origin = 0, gap = 0;
  Routed(const NormJob& job_, const Split& split)
      : job(job_), scratch(split.volumes_a_piece * split.rows_a_piece * job_.row()) {}

  // A piece of several volumes has all of their rows, so it lies in one stretch.
  void go_to(const Split::Piece& piece) {
    put_back<T>(job, piece, scratch.get());
    origin = (piece.volume * job.window.axis[1].size + piece.row) * job.row();
  }
  template <int N, class Numbers, class V, class Cover>
  SWITCHGRAD_INLINE V at(const Numbers&, V, int64_t from, int64_t i, Cover cover) const {
    return load_wide<T, N>(scratch.get() + (from - origin) + i, cover);
  }
};

template <class T, template <class> class Source>
void sums(const NormJob& job, int64_t begin, int64_t end) {
  const AllChannels<Wide<T>> all(job);
  const Split split = job.split();
  Source<T> source(job, split);
  for (int64_t index = begin; index < end; ++index) {
    source.go_to(split.at(index));
    write_sums(job, all, split, index, [&](const auto& numbers, auto lanes, int64_t from, int64_t i, auto cover) {
      constexpr int N = decltype(lanes)::value;
      const auto x = load_wide<T, N>(elements<T>(job.input) + from + i, cover);
      const auto dz = convert<double, N>(source.template at<N>(numbers, x, from, i, cover));
      const auto away = convert<double, N>(static_cast<Vec<Wide<T>, N>>(x - numbers.template mean<N>(i, cover)));
      return DoublePair<N>{dz, static_cast<Vec<double, N>>(dz * away)};
    });
  }
}

template <class T, template <class> class Source>
void gradient(const NormJob& job, int64_t begin, int64_t end) {
  const AllChannels<Wide<T>> all(job);
  const Split split = job.split();
  Source<T> source(job, split);
  auto* output = static_cast<Raw<T>*>(job.output);
  for (int64_t index = begin; index < end; ++index) {
    const Split::Piece piece = split.at(index);
    source.go_to(piece);
    for_each_run(job, all, piece, [&](const auto& numbers, int64_t from, int64_t count) {
      cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
        constexpr int N = decltype(lanes)::value;
        using V = Vec<Wide<T>, N>;
        const auto x = load_wide<T, N>(elements<T>(job.input) + from + i, cover);
        const V dz = source.template at<N>(numbers, x, from, i, cover);
        const auto away = static_cast<V>(x - numbers.template mean<N>(i, cover));
        const auto terms =
            static_cast<V>(numbers.template slope<N>(i, cover) * away + numbers.template offset<N>(i, cover));
        store_wide<T, N>(output + from + i, static_cast<V>(numbers.template scale<N>(i, cover) * dz + terms), cover);
      });
    });
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
