// Weighted sums of runs at unit stride, which is what all of this comes down to, and which rows meet in them.
#pragma once

#include "common/lanes.h"
#include "common/numbers.h"
#include "filter_pool/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Runs of T and their weights.
template <class T>
struct Terms {
  explicit Terms(int64_t most) : from(most), weight(most) {}
  void add(const Raw<T>* run, Wide<T> by) {
    from[count] = run;
    weight[count++] = by;
  }
  int64_t count = 0;
  Scratch<const Raw<T>*> from;
  Scratch<Wide<T>> weight;
};

template <class T, int N, class Cover = Whole>
SWITCHGRAD_INLINE Vec<Wide<T>, N> weighed(const Terms<T>& terms, int64_t k, int64_t at, Cover cover = {}) {
  return broadcast<Wide<T>, N>(terms.weight[k]) * load_wide<T, N>(terms.from[k] + at, cover);
}

// A sum times its factor; what has factor 0 gives 0, whatever the sum.
template <class A, int N>
SWITCHGRAD_INLINE Vec<A, N> scaled(Vec<A, N> sum, Vec<A, N> factor) {
  return select(factor == Vec<A, N>{}, Vec<A, N>{}, static_cast<Vec<A, N>>(sum * factor));
}

// to[i] = sum of weight * from[shift + i] for i = begin .. count - 1; times a factor, where there is one.
template <class From, class To>
SWITCHGRAD_INLINE void combine_rest(const Terms<From>& terms, int64_t shift, int64_t begin, int64_t count,
                                    const Wide<From>* factor, Raw<To>* to) {
  using A = Wide<From>;
  cascade<wide_lanes<From>>(begin, count, [&](auto lanes, int64_t at, auto cover) {
    constexpr int M = decltype(lanes)::value;
    Vec<A, M> sum{};
    for (int64_t k = 0; k < terms.count; ++k) sum += weighed<From, M>(terms, k, shift + at, cover);
    if (factor) sum = scaled<A, M>(sum, broadcast<A, M>(*factor));
    store_wide<To, M>(to + at, sum, cover);
  });
}

// The same for i = 0 .. count - 1, four vectors at a time.
template <class From, class To>
void combine(const Terms<From>& terms, int64_t shift, int64_t count, const Wide<From>* factor, Raw<To>* to) {
  using A = Wide<From>;
  constexpr int N = wide_lanes<From>;
  using V = Vec<A, N>;
  int64_t i = 0;
  for (; i + 4 * N <= count; i += 4 * N) {
    V a{}, b{}, c{}, d{};
    for (int64_t k = 0; k < terms.count; ++k) {
      a += weighed<From, N>(terms, k, shift + i);
      b += weighed<From, N>(terms, k, shift + i + N);
      c += weighed<From, N>(terms, k, shift + i + 2 * N);
      d += weighed<From, N>(terms, k, shift + i + 3 * N);
    }
    if (factor) {
      const auto f = broadcast<A, N>(*factor);
      a = scaled<A, N>(a, f), b = scaled<A, N>(b, f), c = scaled<A, N>(c, f), d = scaled<A, N>(d, f);
    }
    store_wide<To, N>(to + i, a);
    store_wide<To, N>(to + i + N, b);
    store_wide<To, N>(to + i + 2 * N, c);
    store_wide<To, N>(to + i + 3 * N, d);
  }
  combine_rest<From, To>(terms, shift, i, count, factor, to);
}

// Whether a row ends where others begin, or is followed by room for a vector. What is written to room in whole vectors
// can be read again at once; parts of vectors have to reach the cache first.
struct Tight {};
struct Roomy {};

// A row of a map, which is often shorter than that: a few terms, known to the compiler, need no loop over them.
template <class From, class To, class End, int... k>
SWITCHGRAD_INLINE void combine_few(const Terms<From>& terms, int64_t count, Raw<To>* to, End,
                                   std::integer_sequence<int, k...>) {
  using A = Wide<From>;
  const Raw<From>* const from[] = {terms.from[k]...};
  const A weight[] = {terms.weight[k]...};
  cascade<wide_lanes<From>>(0, count, [&](auto lanes, int64_t at, auto cover) {
    constexpr int M = decltype(lanes)::value;
    Vec<A, M> sum{};
    ((sum += broadcast<A, M>(weight[k]) * load_wide<From, M>(from[k] + at, cover)), ...);
    if constexpr (std::is_same_v<End, Roomy>) {
      store_wide<To, M>(to + at, sum);
    } else {
      store_wide<To, M>(to + at, sum, cover);
    }
  });
}
template <class From, class To, class End>
SWITCHGRAD_INLINE void combine_row(const Terms<From>& terms, int64_t count, Raw<To>* to, End end) {
  switch (terms.count) {
    case 1: return combine_few<From, To>(terms, count, to, end, std::make_integer_sequence<int, 1>{});
    case 2: return combine_few<From, To>(terms, count, to, end, std::make_integer_sequence<int, 2>{});
    case 3: return combine_few<From, To>(terms, count, to, end, std::make_integer_sequence<int, 3>{});
    case 4: return combine_few<From, To>(terms, count, to, end, std::make_integer_sequence<int, 4>{});
    case 5: return combine_few<From, To>(terms, count, to, end, std::make_integer_sequence<int, 5>{});
    default: return combine<From, To>(terms, 0, count, nullptr, to);
  }
}

