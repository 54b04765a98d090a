// Average pooling over rows of neighbouring pixels (NCHW, its 1-D and 3-D kin, and crops of them).
//
// The rows of a window are added first, at unit stride, into one row of column sums; windows along it then add columns.
#pragma once

#include "avg_pool/lanes.h"
#include "avg_pool/whole.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// The windows along a row of column sums.
template <class T, bool Multiply>
class ColumnSums {
 public:
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  static constexpr int lanes = Average<T>::lanes;

  explicit ColumnSums(const Bins& width)
      : width_(width),
        step_(chosen(width)),
        left_(step_ == runs ? 0 : margin(-width.start[0])),
        length_(left_ + width.size + (step_ == runs ? 0 : right(width)) + 2 * lanes + 2),
        columns_(length_),
        line_(width.places + lanes) {
    for (int64_t i = 0; i < length_; ++i) columns_[i] = 0;  // the margins stay so
  }

  // Adds up the rows, column by column. Whole vectors are written, into the slack at the end: a number read back from
  // a vector that was written in part would have to wait until it has reached the cache.
  void add(const Raw* image, const Offsets& rows) {
    Sum* to = columns_.get() + left_;
    const int64_t* where = rows.where.get();
    const int64_t count = rows.count;
    cascade<lanes>(0, width_.size, [&](auto n, int64_t w, auto cover) {
      constexpr int N = decltype(n)::value;
      auto sum = load_wide<T, N>(image + where[0] + w, cover);
      for (int64_t i = 1; i < count; ++i) sum = sum + load_wide<T, N>(image + where[i] + w, cover);
      store(to + w, sum);
    });
  }

  // Writes a row of averages.
  void write(const Sum* factors, Raw* to) {
    switch (step_) {
      case ones: return each([&](auto n, int64_t q) { return at<decltype(n)::value, 1>(q); }, factors, to);
      case twos: return each([&](auto n, int64_t q) { return at<decltype(n)::value, 2>(q); }, factors, to);
      default: break;
    }
    if (width_.places <= few) {  // and so would a vector read back from single numbers
      for (int64_t q = 0; q < width_.places; ++q) store_narrow<T, 1>(to + q, scaled<Multiply>(run(q), factors[q]));
      return;
    }
    for (int64_t q = 0; q < width_.places; ++q) line_[q] = run(q);
    each([&](auto n, int64_t q) { return load<Vec<Sum, decltype(n)::value>>(line_.get() + q); }, factors, to);
  }

 private:
  enum Step { ones, twos, runs };
  static constexpr int64_t few = 8;

  // Windows one or two cells apart are read at unit stride; others, and those that hop far, one by one.
  static Step chosen(const Bins& width) {
    const int64_t most = 4 * width.size + 1024;
    if (-width.start[0] > most || right(width) > most || width.places < 4) return runs;
    return width.stride == 1 ? ones : width.stride == 2 ? twos : runs;
  }
  static int64_t margin(int64_t cells) { return cells > 0 ? cells : 0; }
  static int64_t right(const Bins& width) {
    const int64_t last = width.places - 1;
    return margin(width.start[last] + (width.cells[last] - 1) * width.dilation + 1 - width.size);
  }

  template <int N, int Stride>
  SWITCHGRAD_INLINE Vec<Sum, N> at(int64_t q) const {
    const Sum* from = columns_.get() + left_ + width_.start[0] + Stride * q;
    return sum_columns<Vec<Sum, N>>(width_.kernel, 0, width_.kernel, [&](int64_t s) {
      if constexpr (Stride == 1) {
        return load<Vec<Sum, N>>(from + s * width_.dilation);
      } else {
        Vec<Sum, N> even, odd;
        load_pairs<Sum, N>(from + s * width_.dilation, even, odd);
        return even;
      }
    });
  }

  Sum run(int64_t q) const {
    const Sum* from = columns_.get() + width_.start[q] + left_;
    const int64_t cells = width_.cells[q], first = width_.first[q], last = width_.last[q], apart = width_.dilation;
    if (apart == 1 && last - first == cells) return sum_run(from, cells);
    return sum_columns<Sum>(cells, first, last, [&](int64_t s) { return from[s * apart]; });
  }

  template <class F>
  SWITCHGRAD_INLINE void each(const F& sums, const Sum* factors, Raw* to) const {
    cascade<lanes>(0, width_.places, [&](auto n, int64_t q, auto cover) {
      constexpr int N = decltype(n)::value;
      const Vec<Sum, N> sum = sums(n, q);
      store_narrow<T, N>(to + q, scaled<Multiply>(sum, load<Vec<Sum, N>>(factors + q, cover)), cover);
    });
  }

