// Average pooling over pixels of neighbouring channels (NHWC and NDHWC), forward and backward.
#pragma once

#include "avg_pool/lanes.h"
#include "avg_pool/whole.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// At -O2 GCC keeps a loop of eight turns, and with it the array that it walks in memory instead of registers.
#define SWITCHGRAD_UNROLL _Pragma("GCC unroll 8")

// Several vectors of neighbouring channels, so that every visit to a pixel reads a few whole cache lines.
template <class Sum, int N, int M>
struct Wide {
  Vec<Sum, N> part[M] = {};
  SWITCHGRAD_INLINE Wide operator+(const Wide& other) const {
    Wide sum;
    SWITCHGRAD_UNROLL
    for (int m = 0; m < M; ++m) sum.part[m] = part[m] + other.part[m];
    return sum;
  }
};

template <class T, int N, int M, class Cover>
SWITCHGRAD_INLINE Wide<typename Average<T>::Sum, N, M> load_channels(const typename Average<T>::Raw* from,
                                                                     Cover cover) {
  Wide<typename Average<T>::Sum, N, M> wide;
  SWITCHGRAD_UNROLL
  for (int m = 0; m < M; ++m) wide.part[m] = load_wide<T, N>(from + m * N, cover);
  return wide;
}

template <class T, int N, int M, class Cover>
SWITCHGRAD_INLINE void store_channels(typename Average<T>::Raw* to, const Wide<typename Average<T>::Sum, N, M>& wide,
                                      Cover cover) {
  SWITCHGRAD_UNROLL
  for (int m = 0; m < M; ++m) store_narrow<T, N>(to + m * N, wide.part[m], cover);
}

template <bool Multiply, class Sum, int N, int M>
SWITCHGRAD_INLINE Wide<Sum, N, M> scaled_channels(const Wide<Sum, N, M>& wide, Sum factor) {
  Wide<Sum, N, M> result;
  SWITCHGRAD_UNROLL
  for (int m = 0; m < M; ++m) result.part[m] = scaled<Multiply>(wide.part[m], broadcast<Sum, N>(factor));
  return result;
}

// Calls body(vectors, c, cover) for all channels: eight (where there are registers for them) or four vectors at a time
// while they last, then one.
template <int N, class F>
SWITCHGRAD_INLINE void each_channel(int64_t channels, const F& body) {
  int64_t c = 0;
  if constexpr (has_parts)
    for (; c + 8 * N <= channels; c += 8 * N) body(std::integral_constant<int, 8>{}, c, Whole{});
  for (; c + 4 * N <= channels; c += 4 * N) body(std::integral_constant<int, 4>{}, c, Whole{});
  if (c < channels)
    blocks<N>(channels - c, [&](int64_t at, auto cover) { body(std::integral_constant<int, 1>{}, c + at, cover); });
}

// Wide windows that share no pixel are read pixel by pixel, as they lie in memory, into a line of sums for each column.
template <class T, bool Multiply, int N>
class PixelLines {
 public:
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;

  explicit PixelLines(const AverageJob& job)
      : use(job.bins[2].most == 1 && job.bins[0].kernel * job.bins[1].kernel * job.bins[2].kernel >= 16 &&
            job.channels >= 4 * N),
        chunk_(use ? chunk(job.channels, job.bins[2].kernel) : 0),
        lines_(chunk_ * job.bins[2].kernel) {}

  // The window whose columns first .. last - 1 of `cells` lie `step` apart, each with the rows `where`.
  void write(const Raw* pixels, int64_t step, const Offsets& rows, int64_t cells, int64_t first, int64_t last,
             int64_t channels, Sum factor, Raw* to) {
    for (int64_t c = 0; c < channels; c += chunk_) {
      const int64_t count = channels - c < chunk_ ? channels - c : chunk_;
      for (int64_t i = 0; i < rows.count; ++i)
        for (int64_t s = first; s < last; ++s) add(pixels + rows.where[i] + s * step + c, line(s), i == 0, count);
      cascade<N>(0, count, [&](auto n, int64_t at, auto cover) {
        using Lanes = Vec<Sum, decltype(n)::value>;
        const auto sum =
            sum_columns<Lanes>(cells, first, last, [&](int64_t s) { return load<Lanes>(line(s) + at, cover); });
        store_narrow<T, decltype(n)::value>(to + c + at,
                                            scaled<Multiply>(sum, broadcast<Sum, decltype(n)::value>(factor)), cover);
      });
    }
  }

  const bool use;

 private:
  // Channels at a time: as many as let all lines stay in the nearest cache.
  static int64_t chunk(int64_t channels, int64_t columns) {
    constexpr int64_t nearby = 1 << 13;
    const int64_t fit = nearby / columns / N * N, most = fit > 4 * N ? fit : 4 * N;
    return channels < most ? channels : most;
  }
  Sum* line(int64_t s) const { return lines_.get() + s * chunk_; }

