// Sums of windows under weights: planar (windows side by side in lanes) and channels last (channels), and the adjoint.
// Everything is brought into one form, a weighted sum of runs at unit stride, which is added up in registers.
#pragma once

#include "common/numbers.h"
#include "filter_pool/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Runs and their weights.
template <class E, class A>
struct Terms {
  explicit Terms(int64_t most) : from(most), weight(most) {}
  void add(const E* run, A by) {
    from[count] = run;
    weight[count++] = by;
  }
  int64_t count = 0;
  Scratch<const E*> from;
  Scratch<A> weight;
};

// to[i] = sum of weight * from[i], rounded up to whole vectors: all have room.
template <class A>
void combine(const Terms<A, A>& terms, int64_t count, A* to) {
  constexpr int N = vector_bytes / static_cast<int>(sizeof(A));
  using V = Vec<A, N>;
  int64_t i = 0;
  for (; i + N < count; i += 2 * N) {
    V low{}, high{};
    for (int64_t k = 0; k < terms.count; ++k) {
      const auto w = broadcast<A, N>(terms.weight[k]);
      low += w * load<V>(terms.from[k] + i);
      high += w * load<V>(terms.from[k] + i + N);
    }
    store(to + i, low);
    store(to + i + N, high);
  }
  for (; i < count; i += N) {
    V sum{};
    for (int64_t k = 0; k < terms.count; ++k) sum += broadcast<A, N>(terms.weight[k]) * load<V>(terms.from[k] + i);
    store(to + i, sum);
  }
}

// The same for runs of T, exactly `count` of them, each sum times a factor.
template <class T>
void combine_pixels(const Terms<Raw<T>, Wide<T>>& terms, int64_t count, const Wide<T>* factor, Raw<T>* to) {
  cascade<wide_lanes<T>>(0, count, [&](auto lanes, int64_t i, auto cover) {
    constexpr int N = decltype(lanes)::value;
    using V = Vec<Wide<T>, N>;
    V sum{};
    for (int64_t k = 0; k < terms.count; ++k)
      sum += broadcast<Wide<T>, N>(terms.weight[k]) * load_wide<T, N>(terms.from[k] + i, cover);
    if (factor) sum = *factor == 0 ? V{} : static_cast<V>(sum * broadcast<Wide<T>, N>(*factor));
    store_wide<T, N>(to + i, sum, cover);
  });
}

// A padded row parted into its residues modulo the stride, so that every window cell is read at unit stride.
template <class A>
class PartedRow {
 public:
  static constexpr int N = vector_bytes / static_cast<int>(sizeof(A));

  explicit PartedRow(const FilterAxis& across)
      : stride(across.axis.stride),
        phases(stride < across.axis.span() ? stride : across.axis.span()),
        length(across.axis.places + across.axis.span() / stride + 1 + 2 * N),
        reach_(across.reach) {}

  int64_t size() const { return phases * length; }
  int64_t phase(int64_t away) const { return away % stride; }
  int64_t offset(int64_t away) const { return away / stride; }
  int64_t cells(int64_t phase) const { return (reach_ - phase + stride - 1) / stride; }

  // From a line of padded cells (with room for two vectors more) and back.
  void part(const A* line, A* row) const {
    if (stride == 2 && phases == 2) {
      for (int64_t i = 0; 2 * i < reach_; i += N) {
        Vec<A, N> even, odd;
        load_pairs<A, N>(line + 2 * i, even, odd);
        store(row + i, even);
        store(row + length + i, odd);
      }
    } else {
      for (int64_t f = 0; f < phases; ++f)
        for (int64_t i = 0; i < cells(f); ++i) row[f * length + i] = line[f + i * stride];
    }
  }
  void join(const A* row, A* line) const {
    if (stride == 2 && phases == 2) {
      for (int64_t i = 0; 2 * i < reach_; i += N)
        store_pairs<A, N>(line + 2 * i, load<Vec<A, N>>(row + i), load<Vec<A, N>>(row + length + i));
    } else {
      for (int64_t i = 0; i < reach_; ++i) line[i] = 0;
      for (int64_t f = 0; f < phases; ++f)
        for (int64_t i = 0; i < cells(f); ++i) line[f + i * stride] = row[f * length + i];
    }
  }

