// Forward where filters would leave most lanes of a vector empty (a first layer's six): lanes are neighbouring windows
// of two by two outputs.
//
// Rows of the input are parted into even and odd columns, so that what a tap reads for neighbouring windows lies side
// by side. A tile holds the four outputs of N windows for some filters; the winners are turned over on their way out.
#pragma once

#include "common/turn.h"
#include "conv_pool/forward.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int most_filters_of_tile = vector_bytes == 64 ? 6 : 2;

inline int64_t filters_of_tile(int64_t left) {
  return left >= most_filters_of_tile ? most_filters_of_tile : rounded_up(left, 2);
}

// Whether lanes of windows are so much better filled that turning the winners over is worth it.
template <class E>
bool has_few_filters(const ConvPoolJob& job) {
  constexpr int N = lanes_of<E>;
  if (!has_squares(job) || job.conv[0].stride != 1 || job.conv[1].stride != 1 || job.filters > N) return false;
  const int64_t windows = job.pool[1].places;
  return 4 * rounded_up(windows, N) * rounded_up(job.filters, 2) <= 3 * windows * rounded_up(job.filters, N);
}

template <class E>
int64_t packed_size_of_few(const ConvPoolJob& job) {
  return rounded_up(job.filters, 2) * (job.taps() * job.channels + 1);
}

// Tile by tile the taps, channel by channel, in each the filters; then the bias.
template <class E>
void pack_few(const ConvPoolJob& job, const FilterBank& bank, const void* bias, void* packed) {
  const auto* weight = static_cast<const E*>(bank.weight);
  E* to = static_cast<E*>(packed);
  for (int64_t k0 = 0; k0 < job.filters; k0 += most_filters_of_tile)
    for (int64_t c = 0; c < job.channels; ++c)
      for (int64_t r = 0; r < job.conv[0].kernel; ++r)
        for (int64_t s = 0; s < job.conv[1].kernel; ++s)
          for (int64_t k = k0; k < k0 + filters_of_tile(job.filters - k0); ++k)
            *to++ = k < job.filters
                        ? weight[k * bank.stride[0] + c * bank.stride[1] + r * bank.stride[2] + s * bank.stride[3]]
                        : E{};
  for (int64_t k = 0; k < rounded_up(job.filters, 2); ++k)
    *to++ = bias && k < job.filters ? static_cast<const E*>(bias)[k] : E{};
}

// Padded rows of one image, in each channel by channel the even columns and then the odd ones.
template <class E>
class PartedRows {
 public:
  static constexpr int N = lanes_of<E>;

  PartedRows(const ConvPoolJob& job, int64_t most_rows)
      : job_(job),
        half_(rounded_up(longest(job), N)),
        row_step_(2 * half_ * job.channels),
        rows_(most_rows * row_step_) {
    for (int64_t i = 0; i < most_rows * row_step_; ++i) rows_[i] = 0;
  }

  int64_t half() const { return half_; }
  int64_t row_step() const { return row_step_; }

  // Padded rows begin .. begin + count - 1 of image n.
  const E* read(int64_t n, int64_t begin, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t h = begin + i - job_.conv[0].pad_begin;
      E* to = rows_.get() + i * row_step_;
      if (h >= 0 && h < job_.conv[0].size)
        read_row(n, h, to);
      else
        std::memset(to, 0, static_cast<size_t>(row_step_) * sizeof(E));
    }
    return rows_.get();
  }

 private:
  // Of one half: what is written to it, vector by vector, or read from it for the last vector of windows.
  static int64_t longest(const ConvPoolJob& job) {
    const Axis& x = job.conv[1];
    const int64_t written = (x.pad_begin + 1) / 2 + rounded_up(x.size / 2 + 1, N),
                  read = rounded_up(job.pool[1].places, N) + x.kernel / 2;
    return written > read ? written : read;
  }

  void read_row(int64_t n, int64_t h, E* to) const {
    const Axis& x = job_.conv[1];
    const E* image = static_cast<const E*>(job_.input) + n * job_.input_stride[0] + h * job_.input_stride[2];
    const int64_t step = job_.input_stride[3];
    // Even columns of the image are odd ones of the padded row where the padding is odd.
    const bool swapped = x.pad_begin % 2 != 0;
    E* even = to + x.pad_begin / 2 + (swapped ? half_ : 0);
    E* odd = to + (x.pad_begin + 1) / 2 + (swapped ? 0 : half_);
    for (int64_t c = 0; c < job_.channels; ++c, even += 2 * half_, odd += 2 * half_) {
      const E* from = image + c * job_.input_stride[1];
      if (step == 1) {
        part_row(from, x.size / 2, even, odd);
      } else {
        for (int64_t i = 0; i < x.size / 2; ++i) even[i] = from[2 * i * step], odd[i] = from[(2 * i + 1) * step];
      }
      if (x.size % 2 != 0) even[x.size / 2] = from[(x.size - 1) * step];
    }
  }
  static void part_row(const E* from, int64_t pairs, E* even, E* odd) {
    cascade<N>(0, pairs, [&](auto lanes, int64_t at, auto cover) {
      Vec<E, lanes()> first, second;
      load_pairs<E, lanes()>(from + 2 * at, first, second, cover);
      store(even + at, first);  // zeros beyond a part, where there are zeros
      store(odd + at, second);
    });
  }

  const ConvPoolJob& job_;
  int64_t half_, row_step_;
  Scratch<E> rows_;
};