  static void add(const Raw* pixel, Sum* line, bool is_first, int64_t count) {
    cascade<N>(0, count, [&](auto n, int64_t at, auto cover) {
      using Lanes = Vec<Sum, decltype(n)::value>;
      const Lanes cells = load_wide<T, decltype(n)::value>(pixel + at, cover);
      store(line + at, is_first ? cells : static_cast<Lanes>(load<Lanes>(line + at, cover) + cells), cover);
    });
  }

  int64_t chunk_;
  Scratch<Sum> lines_;
};

// Maps of one window: the sums of whole.h, a few vectors of channels at a time. The tree of the sixteen sums is gone
// through depth first, so that five of them at most are open at once and stay in registers.
template <class T, bool Multiply, int N>
class WholeMaps {
 public:
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;

  explicit WholeMaps(const AverageJob& job)
      : channels_(job.channels), cells_(job.bins[0].size * job.bins[1].size * job.bins[2].size), where_(cells_) {
    int64_t* to = where_.get();
    for (int64_t d = 0; d < job.bins[0].size; ++d)
      for (int64_t h = 0; h < job.bins[1].size; ++h)
        for (int64_t w = 0; w < job.bins[2].size; ++w)
          *to++ = d * job.stride[2] + h * job.stride[3] + w * job.stride[4];
  }

  void write(const Raw* image, Sum factor, Raw* to) const {
    int64_t c = 0;
    for (; c + wide * N <= channels_; c += wide * N) write_channels<wide>(image + c, factor, to + c, Whole{});
    cascade<N>(c, channels_, [&](auto n, int64_t at, auto cover) {
      write_vector<decltype(n)::value>(image + at, factor, to + at, cover);
    });
  }

 private:
  static constexpr int wide = has_parts ? 4 : 2;
  template <int L, int M>
  using Lanes = Wide<Sum, L, M>;

  template <int M, class Cover>
  __attribute__((noinline)) void write_channels(const Raw* first, Sum factor, Raw* to, Cover cover) const {
    store_channels<T, N, M>(to, scaled_channels<Multiply>(total<N, M>(first, cover), factor), cover);
  }
  template <int L, class Cover>
  __attribute__((noinline)) void write_vector(const Raw* first, Sum factor, Raw* to, Cover cover) const {
    store_channels<T, L, 1>(to, scaled_channels<Multiply>(total<L, 1>(first, cover), factor), cover);
  }

  template <int L, int M, class Cover>
  SWITCHGRAD_INLINE Lanes<L, M> total(const Raw* first, Cover cover) const {
    if (cells_ > partial_sums) return tree<L, M, 1>(first, 0, cover);
    return chain<L, M, 1>(first, 0, cover);
  }
  // The pixels `from`, `from` + Apart, ...: one after the other, or where they lie closer than sixteen two such sums.
  template <int L, int M, int Apart, class Cover>
  SWITCHGRAD_INLINE Lanes<L, M> tree(const Raw* first, int64_t from, Cover cover) const {
    if constexpr (Apart == partial_sums) {
      return chain<L, M, Apart>(first, from, cover);
    } else {
      const auto lower = tree<L, M, 2 * Apart>(first, from, cover);
      return lower + tree<L, M, 2 * Apart>(first, from + Apart, cover);
    }
  }
  template <int L, int M, int Apart, class Cover>
  SWITCHGRAD_INLINE Lanes<L, M> chain(const Raw* first, int64_t from, Cover cover) const {
    Lanes<L, M> sum;
    for (int64_t s = from; s < cells_; s += Apart) sum = sum + load_channels<T, L, M>(first + where_[s], cover);
    return sum;
  }

  int64_t channels_, cells_;
  Scratch<int64_t> where_;
};

template <class T, bool Multiply, int N>
void average_channels_last_maps(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  const WholeMaps<T, Multiply, N> maps(job);
  const auto factor = whole_factor<typename Average<T>::Sum>(job);
  for (int64_t item = begin; item < end; ++item)
    maps.write(static_cast<const Raw*>(job.from) + item * job.stride[0], factor,
               static_cast<Raw*>(job.to) + item * job.channels);
}

