// Average pooling over pixels of neighbouring channels (NHWC and NDHWC).
#pragma once

#include "avg_pool/channels.h"
#include "avg_pool/whole.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// One window and where its averages go.
template <class T>
struct PixelWindow {
  using Raw = typename Average<T>::Raw;
  const Raw* first;           // the pixel of its first column in the first of its rows
  int64_t step;               // from column to column
  int64_t cells, begin, end;  // columns begin .. end - 1 of `cells` lie in the map
  const Offsets& rows;
  typename Average<T>::Sum factor;
  int64_t channels;
  Raw* to;
  bool past;
};

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

  void write(const PixelWindow<T>& window) {
    const Offsets& rows = window.rows;
    for (int64_t c = 0; c < window.channels; c += chunk_) {
      const int64_t count = window.channels - c < chunk_ ? window.channels - c : chunk_;
      for (int64_t i = 0; i < rows.count; ++i)
        for (int64_t s = window.begin; s < window.end; ++s)
          add(window.first + rows.where[i] + s * window.step + c, line(s), i == 0, count);
      cascade<N>(0, count, [&](auto n, int64_t at, auto cover) {
        constexpr int L = decltype(n)::value;
        using Lanes = Wide<Sum, L, 1>;
        const auto column = [&](int64_t s) { return Lanes{{load<Vec<Sum, L>>(line(s) + at, cover)}}; };
        const auto sum = sum_columns<Lanes>(window.cells, window.begin, window.end, column);
        store_averages<T, L, 1>(window.to + c + at, scaled_channels<Multiply>(sum, window.factor), window.past, cover);
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
    for (; c + wide / 2 * N <= channels_; c += wide / 2 * N)
      write_channels<wide / 2>(image + c, factor, to + c, Whole{});
    cascade<N>(c, channels_, [&](auto n, int64_t at, auto cover) {
      write_vector<decltype(n)::value>(image + at, factor, to + at, cover);
    });
  }

 private:
  static constexpr int wide = has_parts ? 8 : 4;
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

// M vectors of channels of a window of a few columns. All columns have a sum open, so that the processor sees many
// loads ahead.
template <class T, int N, int M, int Columns, class Cover>
SWITCHGRAD_INLINE Wide<typename Average<T>::Sum, N, M> sum_few_columns(const typename Average<T>::Raw* first,
                                                                       int64_t step, const int64_t* where,
                                                                       int64_t count, Cover cover) {
  Wide<typename Average<T>::Sum, N, M> column[Columns], sum;
  SWITCHGRAD_UNROLL
  for (int s = 0; s < Columns; ++s) column[s] = load_channels<T, N, M>(first + where[0] + s * step, cover);
  for (int64_t i = 1; i < count; ++i) {
    SWITCHGRAD_UNROLL
    for (int s = 0; s < Columns; ++s)
      column[s] = column[s] + load_channels<T, N, M>(first + where[i] + s * step, cover);
  }
  SWITCHGRAD_UNROLL
  for (int s = 0; s < Columns; ++s) sum = sum + column[s];
  return sum;
}

// Windows of a few columns, all in the map or all clipped alike, that follow each other `apart`. Whatever differs from
// one to the next stays in registers: read back from memory, it would wait for the averages written before it.
struct Run {
  int64_t windows, columns, step, apart;
};
template <class T, bool Multiply, int N, int Columns>
__attribute__((noinline)) void average_run(const Run& run, const typename Average<T>::Raw* first, const Offsets& rows,
                                           typename Average<T>::Sum factor, int64_t channels,
                                           typename Average<T>::Raw* to, bool past) {
  const int64_t* where = rows.where.get();
  const int64_t count = rows.count, step = run.step, apart = run.apart;
  for (int64_t left = run.windows; left > 0; --left, first += apart, to += channels) {
    each_channel<N, 4>(channels, [=](auto vectors, int64_t c, auto cover) __attribute__((always_inline)) {
      constexpr int M = decltype(vectors)::value;
      const auto sum = sum_few_columns<T, N, M, Columns>(first + c, step, where, count, cover);
      store_averages<T, N, M>(to + c, scaled_channels<Multiply>(sum, factor), past, cover);
    });
  }
}

// The windows from q on, before `end`, that have the same columns and the same divisor.
template <class Sum>
Run run_from(const Bins& x, int64_t q, int64_t end, const Sum* by, int64_t column) {
  Run run{1, x.last[q] - x.first[q], x.dilation * column, 0};
  const int64_t apart = q + 1 < end ? x.start[q + 1] - x.start[q] : 0;
  for (int64_t next = q + 1; next < end; ++next, ++run.windows)
    if (x.first[next] != x.first[q] || x.last[next] != x.last[q] || by[next] != by[q] ||
        x.start[next] - x.start[next - 1] != apart)
      break;
  run.apart = apart * column;
  return run;
}

template <class T, bool Multiply, int N>
void average_window(const PixelWindow<T>& window) {
  each_channel<N, has_parts ? 8 : 4>(window.channels, [&](auto vectors, int64_t c, auto cover) {
    constexpr int M = decltype(vectors)::value;
    const Offsets& rows = window.rows;
    const auto column = [&](int64_t s) {
      const auto* pixel = window.first + s * window.step + c;
      auto sum = load_channels<T, N, M>(pixel + rows.where[0], cover);
      for (int64_t i = 1; i < rows.count; ++i) sum = sum + load_channels<T, N, M>(pixel + rows.where[i], cover);
      return sum;
    };
    using Lanes = Wide<typename Average<T>::Sum, N, M>;
    const auto sum = sum_columns<Lanes>(window.cells, window.begin, window.end, column);
    store_averages<T, N, M>(window.to + c, scaled_channels<Multiply>(sum, window.factor), window.past, cover);
  });
}

template <class T, bool Multiply, int N>
void average_channels_last_pixels(const AverageJob& job, int64_t begin, int64_t end) {
  using Raw = typename Average<T>::Raw;
  using Sum = typename Average<T>::Sum;
  const Bins &y = job.bins[1], &z = job.bins[0], &x = job.bins[2];
  WindowOffsets rows(job);
  Factors<Sum> factors(x);
  PixelLines<T, Multiply, N> lines(job);
  const bool past = goes_past_caches<Raw>(job, job.channels);
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
      const Raw* first = image + rows.base + x.start[q] * job.stride[4];
      const int64_t step = x.dilation * job.stride[4];
      if (x.last[q] - x.first[q] <= 3 && x.cells[q] <= partial_sums && !lines.use) {
        const Run run = run_from(x, q, q + until - item, by, job.stride[4]);
        (run.columns == 3 ? average_run<T, Multiply, N, 3>
         : run.columns == 2
             ? average_run<T, Multiply, N, 2>
             : average_run<T, Multiply, N, 1>)(run, first + x.first[q] * step, rows, by[q], job.channels, to, past);
        q += run.windows - 1;
        item += run.windows - 1;
        continue;
      }
      const PixelWindow<T> window{first, step, x.cells[q], x.first[q], x.last[q], rows, by[q], job.channels, to, past};
      if (lines.use) {
        lines.write(window);
      } else {
        average_window<T, Multiply, N>(window);
      }
    }
  }
  if (past) all_past_caches();
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

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
