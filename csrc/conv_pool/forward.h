// Forward: each tile of convolution outputs is pooled while it is in registers or in the nearest cache.
//
// Filters are taken in blocks of V vectors; for one block a tile holds T convolution outputs. Two-by-two windows two
// apart keep the four outputs of each window in one tile, and only the winner is written. Other windows, which may
// overlap, read their outputs from a ring of convolution rows.
#pragma once

#include "common/turn.h"
#include "conv_pool/outlet.h"
#include "conv_pool/patches.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// How many vectors a block of filters has: as many as fit the registers beside a tile, and as few lanes to spare. Four
// go with tiles of four outputs, which read the weights twice as often: too often where these leave the second cache.
template <class E>
int vectors_of_block(const ConvPoolJob& job) {
  constexpr int64_t room = 160 << 10;
  const int64_t vectors = rounded_up(job.filters, lanes_of<E>) / lanes_of<E>;
  const int most = vector_bytes < 64 ? 2 : job.conv[0].kernel * job.run() * 4 * vector_bytes > room ? 3 : 4;
  int best = 1;
  for (int v = 2; v <= most; ++v)
    if (rounded_up(vectors, v) <= rounded_up(vectors, best) + vectors / 16) best = v;
  return best;
}

// Outputs in a tile of V vectors: enough chains of additions to keep the adders busy.
constexpr int outputs_of_tile(int vectors) {
  return vector_bytes == 64 ? (vectors == 1 ? 16 : vectors == 4 ? 4 : 8) : vectors == 1 ? 8 : 4;
}

template <class E>
int64_t forward_packed_size(const ConvPoolJob& job) {
  const int64_t padded = rounded_up(job.filters, vectors_of_block<E>(job) * lanes_of<E>);
  return (job.conv[0].kernel * job.run() + 1) * padded;
}

// Squares of filters and the numbers that each has side by side, turned over; number i goes to lines[i].
template <class E, int N>
__attribute__((noinline)) void pack_square_of_filters(const E* from, int64_t step, int64_t filters, int64_t numbers,
                                                      const int64_t (&lines)[N], E* to) {
  Vec<E, N> v[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) v[i] = i < filters ? load_first<N>(from + i * step, numbers) : Vec<E, N>{};
  turn_over<E, N>(v);
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i)
    if (i < numbers) store(to + lines[i], v[i]);
}

// `pack_filters_one_by_one` for filters whose numbers lie side by side: channel, row, column.
template <class E>
void pack_compact_filters(const ConvPoolJob& job, const FilterBank& bank, int64_t block, E* to) {
  constexpr int N = lanes_of<E>;
  const auto* weight = static_cast<const E*>(bank.weight);
  const int64_t taps = job.taps(), numbers = taps * job.channels;
  int64_t tap = 0, channel = 0;
  for (int64_t first = 0; first < numbers; first += N) {
    int64_t lines[N];
    for (int64_t& line : lines) {
      line = (tap * job.channels + channel) * block;
      if (++tap == taps) tap = 0, ++channel;
    }
    for (int64_t k = 0; k < rounded_up(job.filters, block); k += N)
      pack_square_of_filters<E, N>(weight + k * bank.stride[0] + first, bank.stride[0], job.filters - k,
                                   numbers - first, lines, to + k / block * block * numbers + k % block);
  }
}

template <class E>
void pack_filters_one_by_one(const ConvPoolJob& job, const FilterBank& bank, int64_t block, E* to) {
  const auto* weight = static_cast<const E*>(bank.weight);
  for (int64_t k0 = 0; k0 < rounded_up(job.filters, block); k0 += block)
    for (int64_t r = 0; r < job.conv[0].kernel; ++r)
      for (int64_t s = 0; s < job.conv[1].kernel; ++s)
        for (int64_t c = 0; c < job.channels; ++c)
          for (int64_t k = k0; k < k0 + block; ++k)
            *to++ = k < job.filters
                        ? weight[k * bank.stride[0] + c * bank.stride[1] + r * bank.stride[2] + s * bank.stride[3]]
                        : E{};
}