// The winners of N windows, filter by filter.
template <class E>
struct Winners {
  static constexpr int N = lanes_of<E>;
  E value[N][N];
  uint8_t code[N][N];
};

// N windows, whose first output reads from `rows` on, for F filters. Not inlined: GCC would keep sums in memory.
template <class E, int F>
__attribute__((noinline)) void pool_windows(const ConvPoolForwardJob& job, const Outlet<E>& outlet, const E* rows,
                                            int64_t row_step, int64_t half, const E* weight, const E* bias,
                                            int64_t filter, Winners<E>& winners) {
  constexpr int N = lanes_of<E>;
  using V = Vec<E, N>;
  using Lane = typename Outlet<E>::Lane;
  V sum[F][4];
#pragma GCC unroll 6
  for (int f = 0; f < F; ++f)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[f][i] = broadcast<E, N>(bias[f]);
  for (int64_t c = 0; c < job.channels; ++c, rows += 2 * half)
    for (int64_t r = 0; r < job.conv[0].kernel; ++r) {
      const E *upper = rows + r * row_step, *lower = upper + row_step;
      auto upper_right = load<V>(upper), lower_right = load<V>(lower);
      for (int64_t s = 1; s <= job.conv[1].kernel; ++s, weight += F) {
        const int64_t next = s / 2 + (s % 2 != 0 ? half : 0);
        const auto upper_left = upper_right, lower_left = lower_right;
        upper_right = load<V>(upper + next);
        lower_right = load<V>(lower + next);
#pragma GCC unroll 6
        for (int f = 0; f < F; ++f) {
          const auto w = broadcast<E, N>(weight[f]);
          sum[f][0] += w * upper_left;
          sum[f][1] += w * upper_right;
          sum[f][2] += w * lower_left;
          sum[f][3] += w * lower_right;
        }
      }
    }
#pragma GCC unroll 6
  for (int f = 0; f < F; ++f) {
    if (filter + f >= job.filters) break;
    auto best = Outlet<E>::Winner::of(sum[f][0], broadcast<Lane, N>(0));
#pragma GCC unroll 3
    for (int cell = 1; cell < 4; ++cell)
      best.meet(Outlet<E>::Winner::of(sum[f][cell], broadcast<Lane, N>(static_cast<Lane>(cell))));
    outlet.finish(best);
    store(winners.value[filter + f], best.value);
    store(winners.code[filter + f], narrow_codes<uint8_t, N>(best.code));
  }
}

// What N windows have of K filters, of which `filters` are there: from filter by filter to window by window.
template <class T, int N, int K>
SWITCHGRAD_INLINE void turn_windows(const T (&rows)[N][N], int64_t filters, T* to) {
  Vec<T, N> v[K];
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) v[k] = k < filters ? load<Vec<T, N>>(rows[k]) : Vec<T, N>{};
  interleave<T, N, K>(v);
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) store(to + k * N, v[k]);
}

// K numbers for each of `count` windows, of which the first `filters` are wanted, to where these lie side by side. The
// others are written too where the next windows' come over them: a part of a vector takes longer.
template <int K, class T>
SWITCHGRAD_INLINE void write_windows(const T* from, int64_t filters, int64_t count, T* to) {
  const T* const end = to + count * filters;
  for (; end - to >= K; from += K, to += filters) store(to, load<Vec<T, K>>(from));
  for (; to < end; from += K, to += filters)
    for (int64_t k = 0; k < filters; ++k) to[k] = from[k];
}

