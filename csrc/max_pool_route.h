// Max pooling with switches, backward: every pooled cell's number goes to the input cell that won.
//
// The sum is gathered at the input cell, over the windows that hold it in row-major order, so it does not depend on
// the number of threads and every input cell is written once.
#pragma once

#include "common/element.h"
#include "common/table.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// For each input cell along an axis: the windows that hold it, in order, and which of their cells it is.
struct Cover {
  int64_t place;
  int64_t cell;
};
class Covering {
 public:
  explicit Covering(const Axis& axis) : ends_(axis.size + 1), covers_(count(axis)) {
    int64_t at = 0;
    ends_[0] = 0;
    for (int64_t i = 0; i < axis.size; ++i) {
      for (int64_t place = axis.covering_begin(i); place < axis.covering_end(i); ++place) {
        const int64_t cell = axis.cell(place, i);
        if (cell >= 0) covers_[at++] = {place, cell};
      }
      ends_[i + 1] = at;
    }
  }
  const Cover* begin(int64_t at) const { return covers_.get() + ends_[at]; }
  const Cover* end(int64_t at) const { return covers_.get() + ends_[at + 1]; }
  int64_t size(int64_t at) const { return ends_[at + 1] - ends_[at]; }
  static int64_t most(const Axis& axis) { return (axis.span() + axis.stride - 1) / axis.stride; }

 private:
  static int64_t count(const Axis& axis) {
    const int64_t by_places = axis.places * axis.kernel, by_cells = axis.size * most(axis);
    return by_places < by_cells ? by_places : by_cells;
  }
  Scratch<int64_t> ends_;
  Scratch<Cover> covers_;
};

// Pooled cells that an input cell or row may have won: their numbers, their codes, and the code that means "won".
template <class Raw, class Code>
struct Claim {
  const Raw* pooled;
  const Code* codes;
  int64_t code;
};

template <class Raw, class Code>
struct RouteLane {
  using type = std::conditional_t<(sizeof(Code) > sizeof(Raw)), Int<Code>, Int<Raw>>;
  static constexpr int lanes = sizeof(Code) > sizeof(Raw) ? 1 : vector_bytes / static_cast<int>(sizeof(Raw));
};

// The pooled numbers whose code says that this cell won, 0 elsewhere.
template <class Raw, class Code, int N>
inline Vec<Raw, N> won(Vec<Raw, N> pooled, const Code* codes, int64_t code) {
  using Lane = typename RouteLane<Raw, Code>::type;
  const auto lane = convert<Lane, N>(load<Vec<Code, N>>(codes));
  return select(lane == broadcast<Lane, N>(static_cast<Lane>(static_cast<Code>(code))), pooled, Vec<Raw, N>{});
}

// Two-cell windows two cells apart: each row is written straight from registers.
template <class Raw, class Code>
void route_pairs(const Claim<Raw, Code>& row, const Axis& width, Raw* routed) {
  const int64_t whole = width.size / 2 < width.places ? width.size / 2 : width.places;
  with_lanes<RouteLane<Raw, Code>::lanes>(whole, [&](auto lanes) {
    constexpr int N = decltype(lanes)::value;
    if (whole < N) return;
    blocks<N>(whole, [&](int64_t q) {
      const auto pooled = load<Vec<Raw, N>>(row.pooled + q);
      store_pairs<Raw, N>(routed + 2 * q, won<Raw, Code, N>(pooled, row.codes + q, row.code),
                          won<Raw, Code, N>(pooled, row.codes + q, row.code + 1));
    });
  });
  for (int64_t w = 2 * whole; w < width.size; ++w) {
    const int64_t q = w / 2, s = w % 2;
    routed[w] = q < width.places ? won<Raw, Code, 1>(row.pooled[q], row.codes + q, row.code + s) : Raw{};
  }
}

// Sums along the width for any window: one row of sums for each residue modulo the stride, then zipped together.
template <class T, class Code>
class RowSums {
 public:
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;

  explicit RowSums(const Axis& width)
      : width_(width),
        phases_(width.stride < width.span() ? width.stride : width.span()),
        length_(width.places + (width.kernel - 1) * width.dilation / width.stride),
        sums_(phases_ * length_) {}

  void clear() { std::memset(sums_.get(), 0, static_cast<size_t>(phases_ * length_) * sizeof(Sum)); }

  void add(const Claim<Raw, Code>& row) {
    for (int64_t s = width_.kernel - 1; s >= 0; --s) {  // for one input cell: from its first window to its last
      const int64_t away = s * width_.dilation;
      Sum* sums = sums_.get() + away % width_.stride * length_ + away / width_.stride;
      const int64_t code = row.code + s;
      int64_t q = 0;
      if constexpr (std::is_same_v<Raw, Sum>) {
        constexpr int N = RouteLane<Raw, Code>::lanes;
        for (; q + N <= width_.places; q += N)
          store(sums + q, load<Vec<Raw, N>>(sums + q) +
                              won<Raw, Code, N>(load<Vec<Raw, N>>(row.pooled + q), row.codes + q, code));
      }
      for (; q < width_.places; ++q)
        if (row.codes[q] == static_cast<Code>(code))
          sums[q] = static_cast<Sum>(sums[q] + Element<T>::widen(row.pooled[q]));
    }
  }