// Blocks of filters, in each the taps in the order in which a run meets them, in each the filters; then the bias.
template <class E>
void pack_forward(const ConvPoolJob& job, const FilterBank& bank, const void* bias, void* packed) {
  const int64_t block = vectors_of_block<E>(job) * lanes_of<E>, padded = rounded_up(job.filters, block);
  E* to = static_cast<E*>(packed);
  const bool compact = bank.stride[3] == 1 && bank.stride[2] == job.conv[1].kernel && bank.stride[1] == job.taps();
  if (compact)
    pack_compact_filters(job, bank, block, to);
  else
    pack_filters_one_by_one(job, bank, block, to);
  to += padded * job.taps() * job.channels;
  for (int64_t k = 0; k < padded; ++k) *to++ = bias && k < job.filters ? static_cast<const E*>(bias)[k] : E{};
}

// T x V vectors of convolution outputs: T places in the image, V vectors of filters.
template <class E, int T, int V>
struct Tile {
  static constexpr int N = lanes_of<E>;
  Vec<E, N> sum[T][V];

  SWITCHGRAD_INLINE void compute(const E* const (&at)[T], int64_t row_step, int64_t rows, int64_t run, const E* weight,
                                 const E* bias) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const auto start = load<Vec<E, N>>(bias + v * N);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) sum[t][v] = start;
    }
    for (int64_t r = 0; r < rows; ++r) {
      const E* from[T];
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) from[t] = at[t] + r * row_step;
      for (int64_t i = 0; i < run; ++i, weight += V * N) add(from, i, weight, std::make_integer_sequence<int, V>{});
    }
  }

 private:
  // The weights travel as arguments, not as an array: GCC would keep an array in memory.
  template <int... v>
  SWITCHGRAD_INLINE void add(const E* const (&from)[T], int64_t i, const E* weight,
                             std::integer_sequence<int, v...> all) {
    add_products(from, i, all, load<Vec<E, N>>(weight + v * N)...);
  }
  template <int... v, class... Weights>
  SWITCHGRAD_INLINE void add_products(const E* const (&from)[T], int64_t i, std::integer_sequence<int, v...>,
                                      Weights... weights) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const auto x = broadcast<E, N>(from[t][i]);
      ((sum[t][v] += x * weights), ...);
    }
  }
};

// What all tiles of one band of rows share.
template <class E>
struct Rows {
  const ConvPoolForwardJob& job;
  const E* band = nullptr;  // the padded row of the first convolution row
  int64_t row_step = 0;
  int64_t first_row = 0;  // that convolution row

  const E* at(int64_t conv_row, int64_t conv_column) const {
    return band + (conv_row - first_row) * job.conv[0].stride * row_step +
           conv_column * job.conv[1].stride * job.channels;
  }
};

// G neighbouring two-by-two windows of pooled row p from column q on.
template <class E, int G, int V>
SWITCHGRAD_INLINE void pool_squares(const Rows<E>& rows, const Outlet<E>& outlet, int64_t p, int64_t q, int64_t pixel,
                                    const E* weight, const E* bias, int64_t filter) {
  constexpr int N = lanes_of<E>;
  using Lane = typename Outlet<E>::Lane;
  const ConvPoolJob& job = rows.job;
  const int64_t column_step = job.conv[1].stride * job.channels;
  const E* const upper = rows.at(2 * p, 2 * q);
  const E* const lower = upper + job.conv[0].stride * rows.row_step;
  const E* at[4 * G];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    at[4 * g] = upper + 2 * g * column_step;
    at[4 * g + 1] = at[4 * g] + column_step;
    at[4 * g + 2] = lower + 2 * g * column_step;
    at[4 * g + 3] = at[4 * g + 2] + column_step;
  }
  Tile<E, 4 * G, V> tile;
  tile.compute(at, rows.row_step, job.conv[0].kernel, job.run(), weight, bias);
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if (filter + v * N >= job.filters) break;
      auto best = Outlet<E>::Winner::of(tile.sum[4 * g][v], broadcast<Lane, N>(0));
