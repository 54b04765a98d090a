// The backward of average pooling over rows of neighbouring pixels: each pooled number is shared out to its cells.
//
// The sum is gathered at the input cell: the pooled rows over an input row are added first, then the windows along it.
// Cells of the same windows get the same number, so a row that lies under the same windows as the one above is a copy.
#pragma once

#include "avg_pool/lanes.h"
#include "avg_pool/whole.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// One row of pooled numbers by their divisors, summed over the rows of windows, and the way from it to input cells.
template <class T, bool Multiply>
class SpreadRow {
 public:
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  static constexpr int lanes = Average<T>::lanes;

  explicit SpreadRow(const Bins& width)
      : width_(width),
        step_(chosen(width)),
        margin_(step_ == ones || step_ == twos ? reach(width) : 0),
        length_(margin_ + width.places + (step_ == ones || step_ == twos ? reach(width) + width.size : 0) + 2 * lanes),
        factors_(width),
        shares_(length_),
        line_(width.size),
        pieces_(step_ == pieces ? width.size : 0) {
    for (int64_t i = 0; i < length_; ++i) shares_[i] = 0;
    for (int64_t w = 1; step_ == pieces && w <= width.size; ++w)
      if (w == width.size || !like_the_one_before(width, w)) pieces_[piece_count_++] = w;
  }

  void write(const Rows<Raw>& rows, Raw* to) {
    for (int64_t i = 0; i < rows.count; ++i) add(rows.from[i], factors_.of(rows.factor[i]), i == 0);
    if constexpr (Average<T>::is_half) {
      share(line_.get());
      cascade<lanes>(0, width_.size, [&](auto n, int64_t w, auto cover) {
        constexpr int N = decltype(n)::value;
        store_narrow<T, N>(to + w, load<Vec<Sum, N>>(line_.get() + w, cover), cover);
      });
    } else {
      share(to);
    }
  }

 private:
  enum Step { ones, twos, runs, pieces, lists };
  static constexpr int64_t few = 8;

  static int64_t reach(const Bins& width) { return width.kernel * width.dilation + 2; }
  static Step chosen(const Bins& width) {
    if (width.most <= 1 && width.dilation == 1) return runs;
    const Step others = width.dilation == 1 ? pieces : lists;
    if (reach(width) > 4 * width.size + 1024) return others;
    return width.stride == 1 ? ones : width.stride == 2 ? twos : others;
  }

  void add(const Raw* pooled, const Sum* factors, bool is_first) {
    Sum* to = shares_.get() + margin_;
    if (width_.places <= few) {  // read back one by one: see ColumnSums
      for (int64_t q = 0; q < width_.places; ++q) {
        const Sum share = scaled<Multiply>(load_wide<T, 1>(pooled + q), factors[q]);
        to[q] = is_first ? 0 + share : to[q] + share;
      }
      return;
    }
    cascade<lanes>(0, width_.places, [&](auto n, int64_t q, auto cover) {
      constexpr int N = decltype(n)::value;
      const auto numbers = load_wide<T, N>(pooled + q, cover);
      Vec<Sum, N> divisors = load<Vec<Sum, N>>(factors + q, cover);
      const auto share = scaled<Multiply>(numbers, divisors);
      const Vec<Sum, N> before = is_first ? Vec<Sum, N>{} : load<Vec<Sum, N>>(to + q, cover);
      store(to + q, static_cast<Vec<Sum, N>>(before + share), cover);
    });
  }

  void share(Sum* to) const {
    switch (step_) {
      case ones: return share_ones(to);
      case twos: return share_twos(to);
      case runs: return share_runs(to);
      case pieces: return share_pieces(to);
      default: break;
    }
    for (int64_t w = 0; w < width_.size; ++w) to[w] = sum_at(w);
  }

  Sum sum_at(int64_t w) const {
    Sum sum = 0;
    for (int64_t q = width_.cover_begin[w]; q < width_.cover_end[w]; ++q)
      if (width_.holds(q, w)) sum += shares_[q];
    return sum;
  }

  // Cells of the same windows get the same number.
  void share_pieces(Sum* to) const {
    int64_t w = 0;
    for (int64_t piece = 0; piece < piece_count_; w = pieces_[piece++]) {
      const Sum sum = sum_at(w);
      cascade<lanes>(w, pieces_[piece], [&](auto n, int64_t at, auto cover) {
        store(to + at, broadcast<Sum, decltype(n)::value>(sum), cover);
      });
    }
  }

  void share_ones(Sum* to) const {
    const Sum* from = shares_.get() + margin_ - width_.start[0];
    cascade<lanes>(0, width_.size, [&](auto n, int64_t w, auto cover) {
      Vec<Sum, decltype(n)::value> sum{};
      for (int64_t s = width_.kernel - 1; s >= 0; --s)
        sum = sum + load<Vec<Sum, decltype(n)::value>>(from + w - s * width_.dilation);
      store(to + w, sum, cover);
    });
  }