  const int64_t stride, phases, length;

 private:
  int64_t reach_;
};

template <class T>
class Filter {
 public:
  using A = Wide<T>;
  static constexpr int N = wide_lanes<T>;

  explicit Filter(const FilterJob& job)
      : job_(job),
        across_(job.axis[2]),
        taps_(job.axis[0].axis.kernel * job.axis[1].axis.kernel * job.axis[2].axis.kernel),
        weights_(static_cast<const A*>(job.weights)),
        factors_(static_cast<const A*>(job.factors)) {}

  void sums_planar(int64_t begin, int64_t end) const {
    const PartedRow<A> parted(across_);
    const int64_t count = across_.axis.places, deep = least(job_.axis[0]), high = least(job_.axis[1]);
    Scratch<A> rows(deep * high * parted.size()), line(line_length()), sums(count + 2 * N);
    Scratch<int64_t> held(deep * high);
    Terms<A, A> terms(taps_);
    for (int64_t i = 0; i < deep * high; ++i) held[i] = -1;
    for (int64_t i = 0; i < deep * high * parted.size(); ++i) rows[i] = 0;
    for (int64_t i = 0; i < line_length(); ++i) line[i] = 0;
    for (int64_t item = begin; item < end; ++item) {
      const Place place(job_, item);
      terms.count = 0;
      for_each_row(place.od, place.p, [&](int64_t tap, int64_t d, int64_t h) {
        const int64_t id = (place.plane * job_.size(0) + d) * job_.size(1) + h, slot = d % deep * high + h % high;
        A* row = rows.get() + slot * parted.size();
        if (held[slot] != id) {
          held[slot] = id;
          widen_line(map(place.plane, d, h), line.get());
          parted.part(line.get(), row);
        }
        for (int64_t s = 0; s < across_.axis.kernel; ++s) {
          const int64_t away = s * across_.axis.dilation;
          terms.add(row + parted.phase(away) * parted.length + parted.offset(away), weights_[tap + s]);
        }
      });
      combine(terms, count, sums.get());
      for (int64_t q = 0; factors_ && q < count; ++q) sums[q] = scaled(sums[q], place.row * count + q);
      narrow_line(sums.get(), item * count, count, job_.pooled);
    }
  }