#pragma GCC unroll 3
      for (int cell = 1; cell < 4; ++cell)
        best.meet(Outlet<E>::Winner::of(tile.sum[4 * g + cell][v], broadcast<Lane, N>(static_cast<Lane>(cell))));
      outlet.write(best, pixel + g, filter + v * N);
    }
}

template <class E, int V>
void forward_squares(const Rows<E>& rows, int64_t row, int64_t count, const E* packed, const E* bias) {
  constexpr int G = outputs_of_tile(V) / 4;
  const ConvPoolForwardJob& job = rows.job;
  const int64_t places = job.pool[1].places, block = V * lanes_of<E>, heights = job.pool[0].places;
  const Outlet<E> outlet(job);
  for (int64_t k = 0; k < job.filters; k += block) {
    const E* weight = packed + k * job.conv[0].kernel * job.run();
    for (int64_t i = row; i < row + count; ++i) {
      int64_t q = 0;
      for (; q + G <= places; q += G)
        pool_squares<E, G, V>(rows, outlet, i % heights, q, i * places + q, weight, bias + k, k);
      for (; q < places; ++q) pool_squares<E, 1, V>(rows, outlet, i % heights, q, i * places + q, weight, bias + k, k);
    }
  }
}

// T neighbouring outputs of a convolution row, to memory. Not inlined: in a larger function GCC keeps the weights of
// some tiles in memory.
template <class E, int T, int V>
__attribute__((noinline)) void write_outputs(const Rows<E>& rows, int64_t conv_row, int64_t column, const E* weight,
                                             const E* bias, E* to) {
  constexpr int N = lanes_of<E>;
  const ConvPoolJob& job = rows.job;
  const E* at[T];
  at[0] = rows.at(conv_row, column);
#pragma GCC unroll 16
  for (int t = 1; t < T; ++t) at[t] = at[t - 1] + job.conv[1].stride * job.channels;
  Tile<E, T, V> tile;
  tile.compute(at, rows.row_step, job.conv[0].kernel, job.run(), weight, bias);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(to + (t * V + v) * N, tile.sum[t][v]);
}

template <class E, int V>
void pool_ring(const ConvPoolForwardJob& job, const Outlet<E>& outlet, const E* ring, int64_t ring_rows,
               int64_t row_size, int64_t p, int64_t pixel, int64_t filter) {
  constexpr int N = lanes_of<E>;
  using Lane = typename Outlet<E>::Lane;
  const Axis &y = job.pool[0], &x = job.pool[1];
  for (int64_t q = 0; q < x.places; ++q) {
    const int64_t r0 = y.first(p), r1 = y.last(p), s0 = x.first(q), s1 = x.last(q);
    if (r0 >= r1 || s0 >= s1) {
      if (filter == 0) outlet.write_none(pixel + q);
      continue;
    }
    for (int v = 0; v < V && filter + v * N < job.filters; ++v) {
      const auto candidate = [&](int64_t r, int64_t s) {
        const int64_t row = (y.start(p) + r * y.dilation) % ring_rows, column = x.start(q) + s * x.dilation;
        return Outlet<E>::Winner::of(load<Vec<E, N>>(ring + row * row_size + (column * V + v) * N),
                                     broadcast<Lane, N>(static_cast<Lane>(r * x.kernel + s)));
      };
      auto best = candidate(r0, s0);
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t s = r == r0 ? s0 + 1 : s0; s < s1; ++s) best.meet(candidate(r, s));
      outlet.write(best, pixel + q, filter + v * N);
    }
  }
}