  void write(Raw* routed) const {
    for (int64_t phase = 0; phase < width_.stride; ++phase) {
      const int64_t behind = phase - width_.pad_begin;  // input cells behind + i * stride, i >= 0, have this residue
      const int64_t first = behind >= 0 ? 0 : (-behind + width_.stride - 1) / width_.stride;
      const Sum* sums = sums_.get() + phase * length_;
      for (int64_t i = first, w = behind + first * width_.stride; w < width_.size; ++i, w += width_.stride)
        routed[w] = phase < phases_ && i < length_ ? Element<T>::narrow(sums[i]) : Raw{};
    }
  }

 private:
  Axis width_;
  int64_t phases_, length_;
  Scratch<Sum> sums_;
};

template <class T, class Code>
void route_planar(const RouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  const Axis &depth = job.window.axis[0], &height = job.window.axis[1], &width = job.window.axis[2];
  const bool pairs = width.kernel == 2 && width.stride == 2 && width.dilation == 1 && width.pad_begin == 0;
  const Covering in_depth(depth), in_height(height);
  RowSums<T, Code> sums(width);
  const auto* pooled = static_cast<const Raw*>(job.pooled);
  const auto* codes = static_cast<const Code*>(job.codes);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t h = item % height.size, d = item / height.size % depth.size;
    const int64_t plane = item / (height.size * depth.size);
    Raw* routed = static_cast<Raw*>(job.routed) + item * width.size;
    const int64_t rows = in_depth.size(d) * in_height.size(h);
    if (rows == 0) {
      std::memset(routed, 0, static_cast<size_t>(width.size) * sizeof(Raw));
      continue;
    }
    if (!pairs || rows > 1) sums.clear();
    for (const Cover* z = in_depth.begin(d); z != in_depth.end(d); ++z)
      for (const Cover* y = in_height.begin(h); y != in_height.end(h); ++y) {
        const int64_t at = ((plane * depth.places + z->place) * height.places + y->place) * width.places;
        const Claim<Raw, Code> row{pooled + at, codes + at, (z->cell * height.kernel + y->cell) * width.kernel};
        if (pairs && rows == 1) {
          route_pairs(row, width, routed);
        } else {
          sums.add(row);
        }
      }
    if (!pairs || rows > 1) sums.write(routed);
  }
}

// One input pixel, all its channels.
template <class T, class Code>
void route_pixel(const Claim<typename Element<T>::Raw, Code>* claims, int64_t count, int64_t channels,
                 typename Element<T>::Raw* routed) {
  using Raw = typename Element<T>::Raw;
  using Sum = typename Element<T>::Sum;
  if (count == 0) {
    std::memset(routed, 0, static_cast<size_t>(channels) * sizeof(Raw));
    return;
  }
  if (count > 1 && !std::is_same_v<Raw, Sum>) {
    for (int64_t c = 0; c < channels; ++c) {
      Sum sum = 0;
      for (int64_t i = 0; i < count; ++i)
        if (claims[i].codes[c] == static_cast<Code>(claims[i].code))
          sum = static_cast<Sum>(sum + Element<T>::widen(claims[i].pooled[c]));
      routed[c] = Element<T>::narrow(sum);
    }
    return;
  }
  with_lanes<RouteLane<Raw, Code>::lanes>(channels, [&](auto lanes) {
    constexpr int N = decltype(lanes)::value;
    blocks<N>(channels, [&](int64_t c) {
      auto sum = won<Raw, Code, N>(load<Vec<Raw, N>>(claims[0].pooled + c), claims[0].codes + c, claims[0].code);
      for (int64_t i = 1; i < count; ++i)
        sum = static_cast<Vec<Raw, N>>(sum + won<Raw, Code, N>(load<Vec<Raw, N>>(claims[i].pooled + c),
                                                               claims[i].codes + c, claims[i].code));
      store(routed + c, sum);
    });
  });
}

template <class T, class Code>
void route_channels_last(const RouteJob& job, int64_t begin, int64_t end) {
  using Raw = typename Element<T>::Raw;
  const Axis &depth = job.window.axis[0], &height = job.window.axis[1], &width = job.window.axis[2];
  const Covering in_depth(depth), in_height(height), in_width(width);
  Scratch<Claim<Raw, Code>> claims(Covering::most(depth) * Covering::most(height) * Covering::most(width));
  const auto* pooled = static_cast<const Raw*>(job.pooled);
  const auto* codes = static_cast<const Code*>(job.codes);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t w = item % width.size, h = item / width.size % height.size;
    const int64_t d = item / (width.size * height.size) % depth.size;
    const int64_t n = item / (width.size * height.size * depth.size);
    int64_t count = 0;
    for (const Cover* z = in_depth.begin(d); z != in_depth.end(d); ++z)
      for (const Cover* y = in_height.begin(h); y != in_height.end(h); ++y)
        for (const Cover* x = in_width.begin(w); x != in_width.end(w); ++x) {
          const int64_t place = ((n * depth.places + z->place) * height.places + y->place) * width.places + x->place;
          const int64_t code = ((z->cell * height.kernel) + y->cell) * width.kernel + x->cell;
          claims[count++] = {pooled + place * job.channels, codes + place * job.channels, code};
        }
    route_pixel<T, Code>(claims.get(), count, job.channels, static_cast<Raw*>(job.routed) + item * job.channels);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
