// The backward of max pooling over rows of neighbouring pixels.
#pragma once

#include "max_pool/route.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// A row of pooled cells that an input row may have won: their numbers, their codes, the code of the row's first cell.
template <class Number, class Code>
struct Claim {
  const Number* pooled;
  const Code* codes;
  int64_t code;
};

// Pooled rows laid out for reading at any shift: numbers ready to be added, codes as wide as they, and around them
// cells that nobody won. The rows that the next input rows need again are kept.
template <class T, class Code>
class PooledRows {
 public:
  using Sum = typename Element<T>::Sum;
  using Lane = typename RouteKinds<Sum, Code>::Lane;

  explicit PooledRows(const RouteJob& job)
      : job_(job),
        deep_(Covering::most(job.window.axis[0])),
        high_(Covering::most(job.window.axis[1])),
        places_(job.window.axis[2].places),
        margin_((job.window.axis[2].kernel - 1) * job.window.axis[2].dilation / job.window.axis[2].stride + 2),
        length_(places_ + 2 * margin_ + vector_bytes),
        numbers_(deep_ * high_ * length_),
        codes_(deep_ * high_ * length_),
        held_(deep_ * high_) {
    for (int64_t i = 0; i < deep_ * high_ * length_; ++i) {
      numbers_[i] = 0;
      codes_[i] = -1;
    }
    for (int64_t i = 0; i < deep_ * high_; ++i) held_[i] = -1;
  }

  Claim<Sum, Lane> claim(int64_t plane, const Cover& z, const Cover& y) {
    const Axis &depth = job_.window.axis[0], &height = job_.window.axis[1];
    const int64_t slot = z.place % deep_ * high_ + y.place % high_;
    const int64_t row = (plane * depth.places + z.place) * height.places + y.place;
    Sum* numbers = numbers_.get() + slot * length_ + margin_;
    Lane* codes = codes_.get() + slot * length_ + margin_;
    if (held_[slot] != row) {
      held_[slot] = row;
      const auto* pooled = static_cast<const typename Element<T>::Raw*>(job_.pooled) + row * places_;
      const auto* given = static_cast<const Code*>(job_.codes) + row * places_;
      for (int64_t q = 0; q < places_; ++q) numbers[q] = Element<T>::widen(pooled[q]);
      for (int64_t q = 0; q < places_; ++q) codes[q] = static_cast<Lane>(given[q]);
    }
    return {numbers, codes, (z.cell * height.kernel + y.cell) * job_.window.axis[2].kernel};
  }

 private:
  const RouteJob& job_;
  int64_t deep_, high_, places_, margin_, length_;
  Scratch<Sum> numbers_;
  Scratch<Lane> codes_;
  Scratch<int64_t> held_;
};

// Which cells along the width can have won input cell w, where w + pad = i * stride + phase: cell `cell` of window
// i - shift. For each phase from the first window to the last.
struct Tap {
  int64_t cell;
  int64_t shift;
};
class Taps {
 public:
  explicit Taps(const Axis& width) : taps_(width.kernel), ends_(width.stride + 1) {
    int64_t at = 0;
    ends_[0] = 0;
    for (int64_t phase = 0; phase < width.stride; ++phase) {
      for (int64_t cell = width.kernel - 1; cell >= 0; --cell)
        if (cell * width.dilation % width.stride == phase) taps_[at++] = {cell, cell * width.dilation / width.stride};
      ends_[phase + 1] = at;
    }
  }
  const Tap* begin(int64_t phase) const { return taps_.get() + ends_[phase]; }
  const Tap* end(int64_t phase) const { return taps_.get() + ends_[phase + 1]; }

 private:
  Scratch<Tap> taps_;
  Scratch<int64_t> ends_;
};

// One input row as the sum of what its claims say.
template <class T, class Lane>
class RowSums {
 public:
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  static constexpr int lanes = sizeof(Lane) == sizeof(Sum) ? RouteKinds<Sum, Lane>::lanes : 1;

  RowSums(const Axis& width, int64_t most_claims)
      : width_(width), taps_(width), claims_(most_claims), row_(width.size), phase_(width.size) {}

  void clear() { count_ = 0; }
  void add(const Claim<Sum, Lane>& claim) { claims_[count_++] = claim; }

  void write(Raw* routed) {
    if constexpr (std::is_same_v<Raw, Sum>) {
      sum(routed);
    } else {
      sum(row_.get());
      narrow_all<T>(row_.get(), width_.size, routed);
    }
  }