template <class E, int V>
void forward_any(const Rows<E>& rows, int64_t row, int64_t count, const E* packed, const E* bias) {
  constexpr int T = outputs_of_tile(V);
  constexpr int N = lanes_of<E>;
  const ConvPoolForwardJob& job = rows.job;
  const Axis &y = job.pool[0], &x = job.pool[1];
  const int64_t columns = conv_end(x, x.places - 1), row_size = columns * V * N, ring_rows = y.span();
  const Scratch<E> ring(ring_rows * row_size);
  const Outlet<E> outlet(job);
  for (int64_t k = 0; k < job.filters; k += V * N) {
    const E* weight = packed + k * job.conv[0].kernel * job.run();
    int64_t done = rows.first_row;
    for (int64_t i = row; i < row + count; ++i) {
      const int64_t p = i % y.places, end = conv_end(y, p);
      if (done < conv_begin(y, p)) done = conv_begin(y, p);  // rows between windows are nobody's
      for (; done < end; ++done) {
        E* to = ring.get() + done % ring_rows * row_size;
        int64_t column = 0;
        for (; column + T <= columns; column += T)
          write_outputs<E, T, V>(rows, done, column, weight, bias + k, to + column * V * N);
        for (; column + T / 4 <= columns; column += T / 4)
          write_outputs<E, T / 4, V>(rows, done, column, weight, bias + k, to + column * V * N);
        for (; column < columns; ++column)
          write_outputs<E, 1, V>(rows, done, column, weight, bias + k, to + column * V * N);
      }
      pool_ring<E, V>(job, outlet, ring.get(), ring_rows, row_size, p, i * x.places, k);
    }
  }
}

template <class E, int V>
void forward_blocks(const Rows<E>& rows, int64_t row, int64_t count, const E* packed, const E* bias) {
  if (has_squares(rows.job)) return forward_squares<E, V>(rows, row, count, packed, bias);
  forward_any<E, V>(rows, row, count, packed, bias);
}

// Pooled rows that are done together: their input should stay in the second cache beside the weights.
template <class E>
int64_t rows_together(const ConvPoolJob& job, int64_t row_bytes) {
  constexpr int64_t room = 1 << 18;
  const int64_t step = job.pool[0].stride * job.conv[0].stride * row_bytes;
  const int64_t rows = (room - job.conv[0].kernel * row_bytes) / (step > 0 ? step : 1);
  return rows < 1 ? 1 : rows > job.pool[0].places ? job.pool[0].places : rows;
}

template <class E>
void forward_of_tiles(const ConvPoolForwardJob& job, int64_t begin, int64_t end) {
  const int vectors = vectors_of_block<E>(job);
  const auto* packed = static_cast<const E*>(job.weight);
  const E* bias = packed + rounded_up(job.filters, vectors * lanes_of<E>) * job.conv[0].kernel * job.run();
  const int64_t heights = job.pool[0].places;
  Band<E> band(job, true);
  const int64_t together = rows_together<E>(job, band.row_bytes());
  for (int64_t row = begin; row < end;) {
    const int64_t image_end = (row / heights + 1) * heights;
    int64_t count = image_end < end ? image_end - row : end - row;
    if (count > together) count = together;
    const int64_t p = row % heights;
    const int64_t first = conv_begin(job.pool[0], p), last = conv_end(job.pool[0], p + count - 1);
    Rows<E> rows{job};
    rows.first_row = first;
    if (last > first)
      rows.band =
          band.rows(row / heights, first * job.conv[0].stride, (last - 1) * job.conv[0].stride + job.conv[0].kernel);
    rows.row_step = band.row_step();
    switch (vectors) {
      case 1: forward_blocks<E, 1>(rows, row, count, packed, bias); break;
      case 2: forward_blocks<E, 2>(rows, row, count, packed, bias); break;
#if defined(__AVX512BW__)
      case 3: forward_blocks<E, 3>(rows, row, count, packed, bias); break;
      default: forward_blocks<E, 4>(rows, row, count, packed, bias); break;
#endif
    }
    row += count;
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