// Calls body(size) with the size of a window along an axis as a constant where it is one of the usual, else with 0.
template <class F>
SWITCHGRAD_INLINE void with_size(int64_t size, F&& body) {
  switch (size) {
    case 2: return body(std::integral_constant<int, 2>{});
    case 3: return body(std::integral_constant<int, 3>{});
    case 4: return body(std::integral_constant<int, 4>{});
    case 5: return body(std::integral_constant<int, 5>{});
    default: return body(std::integral_constant<int, 0>{});
  }
}

// Runs that are summed along the columns, each under weights of its own.
template <class E, class A = E>
struct Lines {
  explicit Lines(int64_t most) : run(most), weights(most) {}
  void add(const E* cells, const A* by) {
    run[count] = cells;
    weights[count++] = by;
  }
  int64_t count = 0;
  Scratch<const E*> run;
  Scratch<const A*> weights;
};

// For each padded cell of an axis, the windows that look at it: which cell of theirs it is, and their places.
class Covers {
 public:
  explicit Covers(const FilterAxis& along)
      : along_(along),
        first_(along.reach + 1),
        cell_(along.axis.places * along.axis.kernel),
        place_(along.axis.places * along.axis.kernel) {
    int64_t count = 0;
    for (int64_t t = 0; t < along.reach; ++t) {
      first_[t] = count;
      for (int64_t s = 0; s < along.axis.kernel; ++s) {
        const int64_t away = t - s * along.axis.dilation;
        if (away < 0 || away % along.axis.stride != 0 || away / along.axis.stride >= along.axis.places) continue;
        cell_[count] = s;
        place_[count++] = away / along.axis.stride;
      }
    }
    first_[along.reach] = count;
  }

  // Calls body(window cell, place) for padded cell t.
  template <class F>
  SWITCHGRAD_INLINE void at_padded(int64_t t, F&& body) const {
    for (int64_t i = first_[t]; i < first_[t + 1]; ++i) body(cell_[i], place_[i]);
  }
  // The same for all padded cells that input cell `at` is.
  template <class F>
  SWITCHGRAD_INLINE void at_input(int64_t at, F&& body) const {
    for (int64_t i = along_.first_back[at]; i < along_.first_back[at + 1]; ++i) at_padded(along_.back[i], body);
  }

 private:
  const FilterAxis& along_;
  Scratch<int64_t> first_, cell_, place_;
};

// Memory for lines that a block of rows keeps: what fits the nearest cache.
constexpr int64_t block_bytes = 16 << 10;
inline int64_t rows_in_block(int64_t bytes_a_row, int64_t most) {
  const int64_t rows = block_bytes / bytes_a_row;
  return rows < 1 ? 1 : rows < most ? rows : most;
}

// Which rows every row of a map is made of, and under which row of the window's weights: the same for all maps. Blocks
// of rows of one depth go together; what they read has a slot in the memory of the block.
class Plan {
 public:
  // meet(depth, height, body) calls body(row of the window, number of the row read, where that lies).
  template <class F>
  Plan(int64_t depths, int64_t heights, int64_t most, int64_t numbers, F&& meet)
      : heights_(heights),
        most_(most),
        blocks_((heights + most - 1) / most),
        first_(depths * heights + 1),
        read_(depths * blocks_ + 1),
        tap_(entries(depths, heights, meet)),
        slot_(first_[depths * heights]),
        from_(first_[depths * heights]) {
    Scratch<int64_t> seen(numbers), slot(numbers);
    for (int64_t i = 0; i < numbers; ++i) seen[i] = -1;
    int64_t entry = 0, reads = 0;
    for (int64_t d = 0; d < depths; ++d)
      for (int64_t h = 0; h < heights; ++h) {
        const int64_t block = d * blocks_ + h / most;
        if (h % most == 0) read_[block] = reads;
        meet(d, h, [&](int64_t tap, int64_t number, int64_t where) {
          if (seen[number] != block) {
            seen[number] = block;
            slot[number] = reads - read_[block];
            from_[reads++] = where;
          }
          tap_[entry] = tap;
          slot_[entry++] = slot[number];
        });
        read_[block + 1] = reads;
        if (reads - read_[block] > held_) held_ = reads - read_[block];
      }
  }