 private:
  template <int N>
  Vec<Sum, N> at(int64_t phase, int64_t i) const {
    Vec<Sum, N> total{};
    for (int64_t c = 0; c < count_; ++c)
      for (const Tap* tap = taps_.begin(phase); tap != taps_.end(phase); ++tap)
        total =
            static_cast<Vec<Sum, N>>(total + won<N>(claims_[c].pooled + i - tap->shift,
                                                    claims_[c].codes + i - tap->shift, claims_[c].code + tap->cell));
    return total;
  }

  void sum(Sum* to) {
    const int64_t pad = width_.pad_begin;
    if (width_.stride == 1)
      return cascade<lanes>(0, width_.size, [&](auto n, int64_t w, auto cover) {
        store(to + w, at<decltype(n)::value>(0, w + pad), cover);
      });
    if (width_.stride == 2) return sum_pairs(to);
    for (int64_t phase = 0; phase < width_.stride; ++phase) {
      const int64_t behind = phase - pad;  // cells behind + i * stride have this phase
      const int64_t first = behind >= 0 ? 0 : (-behind + width_.stride - 1) / width_.stride;
      const int64_t start = behind + first * width_.stride;
      const int64_t count = start < width_.size ? (width_.size - start + width_.stride - 1) / width_.stride : 0;
      cascade<lanes>(0, count, [&](auto n, int64_t i, auto cover) {
        store(phase_.get() + i, at<decltype(n)::value>(phase, first + i), cover);
      });
      for (int64_t i = 0; i < count; ++i) to[start + i * width_.stride] = phase_[i];
    }
  }

  void sum_pairs(Sum* to) {
    int64_t w = width_.pad_begin % 2;
    if (w == 1) to[0] = at<1>(1, width_.pad_begin / 2);
    const int64_t first = (w + width_.pad_begin) / 2, pairs = (width_.size - w) / 2;
    cascade<lanes>(0, pairs, [&](auto n, int64_t i, auto cover) {
      constexpr int N = decltype(n)::value;
      store_pairs<Sum, N>(to + w + 2 * i, at<N>(0, first + i), at<N>(1, first + i), cover);
    });
    if (w + 2 * pairs < width_.size) to[w + 2 * pairs] = at<1>(0, first + pairs);
  }

  Axis width_;
  Taps taps_;
  Scratch<Claim<Sum, Lane>> claims_;
  Scratch<Sum> row_, phase_;
  int64_t count_ = 0;
};

// Two-cell windows two cells apart: each row is written straight from registers.
template <int N, class Raw, class Code>
SWITCHGRAD_INLINE void route_pairs(const Claim<Raw, Code>& row, int64_t whole, int64_t in_blocks, const Axis& width,
                                   Raw* routed) {
  blocks<N>(in_blocks, [&](int64_t q, auto cover) {
    Pairs<N, Raw, Code>(row.pooled + q, row.codes + q, cover).store_row(routed + 2 * q, row.code, cover);
  });
  for (int64_t w = 2 * whole; w < width.size; ++w) {
    const int64_t q = w / 2;
    routed[w] = q < width.places ? won<1>(row.pooled + q, row.codes + q, row.code + w % 2) : Raw{};
  }
}

// The same for both rows of two-by-two windows: numbers and codes are read once.
template <int N, class Raw, class Code>
SWITCHGRAD_INLINE void route_tiles(const Claim<Raw, Code>& row, int64_t whole, int64_t in_blocks, const Axis& width,
                                   Raw* routed) {
  Raw* lower = routed + width.size;
  blocks<N>(in_blocks, [&](int64_t q, auto cover) {
    const Pairs<N, Raw, Code> pairs(row.pooled + q, row.codes + q, cover);
    pairs.store_row(routed + 2 * q, row.code, cover);
    pairs.store_row(lower + 2 * q, row.code + 2, cover);
  });
  for (int64_t w = 2 * whole; w < width.size; ++w) {
    const int64_t q = w / 2, code = row.code + w % 2;
    routed[w] = q < width.places ? won<1>(row.pooled + q, row.codes + q, code) : Raw{};
    lower[w] = q < width.places ? won<1>(row.pooled + q, row.codes + q, code + 2) : Raw{};
  }
}