// Writes the winners of `count` windows, of at most K filters, pixel by pixel.
template <class E, int K>
__attribute__((noinline)) void write_pixels(const ConvPoolForwardJob& job, const Winners<E>& winners, int64_t pixel,
                                            int64_t count) {
  constexpr int N = lanes_of<E>;
  const int64_t filters = job.filters;
  E values[N * K];
  turn_windows<E, N, K>(winners.value, filters, values);
  write_windows<K>(values, filters, count, static_cast<E*>(job.values) + pixel * filters);
  if (!job.codes) return;
  uint8_t* to = job.codes + pixel * filters;
  if constexpr (N == 16) {
    uint8_t codes[N * K];
    turn_windows<uint8_t, N, K>(winners.code, filters, codes);
    write_windows<K>(codes, filters, count, to);
  } else {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < filters; ++k) to[i * filters + k] = winners.code[k][i];
  }
}

template <class E>
void pool_all_filters(const ConvPoolForwardJob& job, const Outlet<E>& outlet, const E* rows, int64_t row_step,
                      int64_t half, Winners<E>& winners) {
  const E* weight = static_cast<const E*>(job.weight);
  const E* bias = weight + rounded_up(job.filters, 2) * job.taps() * job.channels;
  for (int64_t k = 0; k < job.filters;) {
    const int64_t together = filters_of_tile(job.filters - k);
    switch (together) {
#if defined(__AVX512BW__)
      case 6: pool_windows<E, 6>(job, outlet, rows, row_step, half, weight, bias + k, k, winners); break;
      case 4: pool_windows<E, 4>(job, outlet, rows, row_step, half, weight, bias + k, k, winners); break;
#endif
      default: pool_windows<E, 2>(job, outlet, rows, row_step, half, weight, bias + k, k, winners); break;
    }
    weight += together * job.taps() * job.channels;
    k += together;
  }
}

// Pooled rows begin .. end - 1 of N * P.
template <class E>
void forward_of_few_filters(const ConvPoolForwardJob& job, int64_t begin, int64_t end) {
  constexpr int N = lanes_of<E>;
  const int64_t heights = job.pool[0].places, places = job.pool[1].places, kernel = job.conv[0].kernel;
  int64_t together = rows_together<E>(job, (job.conv[1].size + 2 * N) * job.channels * static_cast<int64_t>(sizeof(E)));
  if (together > end - begin) together = end - begin;
  const PartedRows<E> parted(job, 2 * together + kernel - 1);
  const Outlet<E> outlet(job);
  Winners<E> winners;
  for (int64_t row = begin; row < end;) {
    const int64_t image_end = (row / heights + 1) * heights, last = image_end < end ? image_end : end;
    const int64_t count = last - row < together ? last - row : together;
    const E* rows = parted.read(row / heights, row % heights * 2, 2 * count + kernel - 1);
    for (int64_t i = row; i < row + count; ++i, rows += 2 * parted.row_step())
      for (int64_t q = 0; q < places; q += N) {
        pool_all_filters(job, outlet, rows + q, parted.row_step(), parted.half(), winners);
        const int64_t pixel = i * places + q, left = places - q < N ? places - q : N;
        if (job.filters <= N / 2)
          write_pixels<E, N / 2>(job, winners, pixel, left);
        else
          write_pixels<E, N>(job, winners, pixel, left);
      }
    row += count;
  }
}

// ---- the choice --------------------------------------------------------------------------------------------------

template <class E>
int64_t conv_pool_packed_size(const ConvPoolJob& job) {
  return has_few_filters<E>(job) ? packed_size_of_few<E>(job) : forward_packed_size<E>(job);
}
template <class E>
void conv_pool_pack(const ConvPoolJob& job, const FilterBank& bank, const void* bias, void* packed) {
  if (has_few_filters<E>(job)) return pack_few<E>(job, bank, bias, packed);
  pack_forward<E>(job, bank, bias, packed);
}
template <class E>
void conv_pool_forward(const ConvPoolForwardJob& job, int64_t begin, int64_t end) {
  if (has_few_filters<E>(job)) return forward_of_few_filters<E>(job, begin, end);
  forward_of_tiles<E>(job, begin, end);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
