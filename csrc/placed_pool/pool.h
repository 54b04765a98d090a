// Max pooling over windows at given places, with switches: fractional, adaptive and S3 pooling.
//
// Ties go to the first cell in row-major order, NaN wins, of several NaN the last.
#pragma once

#include "max_pool/best.h"
#include "max_pool/channels_last.h"
#include "max_pool/winner.h"
#include "placed_pool/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// One column's best cell, as a single number.
template <class T>
struct ColumnBest {
  using Raw = typename Element<T>::Raw;
  Raw value;
  Raw key;
  int64_t row;
  int64_t column;

  // Whether a column further to the right wins. Columns were reduced first, so rows must be compared as well.
  bool loses_to(Raw next, int64_t next_row) const {
    if (is_nan_key<T>(next)) return !is_nan_key<T>(key) || next_row >= row;
    return !is_nan_key<T>(key) && (next > key || (next == key && next_row < row));
  }
};

// The best cell of every column over the rows of one row of windows.
template <class T, class Code>
class ColumnMaxima {
 public:
  using Raw = typename Kinds<T, Code>::Raw;
  using Lane = typename Kinds<T, Code>::Lane;
  static constexpr int lanes = Kinds<T, Code>::lanes;

  explicit ColumnMaxima(int64_t width) : width_(width), values_(width), rows_(width) {}

  // `rows` counts the row in the box of the widest window.
  void take(const Raw* first, int64_t count, const int64_t* where, const int64_t* rows) {
    cascade<lanes>(0, width_, [&](auto n, int64_t w, auto cover) {
      constexpr int N = decltype(n)::value;
      const auto candidate = [&](int64_t i) {
        return Best<T, Code, N>::of(load<Vec<Raw, N>>(first + where[i] + w, cover),
                                    broadcast<Lane, N>(static_cast<Lane>(rows[i])));
      };
      auto best = candidate(0);
      for (int64_t i = 1; i < count; ++i) best.meet(candidate(i));
      store(values_.get() + w, best.value, cover);
      store(rows_.get() + w, best.code, cover);
    });
  }

  // The winner among columns begin .. end - 1.
  ColumnBest<T> among(int64_t begin, int64_t end) const {
    ColumnBest<T> best = {values_[begin], Element<T>::key(values_[begin]), row(begin), begin};
    for (int64_t w = begin + 1; w < end; ++w) {
      const Raw key = Element<T>::key(values_[w]);
      if (best.loses_to(key, row(w))) best = {values_[w], key, row(w), w};
    }
    return best;
  }

 private:
  int64_t row(int64_t w) const { return static_cast<int64_t>(static_cast<std::make_unsigned_t<Lane>>(rows_[w])); }

  int64_t width_;
  Scratch<Raw> values_;
  Scratch<Lane> rows_;
};

template <class T, class Code>
void placed_pool_planar(const PlacedPoolJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  const PlacedAxis &z = job.windows.axis[0], &y = job.windows.axis[1], &x = job.windows.axis[2];
  ColumnMaxima<T, Code> columns(x.size);
  Scratch<int64_t> where(z.kernel * y.kernel), rows(z.kernel * y.kernel);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t volume = item / y.places, p = item % y.places, map = volume / z.places, od = volume % z.places;
    const int64_t *of_z = &z.begin[map * z.apart + od], *to_z = &z.end[map * z.apart + od];
    const int64_t *of_y = &y.begin[map * y.apart + p], *to_y = &y.end[map * y.apart + p];
    int64_t count = 0;
    for (int64_t d = *of_z; d < *to_z; ++d)
      for (int64_t h = *of_y; h < *to_y; ++h) {
        where[count] = d * job.input_stride[2] + h * job.input_stride[3];
        rows[count++] = (d - *of_z) * y.kernel + h - *of_y;
      }
    const Raw* plane = static_cast<const Raw*>(job.input) + map / job.channels * job.input_stride[0] +
                       map % job.channels * job.input_stride[1];
    auto* values = static_cast<Raw*>(job.values) + item * x.places;
    auto* codes = static_cast<Code*>(job.codes) + item * x.places;
    if (count == 1) {  // windows are pieces of the row
      for (int64_t q = 0; q < x.places; ++q) {
        const int64_t from = x.begin[map * x.apart + q];
        const Raw* piece = plane + where[0] + from;
        const int64_t winner = winner_of_run<T>(piece, x.end[map * x.apart + q] - from);
        values[q] = piece[winner];
        codes[q] = static_cast<Code>(winner);
      }
      continue;
    }
    columns.take(plane, count, where.get(), rows.get());
    for (int64_t q = 0; q < x.places; ++q) {
      const int64_t from = x.begin[map * x.apart + q];
      const auto best = columns.among(from, x.end[map * x.apart + q]);
      values[q] = best.value;
      codes[q] = static_cast<Code>(best.row * x.kernel + best.column - from);
    }
  }
}

template <class T, class Code>
void placed_pool_channels_last(const PlacedPoolJob& job, int64_t begin, int64_t end) {
  using Raw = typename Kinds<T, Code>::Raw;
  using Lane = typename Kinds<T, Code>::Lane;
  const PlacedAxis &z = job.windows.axis[0], &y = job.windows.axis[1], &x = job.windows.axis[2];
  PixelList<Lane> pixels(job.windows.cells());
  PoolJob to;
  to.values = job.values;
  to.codes = job.codes;
  with_lanes<Kinds<T, Code>::lanes>(job.channels, [&](auto lanes) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item / x.places, q = item % x.places, p = row % y.places, volume = row / y.places;
      const int64_t od = volume % z.places, image = volume / z.places;
      pixels.count = 0;
      for (int64_t d = z.begin[od]; d < z.end[od]; ++d)
        for (int64_t h = y.begin[p]; h < y.end[p]; ++h)
          for (int64_t w = x.begin[q]; w < x.end[q]; ++w) {
            pixels.where[pixels.count] = d * job.input_stride[2] + h * job.input_stride[3] + w * job.input_stride[4];
            const int64_t code = ((d - z.begin[od]) * y.kernel + h - y.begin[p]) * x.kernel + w - x.begin[q];
            pixels.offset[pixels.count++] = static_cast<Lane>(code);
          }
      pool_pixel<T, Code, decltype(lanes)::value>(static_cast<const Raw*>(job.input) + image * job.input_stride[0],
                                                  pixels, job.channels, OutputRow<T, Code>(to, item, job.channels));
    }
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