// Calls body(item, plane, d, h, rows left in this slice and task) for input rows begin .. end - 1; body says how many
// rows it has done.
template <class F>
void for_each_input_row(const RouteJob& job, int64_t begin, int64_t end, F&& body) {
  const int64_t heights = job.window.axis[1].size, depths = job.window.axis[0].size;
  for (int64_t item = begin; item < end;) {
    const int64_t volume = item / heights, plane = volume / depths, d = volume % depths;
    const int64_t until = (volume + 1) * heights < end ? (volume + 1) * heights : end;
    while (item < until) item += body(item, plane, d, item - volume * heights, until - item);
  }
}

template <class T, class Code, int N>
void route_planar_pairs(const RouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  const Axis &depth = job.window.axis[0], &height = job.window.axis[1], &width = job.window.axis[2];
  const Covering in_depth(depth), in_height(height);
  const int64_t whole = width.size / 2 < width.places ? width.size / 2 : width.places;
  // As in the forward; the pooled rows that follow are at most a stride and a kernel of input rows apart. A row of
  // several blocks must not spill: its first blocks would be written before the row above it ends.
  const int64_t rows_after = (N / width.places + 2) * (height.stride + height.span());
  const int64_t spill_end = depth.size == 1 && whole <= N ? end - rows_after : begin;
  const bool tiles = height.kernel == 2 && height.dilation == 1;
  const int64_t tiles_a_call = height.stride == 2 ? height.places : 1;  // gaps between tiles are rows of their own
  for_each_input_row(job, begin, end, [&](int64_t item, int64_t plane, int64_t d, int64_t h, int64_t left) -> int64_t {
    Raw* routed = static_cast<Raw*>(job.routed) + item * width.size;
    if (in_depth.size(d) == 0 || in_height.size(h) == 0) {
      std::memset(routed, 0, static_cast<size_t>(width.size) * sizeof(Raw));
      return 1;
    }
    const Cover &z = *in_depth.begin(d), &y = *in_height.begin(h);
    const int64_t at = ((plane * depth.places + z.place) * height.places + y.place) * width.places;
    Claim<Raw, Code> row{static_cast<const Raw*>(job.pooled) + at, static_cast<const Code*>(job.codes) + at,
                         (z.cell * height.kernel + y.cell) * width.kernel};
    const auto in_blocks = [&](int64_t of) { return of < spill_end ? spilled<N>(whole) : whole; };
    if (tiles && y.cell == 0 && left > 1) {
      const int64_t here = height.places - y.place < left / 2 ? height.places - y.place : left / 2;
      const int64_t count = here < tiles_a_call ? here : tiles_a_call;
      for (int64_t tile = 0; tile < count; ++tile) {
        route_tiles<N, Raw, Code>(row, whole, in_blocks(item + 2 * tile), width, routed);
        row.pooled += width.places;
        row.codes += width.places;
        routed += 2 * width.size;
      }
      return 2 * count;
    }
    route_pairs<N, Raw, Code>(row, whole, in_blocks(item), width, routed);
    return 1;
  });
}

template <class T, class Code>
void route_planar_any(const RouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  const Axis &depth = job.window.axis[0], &height = job.window.axis[1], &width = job.window.axis[2];
  const Covering in_depth(depth), in_height(height);
  PooledRows<T, Code> rows(job);
  RowSums<T, typename PooledRows<T, Code>::Lane> sums(width, Covering::most(depth) * Covering::most(height));
  for_each_input_row(job, begin, end, [&](int64_t item, int64_t plane, int64_t d, int64_t h, int64_t) {
    sums.clear();
    for (const Cover* z = in_depth.begin(d); z != in_depth.end(d); ++z)
      for (const Cover* y = in_height.begin(h); y != in_height.end(h); ++y) sums.add(rows.claim(plane, *z, *y));
    sums.write(static_cast<Raw*>(job.routed) + item * width.size);
    return 1;
  });
}

template <class T, class Code>
void route_planar(const RouteJob& job, int64_t begin, int64_t end) {
  const Axis* axis = job.window.axis;
  if (!axis[2].pairs() || axis[0].overlaps() || axis[1].overlaps()) return route_planar_any<T, Code>(job, begin, end);
  with_lanes<RouteKinds<typename Element<T>::Raw, Code>::lanes>(
      axis[2].size / 2, [&](auto lanes) { route_planar_pairs<T, Code, decltype(lanes)::value>(job, begin, end); });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