  void spread_planar(int64_t begin, int64_t end) const {
    const PartedRow<A> parted(across_);
    const int64_t count = across_.axis.places, lead = across_.axis.span() / across_.axis.stride + 1;
    const int64_t slots = most_covers(job_.axis[0]) * most_covers(job_.axis[1]);
    const int64_t grad_length = lead + parted.length + 2 * N;
    Scratch<A> row(parted.size()), line(line_length()), grads(slots * grad_length);
    Scratch<int64_t> tap_of(slots);
    Terms<A, A> terms(slots * across_.axis.kernel);
    for (int64_t i = 0; i < slots * grad_length; ++i) grads[i] = 0;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t h = item % job_.size(1), d = item / job_.size(1) % job_.size(0);
      const int64_t plane = item / job_.size(1) / job_.size(0);
      int64_t used = 0;
      for_each_window(d, h, [&](int64_t tap, int64_t od, int64_t p) {
        load_row(plane, od, p, grads.get() + used * grad_length + lead, count);
        tap_of[used++] = tap;
      });
      for (int64_t f = 0; f < parted.phases; ++f) {
        terms.count = 0;
        for (int64_t s = 0; s < across_.axis.kernel; ++s) {
          const int64_t away = s * across_.axis.dilation;
          if (parted.phase(away) != f) continue;
          for (int64_t k = 0; k < used; ++k)
            terms.add(grads.get() + k * grad_length + lead - parted.offset(away), weights_[tap_of[k] + s]);
        }
        combine(terms, parted.cells(f), row.get() + f * parted.length);
      }
      parted.join(row.get(), line.get());
      fold_line(line.get(), item * across_.axis.size);
    }
  }

  void sums_channels_last(int64_t begin, int64_t end) const {
    const int64_t channels = job_.channels, count = across_.axis.places;
    Terms<Raw<T>, A> terms(taps_);
    for (int64_t item = begin; item < end; ++item) {
      const Place place(job_, item);
      for (int64_t q = 0; q < count; ++q) {
        terms.count = 0;
        for_each_row(place.od, place.p, [&](int64_t tap, int64_t d, int64_t h) {
          const Raw<T>* row = pixels(place.plane, d, h);
          for (int64_t s = 0; s < across_.axis.kernel; ++s) {
            const int64_t w = across_.source[q * across_.axis.stride + s * across_.axis.dilation];
            if (w >= 0) terms.add(row + w * job_.stride[4], weights_[tap + s]);
          }
        });
        combine_pixels<T>(terms, channels, factors_ ? factors_ + place.row * count + q : nullptr,
                          static_cast<Raw<T>*>(job_.pooled) + (item * count + q) * channels);
      }
    }
  }

  void spread_channels_last(int64_t begin, int64_t end) const {
    const int64_t channels = job_.channels, count = across_.axis.places, width = across_.axis.size;
    Terms<Raw<T>, A> terms(most_covers(job_.axis[0]) * most_covers(job_.axis[1]) * most_covers(across_));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t h = item % job_.size(1), d = item / job_.size(1) % job_.size(0);
      const int64_t n = item / job_.size(1) / job_.size(0);
      for (int64_t w = 0; w < width; ++w) {
        terms.count = 0;
        for_each_window(d, h, [&](int64_t tap, int64_t od, int64_t p) {
          const int64_t row = (od * job_.places(1) + p) * count;
          const auto* from =
              static_cast<const Raw<T>*>(job_.pooled) + (n * job_.places(0) * job_.places(1) * count + row) * channels;
          for_each_cover(across_, w, [&](int64_t s, int64_t q) {
            const A factor = factors_ ? factors_[row + q] : A{1};
            if (factor != 0) terms.add(from + q * channels, weights_[tap + s] * factor);
          });
        });
        combine_pixels<T>(terms, channels, nullptr, static_cast<Raw<T>*>(job_.maps) + (item * width + w) * channels);
      }
    }
  }

 private:
  struct Place {
    int64_t plane, od, p, row;  // row: of places, within the map
    Place(const FilterJob& job, int64_t item)
        : plane(item / job.places(1) / job.places(0)),
          od(item / job.places(1) % job.places(0)),
          p(item % job.places(1)),
          row(od * job.places(1) + p) {}
  };

  // The rows that one window sees lie in an interval no longer than its span, be they turned at the border or not.
  static int64_t least(const FilterAxis& along) {
    return along.axis.span() < along.axis.size ? along.axis.span() : along.axis.size;
  }
  // How many windows look at one cell, at most, each by each of its cells that does.
  static int64_t most_covers(const FilterAxis& along) {
    int64_t most = 1;
    for (int64_t at = 0; at < along.axis.size; ++at) {
      int64_t covers = 0;
      for_each_cover(along, at, [&](int64_t, int64_t) { ++covers; });
      if (covers > most) most = covers;
    }
    return most;
  }
  int64_t line_length() const {
    const int64_t cells = across_.axis.pad_begin + across_.axis.size;
    return (cells > across_.reach ? cells : across_.reach) + 4 * N;
  }

  const Raw<T>* map(int64_t plane, int64_t d, int64_t h) const {
    return pixels(plane / job_.channels, d, h) + plane % job_.channels * job_.stride[1];
  }
  const Raw<T>* pixels(int64_t n, int64_t d, int64_t h) const {
    return static_cast<const Raw<T>*>(job_.maps) + n * job_.stride[0] + d * job_.stride[2] + h * job_.stride[3];
  }

  // Calls body(first weight, d, h) for the input rows of windows (od, p).
  template <class F>
  void for_each_row(int64_t od, int64_t p, F&& body) const {
    const Axis &deep = job_.axis[0].axis, &high = job_.axis[1].axis;
    for (int64_t a = 0; a < deep.kernel; ++a)
      for (int64_t r = 0; r < high.kernel; ++r) {
        const int64_t d = job_.axis[0].source[od * deep.stride + a * deep.dilation];
        const int64_t h = job_.axis[1].source[p * high.stride + r * high.dilation];
        if (d >= 0 && h >= 0) body((a * high.kernel + r) * across_.axis.kernel, d, h);
      }
  }

  // Calls body(window cell, place) for the windows along an axis that look at input cell `at`.
  template <class F>
  static void for_each_cover(const FilterAxis& along, int64_t at, F&& body) {
    for (int64_t i = along.first_back[at]; i < along.first_back[at + 1]; ++i)
      for (int64_t r = 0; r < along.axis.kernel; ++r) {
        const int64_t away = along.back[i] - r * along.axis.dilation;
        if (away >= 0 && away % along.axis.stride == 0 && away / along.axis.stride < along.axis.places)
          body(r, away / along.axis.stride);
      }
  }
  template <class F>
  void for_each_window(int64_t d, int64_t h, F&& body) const {
    for_each_cover(job_.axis[0], d, [&](int64_t a, int64_t od) {
      for_each_cover(job_.axis[1], h, [&](int64_t r, int64_t p) {
        body((a * job_.axis[1].axis.kernel + r) * across_.axis.kernel, od, p);
      });
    });
  }

  // Calls body(t) for the padded cells beyond the input that windows look at.
  template <class F>
  void for_each_pad(F&& body) const {
    const int64_t first = across_.axis.pad_begin, last = first + across_.axis.size;
    for (int64_t t = 0; t < first && t < across_.reach; ++t) body(t);
    for (int64_t t = last; t < across_.reach; ++t) body(t);
  }

  void widen_line(const Raw<T>* from, A* line) const {
    A* inside = line + across_.axis.pad_begin;
    cascade<N>(0, across_.axis.size, [&](auto lanes, int64_t i, auto cover) {
      store(inside + i, load_wide<T, decltype(lanes)::value>(from + i, cover), cover);
    });
    for_each_pad([&](int64_t t) { line[t] = across_.source[t] < 0 ? A{} : inside[across_.source[t]]; });
  }
  void fold_line(A* line, int64_t at) const {
    A* inside = line + across_.axis.pad_begin;
    for (int64_t t = across_.reach; t < across_.axis.pad_begin + across_.axis.size; ++t) line[t] = 0;
    for_each_pad([&](int64_t t) {
      if (across_.source[t] >= 0) inside[across_.source[t]] += line[t];
    });
    narrow_line(inside, at, across_.axis.size, job_.maps);
  }
  static void narrow_line(const A* line, int64_t at, int64_t count, void* to) {
    auto* out = static_cast<Raw<T>*>(to) + at;
    cascade<N>(0, count, [&](auto lanes, int64_t i, auto cover) {
      constexpr int M = decltype(lanes)::value;
      store_wide<T, M>(out + i, load<Vec<A, M>>(line + i, cover), cover);
    });
  }

  A scaled(A sum, int64_t place) const { return !factors_ ? sum : factors_[place] == 0 ? A{} : sum * factors_[place]; }
  // A row of pooled numbers times their factors.
  void load_row(int64_t plane, int64_t od, int64_t p, A* to, int64_t count) const {
    const int64_t row = od * job_.places(1) + p, rows = job_.places(0) * job_.places(1);
    const auto* from = static_cast<const Raw<T>*>(job_.pooled) + (plane * rows + row) * count;
    cascade<N>(0, count, [&](auto lanes, int64_t i, auto cover) {
      store(to + i, load_wide<T, decltype(lanes)::value>(from + i, cover), cover);
    });
    for (int64_t q = 0; factors_ && q < count; ++q) to[q] = scaled(to[q], row * count + q);
  }

  const FilterJob& job_;
  const FilterAxis& across_;
  int64_t taps_;
  const A *weights_, *factors_;
};

template <class T>
void filter_sums_planar(const FilterJob& job, int64_t begin, int64_t end) {
  Filter<T>(job).sums_planar(begin, end);
}
template <class T>
void filter_sums_channels_last(const FilterJob& job, int64_t begin, int64_t end) {
  Filter<T>(job).sums_channels_last(begin, end);
}
template <class T>
void filter_spread_planar(const FilterJob& job, int64_t begin, int64_t end) {
  Filter<T>(job).spread_planar(begin, end);
}
template <class T>
void filter_spread_channels_last(const FilterJob& job, int64_t begin, int64_t end) {
  Filter<T>(job).spread_channels_last(begin, end);
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