  // Input cell w lies `2 i + phase` behind the first window's start; window i - t holds it as cell 2 t + phase.
  template <int N>
  SWITCHGRAD_INLINE Vec<Sum, N> of_phase(int64_t phase, int64_t i) const {
    Vec<Sum, N> sum{};
    for (int64_t s = width_.kernel - 1; s >= 0; --s) {
      const int64_t behind = s * width_.dilation;
      if (behind % 2 == phase) sum = sum + load<Vec<Sum, N>>(shares_.get() + margin_ + i - behind / 2);
    }
    return sum;
  }
  void share_twos(Sum* to) const {
    const int64_t pad = -width_.start[0], odd = pad % 2;
    if (odd == 1) to[0] = of_phase<1>(1, pad / 2);
    const int64_t first = (odd + pad) / 2, pairs = (width_.size - odd) / 2;
    cascade<lanes>(0, pairs, [&](auto n, int64_t i, auto cover) {
      constexpr int N = decltype(n)::value;
      store_pairs<Sum, N>(to + odd + 2 * i, of_phase<N>(0, first + i), of_phase<N>(1, first + i), cover);
    });
    if (odd + 2 * pairs < width_.size) to[odd + 2 * pairs] = of_phase<1>(0, first + pairs);
  }

  void share_runs(Sum* to) const {
    int64_t w = 0;
    for (int64_t q = 0; q < width_.places; ++q) {
      const int64_t begin = width_.start[q] + width_.first[q], end = width_.start[q] + width_.last[q];
      const Sum share = shares_[q];
      for (; w < begin && w < width_.size; ++w) to[w] = 0;
      for (; w < end; ++w) to[w] = share;
    }
    for (; w < width_.size; ++w) to[w] = 0;
  }

  const Bins& width_;
  Step step_;
  int64_t margin_, length_;
  Factors<Sum> factors_;
  Scratch<Sum> shares_, line_;
  Scratch<int64_t> pieces_;  // where each ends
  int64_t piece_count_ = 0;
};

// Two-cell windows two cells apart, one row of them: each share is written twice, straight from registers.
template <class T, bool Multiply, int N>
void spread_pairs(const typename Average<T>::Raw* pooled, const typename Average<T>::Sum* factors, int64_t whole,
                  int64_t in_blocks, const Bins& width, typename Average<T>::Raw* to) {
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  if (whole > 0)
    blocks<N>(in_blocks, [&](int64_t q, auto cover) {
      const auto share = scaled<Multiply>(load_wide<T, N>(pooled + q, cover), broadcast<Sum, N>(factors[0]));
      const auto raw = narrowed<T, N>(static_cast<Vec<Sum, N>>(Vec<Sum, N>{} + share));
      if constexpr (N == 1) {
        to[2 * q] = to[2 * q + 1] = raw;
      } else {
        store(to + 2 * q, doubled<0, Raw, N>(raw), lower_half(cover, N));
        store(to + 2 * q + N, doubled<1, Raw, N>(raw), upper_half(cover, N));
      }
    });
  for (int64_t w = 2 * whole; w < width.size; ++w) {
    Sum share = 0;
    if (whole < width.places) share += scaled<Multiply>(load_wide<T, 1>(pooled + whole), factors[whole]);
    store_narrow<T, 1>(to + w, share);
  }
}

template <class T, bool Multiply, int N>
void spread_planar_rows(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  const Bins &z = job.bins[0], &y = job.bins[1], &x = job.bins[2];
  const bool pairs = are_pairs(x);
  const int64_t whole = whole_pairs(x);
  Rows<Raw> rows(z.most * y.most);
  Factors<typename Average<T>::Sum> factors(x);
  SpreadRow<T, Multiply> row(x);
  Count at(begin, y.size, z.size, 1);
  for (int64_t item = begin; item < end;) {
    const int64_t h = at.row;
    Raw* to = static_cast<Raw*>(job.to) + item * x.size;
    rows_over<T>(job, at.image, at.depth, h, rows);
    if (rows.count == 0) {
      std::memset(to, 0, static_cast<size_t>(x.size) * sizeof(Raw));
    } else if (pairs && rows.count == 1) {
      spread_pairs<T, Multiply, N>(rows.from[0], factors.of(rows.factor[0]), whole, whole, x, to);
    } else {
      row.write(rows, to);
    }
    int64_t alike = 1;
    while (item + alike < end && h + alike < y.size && like_the_one_before(y, h + alike)) ++alike;
    for (int64_t done = 1; done < alike; done *= 2) {  // rows of a window follow each other in memory
      const int64_t more = done < alike - done ? done : alike - done;
      std::memcpy(to + done * x.size, to, static_cast<size_t>(more * x.size) * sizeof(Raw));
    }
    for (; alike > 0; --alike, ++item) at.step();
  }
}

template <class T>
void spread_planar(const AverageJob& job, int64_t begin, int64_t end) {
  const Bins& x = job.bins[2];
  with_scale(job.multiply, [&](auto multiply) {
    if (covers_whole_maps(job)) return spread_maps<T, decltype(multiply)::value>(job, begin, end);
    with_lanes<Average<T>::lanes>(whole_pairs(x), [&](auto n) {
      spread_planar_rows<T, decltype(multiply)::value, decltype(n)::value>(job, begin, end);
    });
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
