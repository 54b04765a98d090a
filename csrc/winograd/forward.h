// Forward: patches to terms, their products with the transformed filters, and back to outputs, a block of tiles at a
// time. The gradient of the input is the same with the filters turned around.
#pragma once

#include "common/turn.h"
#include "winograd/product.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// For each f, blocks of filters as for_blocks_of_filters takes them, in each the channels, in each the filters.
template <class E>
int64_t filters_step(const WinogradJob& job) {
  return step_of<E>(rounded_up(job.filters, lanes_of<E>) * job.input.channels);
}
template <class W, class E>
int64_t winograd_packed_size(const WinogradJob& job) {
  return W::patch * W::patch * filters_step<E>(job);
}

// Filters are packed in pieces of a block of filters and some channels, in a place of their own: written to all f at
// once, they would be too many streams for the caches to follow.
constexpr int64_t channels_of_piece = 16;

template <class E>
constexpr int64_t filters_of_block = vectors_of_product * lanes_of<E>;

inline int64_t channel_pieces(const WinogradJob& job) {
  return rounded_up(job.input.channels, channels_of_piece) / channels_of_piece;
}
template <class E>
int64_t winograd_pack_items(const WinogradJob& job) {
  return rounded_up(job.filters, filters_of_block<E>) / filters_of_block<E> * channel_pieces(job);
}

// Up to N taps of N filters that stand `filter_step` apart (of fewer at the end: 0 for the others), a vector a tap.
template <class E, int N>
__attribute__((noinline)) void gather_taps(const E* from, int64_t filter_step, int64_t filters, int count, bool turned,
                                           E* to) {
  if constexpr (N > 8) {
    Vec<E, N> v[N];
    const E* first = turned ? from - (count - 1) : from;
#pragma GCC unroll 16
    for (int l = 0; l < N; ++l) v[l] = l < filters ? load_first<N>(first + l * filter_step, count) : Vec<E, N>{};
    turn_over<E, N>(v);
#pragma GCC unroll 16
    for (int tap = 0; tap < N; ++tap)
      if (tap < count) store(to + (turned ? count - 1 - tap : tap) * N, v[tap]);
  } else {
    for (int l = 0; l < N; ++l)
      for (int tap = 0; tap < count; ++tap)
        to[tap * N + l] = l < filters ? from[l * filter_step + (turned ? -tap : tap)] : E{};
  }
}

// The transformed taps of filters k to k + N - 1 in one channel, `step` apart.
template <class W, class E>
void pack_taps(const WinogradJob& job, const TapBank& bank, int64_t k, int64_t c, E* to, int64_t step) {
  constexpr int N = lanes_of<E>, all = W::taps * W::taps;
  using V = Vec<E, N>;
  E taps[all][N];
  const E* from = static_cast<const E*>(bank.first) + k * bank.filter_step + c * bank.channel_step;
  for (int tap = 0; tap < all; tap += N)
    gather_taps<E, N>(from + (bank.turned ? -tap : tap), bank.filter_step, job.filters - k,
                      all - tap < N ? all - tap : N, bank.turned, taps[tap]);
  transform_both_ways<W::taps, W::patch, V>([](const auto& in, auto& out) { W::template filter<E>(in, out); },
                                            [&](int i, int j) { return load<V>(taps[W::taps * i + j]); },
                                            [&](int i, int j, V v) { store(to + (i * W::patch + j) * step, v); });
}

template <class W, class E>
void winograd_pack(const WinogradJob& job, const TapBank& bank, void* packed, int64_t begin, int64_t end) {
  constexpr int N = lanes_of<E>;
  const int64_t channels = job.input.channels, padded = rounded_up(job.filters, N), pieces = channel_pieces(job);
  const Scratch<E> place(W::patch * W::patch * channels_of_piece * filters_of_block<E>);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t block = item / pieces * filters_of_block<E>, c0 = item % pieces * channels_of_piece;
    const int64_t lanes = padded - block < filters_of_block<E> ? padded - block : filters_of_block<E>;
    const int64_t count = channels - c0 < channels_of_piece ? channels - c0 : channels_of_piece;
    for (int64_t c = 0; c < count; ++c)
      for (int64_t k = 0; k < lanes; k += N)
        pack_taps<W>(job, bank, block + k, c0 + c, place.get() + c * lanes + k, count * lanes);
    E* to = static_cast<E*>(packed) + block * channels + c0 * lanes;
    for (int f = 0; f < W::patch * W::patch; ++f, to += filters_step<E>(job))
      std::memcpy(to, place.get() + f * count * lanes, static_cast<size_t>(count * lanes) * sizeof(E));
  }
}

// Tiles of `all` that are done together: their terms should stay in the nearer caches, there should be enough of them
// to be worth a reading of all filters, and no block much smaller than the others.
template <class W, class E>
int64_t tiles_together(const WinogradJob& job, int64_t all) {
  constexpr int64_t room = 1 << 20, least = 48, most = 384;
  const int64_t bytes = W::patch * W::patch * (job.input.channels + job.filters) * static_cast<int64_t>(sizeof(E));
  const int64_t tiles = room / bytes, wanted = tiles < least ? least : tiles > most ? most : tiles;
  const int64_t blocks = (all + wanted - 1) / wanted;
  return blocks == 0 ? rows_of_product : rounded_up((all + blocks - 1) / blocks, rows_of_product);
}