  const Bins& width_;
  Step step_;
  int64_t left_, length_;
  Scratch<Sum> columns_, line_;
};

// Two-cell windows two cells apart need no scratch: rows are added and neighbours parted in registers. `Count` rows, or
// any number where it is 0.
template <class T, bool Multiply, int N, int Count>
SWITCHGRAD_INLINE void average_pairs(const typename Average<T>::Raw* image, const Offsets& rows, int64_t whole,
                                     bool past, typename Average<T>::Sum factor, typename Average<T>::Raw* to) {
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  const int64_t* where = rows.where.get();
  const int64_t count = rows.count;
  const Raw *first = image + where[0], *second = Count == 2 ? image + where[1] : nullptr;
  blocks<N>(whole, [&](int64_t q, auto cover) {
    const auto lower = lower_half(cover, N);
    const auto upper = upper_half(cover, N);
    auto a = load_wide<T, N>(first + 2 * q, lower), b = load_wide<T, N>(first + 2 * q + N, upper);
    if constexpr (Count == 2) {
      a = a + load_wide<T, N>(second + 2 * q, lower);
      b = b + load_wide<T, N>(second + 2 * q + N, upper);
    } else {
      for (int64_t i = 1; i < count; ++i) {
        a = a + load_wide<T, N>(image + where[i] + 2 * q, lower);
        b = b + load_wide<T, N>(image + where[i] + 2 * q + N, upper);
      }
    }
    Vec<Sum, N> sum{};  // + 0: the sum of -0 is +0
    if constexpr (N == 1) {
      sum = sum + (a + b);
    } else {
      constexpr auto all = std::make_integer_sequence<int, N>{};
      sum = sum + (pick<Sum, N>(a, b, every_second<0>(all)) + pick<Sum, N>(a, b, every_second<1>(all)));
    }
    store_average<T, N>(to + q, scaled<Multiply>(sum, broadcast<Sum, N>(factor)), past, cover);
  });
}

template <class T, bool Multiply, int N>
void average_row_of_pairs(const typename Average<T>::Raw* image, const Offsets& rows, int64_t whole, bool past,
                          const typename Average<T>::Sum* factors, int64_t places, typename Average<T>::Raw* to) {
  using Sum = typename Average<T>::Sum;
  if (whole > 0) {
    if (rows.count == 2) {
      average_pairs<T, Multiply, N, 2>(image, rows, whole, past, factors[0], to);
    } else {
      average_pairs<T, Multiply, N, 0>(image, rows, whole, past, factors[0], to);
    }
  }
  for (int64_t q = whole; q < places; ++q) {  // the last window of an odd row has one column
    Sum sum = 0;
    for (int64_t i = 0; i < rows.count; ++i) sum += load_wide<T, 1>(image + rows.where[i] + 2 * q);
    store_narrow<T, 1>(to + q, scaled<Multiply>(sum, factors[q]));
  }
}

template <class T, bool Multiply, int N>
void average_planar_rows(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  const Bins& x = job.bins[2];
  const bool pairs = are_pairs(x);
  const int64_t whole = whole_pairs(x);
  const bool past = pairs && whole == x.places && goes_past_caches<Raw>(job, whole);
  Factors<typename Average<T>::Sum> factors(x);
  ColumnSums<T, Multiply> columns(x);
  WindowOffsets rows(job);
  Count at(begin, job.bins[1].places, job.bins[0].places, job.channels);
  for (int64_t item = begin; item < end; ++item, at.step()) {
    const Raw* image = static_cast<const Raw*>(job.from) + at.image * job.stride[0] + at.channel * job.stride[1];
    Raw* to = static_cast<Raw*>(job.to) + item * x.places;
    rows.go_to(at.depth, at.row);
    if (rows.count == 0) {
      std::memset(to, 0, static_cast<size_t>(x.places) * sizeof(Raw));
      continue;
    }
    const auto* by = factors.of(rows.factor);
    image += rows.base;
    if (pairs) {
      average_row_of_pairs<T, Multiply, N>(image, rows, whole, past, by, x.places, to);
    } else {
      columns.add(image, rows);
      columns.write(by, to);
    }
  }
  if (past) all_past_caches();
}

template <class T>
void average_planar(const AverageJob& job, int64_t begin, int64_t end) {
  const Bins& x = job.bins[2];
  with_scale(job.multiply, [&](auto multiply) {
    if (covers_whole_maps(job)) return average_maps<T, decltype(multiply)::value>(job, begin, end);
    with_lanes<Average<T>::lanes>(whole_pairs(x), [&](auto n) {
      average_planar_rows<T, decltype(multiply)::value, decltype(n)::value>(job, begin, end);
    });
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