  // How many rows a block reads and one row is made of, at most; the latter may have one of them several times.
  int64_t held() const { return held_; }
  int64_t parts() const { return parts_; }

  // Rows of maps, in blocks: calls body(block), which knows the map, its rows (not all of them at the ends) and depth.
  struct Block {
    int64_t map, number, first, begin, end;  // rows begin .. end - 1 of all; first: of the rows of one map
  };
  template <class F>
  SWITCHGRAD_INLINE void each_block(int64_t begin, int64_t end, int64_t depths, F&& body) const {
    const int64_t rows = depths * heights_;
    for (int64_t at = begin; at < end;) {
      const int64_t row = at % rows, height = row % heights_;
      int64_t until = at - height + (height / most_ + 1) * most_;
      if (until > at - height + heights_) until = at - height + heights_;
      if (until > end) until = end;
      body(Block{at / rows, row / heights_ * blocks_ + height / most_, row, at, until});
      at = until;
    }
  }
  int64_t reads(const Block& block) const { return read_[block.number + 1] - read_[block.number]; }
  int64_t from(const Block& block, int64_t slot) const { return from_[read_[block.number] + slot]; }
  // Calls body(row of the window, slot) for what row i of the block is made of.
  template <class F>
  SWITCHGRAD_INLINE void each_row(const Block& block, int64_t i, F&& body) const {
    for (int64_t e = first_[block.first + i]; e < first_[block.first + i + 1]; ++e) body(tap_[e], slot_[e]);
  }

 private:
  template <class F>
  int64_t entries(int64_t depths, int64_t heights, F&& meet) {
    int64_t count = 0;
    for (int64_t i = 0; i < depths * heights; ++i) {
      first_[i] = count;
      meet(i / heights, i % heights, [&](int64_t, int64_t, int64_t) { ++count; });
      if (count - first_[i] > parts_) parts_ = count - first_[i];
    }
    first_[depths * heights] = count;
    return count;
  }

  int64_t heights_, most_, blocks_, held_ = 0, parts_ = 1;
  Scratch<int64_t> first_, read_, tap_, slot_, from_;
};

// What both layouts ask of a job: which rows and columns meet where, and under which weights.
template <class T>
class FilterRows {
 public:
  using A = Wide<T>;
  static constexpr int N = wide_lanes<T>;

  explicit FilterRows(const FilterJob& job)
      : job_(job),
        across_(job.axis[2]),
        weights_(static_cast<const A*>(job.weights)),
        down_(static_cast<const A*>(job.down)),
        along_(static_cast<const A*>(job.along)),
        factors_(static_cast<const A*>(job.factors)) {}

 protected:
  // Whether the weights are products of one for each row of the window and one for each column.
  bool products() const { return down_ != nullptr; }
  int64_t place_rows() const { return job_.places(0) * job_.places(1); }

  // What the rows of windows are made of.
  Plan plan_of_sums(int64_t most) const {
    const Axis &deep = job_.axis[0].axis, &high = job_.axis[1].axis;
    return Plan(deep.places, high.places, most, deep.size * high.size, [&](int64_t od, int64_t p, auto&& body) {
      for (int64_t a = 0; a < deep.kernel; ++a)
        for (int64_t r = 0; r < high.kernel; ++r) {
          const int64_t d = job_.axis[0].source[od * deep.stride + a * deep.dilation];
          const int64_t h = job_.axis[1].source[p * high.stride + r * high.dilation];
          if (d >= 0 && h >= 0) body(a * high.kernel + r, d * high.size + h, d * job_.stride[2] + h * job_.stride[3]);
        }
    });
  }
  // Which rows of windows look at each row of the input.
  Plan plan_of_spread(int64_t most) const {
    const Covers deep(job_.axis[0]), high(job_.axis[1]);
    return Plan(job_.size(0), job_.size(1), most, place_rows(), [&](int64_t d, int64_t h, auto&& body) {
      deep.at_input(d, [&](int64_t a, int64_t od) {
        high.at_input(h, [&](int64_t r, int64_t p) {
          const int64_t place = od * job_.places(1) + p;
          body(a * job_.axis[1].axis.kernel + r, place, place);
        });
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

  const FilterJob& job_;
  const FilterAxis& across_;
  const A *weights_, *down_, *along_, *factors_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