template <class T, bool Multiply, int N>
void average_channels_last_pixels(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  const Bins &y = job.bins[1], &z = job.bins[0], &x = job.bins[2];
  WindowOffsets rows(job);
  Factors<Sum> factors(x);
  PixelLines<T, Multiply, N> lines(job);
  for (int64_t item = begin; item < end;) {
    const int64_t row = item / x.places;
    const Count at(row, y.places, z.places, 1);
    const Raw* image = static_cast<const Raw*>(job.from) + at.image * job.stride[0];
    rows.go_to(at.depth, at.row);
    const Sum* by = factors.of(rows.factor);
    const int64_t until = (row + 1) * x.places < end ? (row + 1) * x.places : end;
    for (int64_t q = item - row * x.places; item < until; ++item, ++q) {
      Raw* to = static_cast<Raw*>(job.to) + item * job.channels;
      if (rows.count == 0 || x.first[q] >= x.last[q]) {
        std::memset(to, 0, static_cast<size_t>(job.channels) * sizeof(Raw));
        continue;
      }
      const int64_t step = x.dilation * job.stride[4], count = rows.count;
      const Raw* first = image + x.start[q] * job.stride[4];
      if (lines.use) {
        lines.write(first, step, rows, x.cells[q], x.first[q], x.last[q], job.channels, by[q], to);
        continue;
      }
      const int64_t* where = rows.where.get();
      each_channel<N>(job.channels, [&](auto vectors, int64_t c, auto cover) {
        constexpr int M = decltype(vectors)::value;
        const auto column = [&](int64_t s) {
          const Raw* pixel = first + s * step + c;
          auto sum = load_channels<T, N, M>(pixel + where[0], cover);
          for (int64_t i = 1; i < count; ++i) {
            sum = sum + load_channels<T, N, M>(pixel + where[i], cover);
          }
          return sum;
        };
        const auto sum = sum_columns<Wide<Sum, N, M>>(x.cells[q], x.first[q], x.last[q], column);
        store_channels<T, N, M>(to + c, scaled_channels<Multiply>(sum, by[q]), cover);
      });
    }
  }
}

template <class T>
void average_channels_last(const AverageJob& job, int64_t begin, int64_t end) {
  with_scale(job.multiply, [&](auto multiply) {
    with_lanes<Average<T>::lanes>(job.channels, [&](auto n) {
      constexpr int N = decltype(n)::value;
      if (covers_whole_maps(job)) return average_channels_last_maps<T, decltype(multiply)::value, N>(job, begin, end);
      average_channels_last_pixels<T, decltype(multiply)::value, N>(job, begin, end);
    });
  });
}

// The pooled rows whose windows reach over input row (d, h) of image n, in row-major order.
template <class T>
void rows_over(const AverageJob& job, int64_t n, int64_t d, int64_t h, Rows<typename Average<T>::Raw>& rows) {
  const Bins &z = job.bins[0], &y = job.bins[1];
  rows.count = 0;
  for (int64_t od = z.cover_begin[d]; od < z.cover_end[d]; ++od) {
    if (!z.holds(od, d)) continue;
    for (int64_t p = y.cover_begin[h]; p < y.cover_end[h]; ++p)
      if (y.holds(p, h))
        rows.add(static_cast<const typename Average<T>::Raw*>(job.from) +
                     ((n * z.places + od) * y.places + p) * job.bins[2].places * job.channels,
                 z.factor[od] * y.factor[p]);
  }
}

template <class T, bool Multiply, int N>
void spread_channels_last_pixels(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  const Bins &z = job.bins[0], &y = job.bins[1], &x = job.bins[2];
  Rows<Raw> rows(z.most * y.most);
  for (int64_t item = begin; item < end;) {
    const int64_t row = item / x.size, h = row % y.size, volume = row / y.size;
    rows_over<T>(job, volume / z.size, volume % z.size, h, rows);
    const int64_t from_here = item, until = (row + 1) * x.size < end ? (row + 1) * x.size : end;
    for (int64_t w = item - row * x.size; item < until; ++item, ++w) {
      Raw* to = static_cast<Raw*>(job.to) + item * job.channels;
      const size_t bytes = static_cast<size_t>(job.channels) * sizeof(Raw);
      const int64_t q_begin = x.cover_begin[w], q_end = x.cover_end[w];
      if (rows.count == 0 || q_begin >= q_end) {
        std::memset(to, 0, bytes);
        continue;
      }
      if (item > from_here && x.dilation == 1 && q_begin == x.cover_begin[w - 1] && q_end == x.cover_end[w - 1]) {
        const Raw* before = to - job.channels;  // cells of the same windows get the same
        cascade<N>(0, job.channels, [&](auto n, int64_t c, auto cover) {
          store(to + c, load<Vec<Raw, decltype(n)::value>>(before + c, cover), cover);
        });
        continue;
      }
      each_channel<N>(job.channels, [&](auto vectors, int64_t c, auto cover) {
        constexpr int M = decltype(vectors)::value;
        Wide<Sum, N, M> sum;
        for (int64_t q = q_begin; q < q_end; ++q) {
          if (!x.holds(q, w)) continue;
          Wide<Sum, N, M> column;
          for (int64_t i = 0; i < rows.count; ++i) {
            const auto factor = static_cast<Sum>(rows.factor[i] * x.factor[q]);
            column = column + scaled_channels<Multiply>(
                                  load_channels<T, N, M>(rows.from[i] + q * job.channels + c, cover), factor);
          }
          sum = sum + column;
        }
        store_channels<T, N, M>(to + c, sum, cover);
      });
    }
  }
}

template <class T>
void spread_channels_last(const AverageJob& job, int64_t begin, int64_t end) {
  with_scale(job.multiply, [&](auto multiply) {
    with_lanes<Average<T>::lanes>(job.channels, [&](auto n) {
      spread_channels_last_pixels<T, decltype(multiply)::value, decltype(n)::value>(job, begin, end);
    });
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