template <class W, class E>
void multiply_terms(const WinogradForwardJob& job, int64_t tiles, const E* in, const Terms<E>& in_terms, E* out,
                    const Terms<E>& out_terms) {
  const int64_t channels = job.input.channels;
  for (int f = 0; f < W::patch * W::patch; ++f, in += in_terms.step, out += out_terms.step) {
    const E* filters = static_cast<const E*>(job.packed) + f * filters_step<E>(job);
    for_blocks_of_filters<E>(job.filters, [&](auto vectors, int64_t k) {
      for (int64_t t = 0; t < tiles; t += rows_of_product)
        tiles_by_filters<E, vectors()>(in + t * in_terms.width, in_terms.width, filters + k * channels, channels,
                                       out + t * out_terms.width + k, out_terms.width);
    });
  }
}

// Adds up what is not finite: stays 0 while every number seen was finite.
template <class E>
struct Doubt {
  static constexpr int N = lanes_of<E>;
  Vec<E, N> lanes{};

  SWITCHGRAD_INLINE void see(Vec<E, N> v) { lanes += v - v; }
  bool arose() const {
    E each[N];
    std::memcpy(each, &lanes, sizeof(each));
    for (E lane : each)
      if (lane != E{}) return true;
    return false;
  }
};

// The outputs of one tile for filters k to k + N - 1, the bias added.
template <class W, class E, class Read, class V, int M>
SWITCHGRAD_INLINE void outputs_of(const WinogradForwardJob& job, int64_t k, const Read& read, V (&y)[M][M],
                                  Doubt<E>& doubt) {
  const V bias = job.bias ? load_first<lanes_of<E>>(static_cast<const E*>(job.bias) + k, job.filters - k) : V{};
  transform_both_ways<W::patch, M, V>([](const auto& in, auto& out) { W::template output<E>(in, out); }, read,
                                      [&](int i, int j, V v) { y[i][j] = v + bias; });
  V total{};
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < M; ++j) total += y[i][j];
  doubt.see(total);
}

// Writes the outputs of one tile, perhaps through a ReLU.
template <class W, class E>
class DenseOutlet {
 public:
  static constexpr int N = lanes_of<E>;
  using V = Vec<E, N>;

  explicit DenseOutlet(const WinogradForwardJob& job) : job_(job) {}

  template <class Read>
  SWITCHGRAD_INLINE void write(const TilePlace& at, int64_t k, const Read& read, Doubt<E>& doubt) const {
    const int64_t filters = job_.filters;
    const int64_t rows = least(job_.places[0] - at.row), columns = least(job_.places[1] - at.column);
    E* to = static_cast<E*>(job_.output) +
            ((at.image * job_.places[0] + at.row) * job_.places[1] + at.column) * filters + k;
    V y[W::outputs][W::outputs];
    outputs_of<W>(job_, k, read, y, doubt);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const V v = job_.relu ? select(y[i][j] > V{}, y[i][j], V{}) : y[i][j];
        store_first<N>(to + (i * job_.places[1] + j) * filters, v, filters - k);
      }
  }

 private:
  static int64_t least(int64_t left) { return left < W::outputs ? left : W::outputs; }
  const WinogradForwardJob& job_;
};

template <class W, class E, class Outlet>
void write_tiles(const WinogradForwardJob& job, int64_t begin, int64_t end, const E* out, const Terms<E>& terms,
                 const Outlet& outlet, Doubt<E>& doubt) {
  constexpr int N = lanes_of<E>;
  for (int64_t t = begin; t < end; ++t, out += terms.width) {
    const TilePlace at = place_of<W>(job, t);
    for (int64_t k = 0; k < job.filters; k += N)
      outlet.write(
          at, k, [&](int i, int j) { return load<Vec<E, N>>(out + (i * W::patch + j) * terms.step + k); }, doubt);
  }
}

template <class W, class E, class Outlet>
bool winograd_tiles(const WinogradForwardJob& job, int64_t begin, int64_t end, const Outlet& outlet) {
  const int64_t together = tiles_together<W, E>(job, end - begin);
  const Terms<E> in_terms(together, job.input.channels), out_terms(together, job.filters);
  const Scratch<E> in(in_terms.template size<W>()), out(out_terms.template size<W>());
  Doubt<E> doubt;
  for (int64_t t = begin; t < end; t += together) {
    const int64_t stop = t + together < end ? t + together : end;
    input_to_terms<W>(job, t, stop, in.get(), in_terms);
    multiply_terms<W>(job, stop - t, in.get(), in_terms, out.get(), out_terms);
    write_tiles<W>(job, t, stop, out.get(), out_terms, outlet, doubt);
  }
  return !doubt.arose();
}

template <class W, class E>
bool winograd_forward(const WinogradForwardJob& job, int64_t begin, int64_t end) {
  return winograd_tiles<W, E>(job, begin, end, DenseOutlet<W, E>(job));
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
