// How the winner of a window is drawn, N windows side by side.
#pragma once

#include <limits>

#include "common/numbers.h"
#include "random_pool/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// The cells of N windows in row-major order: where the first window's cell lies (the others follow it), and its code.
// Padded cells hold -infinity. `dropped` has all bits of the code "none" where a cell was dropped, else 0.
template <class A>
struct Cells {
  using Lane = Int<A>;
  explicit Cells(int64_t most) : values(most), dropped(most), codes(most) {}
  int64_t count = 0;
  Scratch<const A*> values;
  Scratch<const Lane*> dropped;
  Scratch<Lane> codes;

  void add(const A* value, const Lane* drop, int64_t code) {
    values[count] = value;
    dropped[count] = drop;
    codes[count++] = static_cast<Lane>(code);
  }
};

template <class A, int N>
struct Winner {
  Vec<A, N> value;
  Vec<Int<A>, N> code;
};

template <class A, int N>
SWITCHGRAD_INLINE void meet(Winner<A, N>& best, Vec<A, N> value, Vec<Int<A>, N> code) {
  const auto wins = (value > best.value) | (value != value);
  best.value = select(wins, value, best.value);
  best.code = select(wins, code, best.code);
}

// See unit_scale in ops/counted.py.
template <class A, int N>
SWITCHGRAD_INLINE Vec<A, N> unit_scale(Vec<A, N> best) {
  using U = std::make_unsigned_t<Int<A>>;
  constexpr int mantissa = std::numeric_limits<A>::digits - 1;
  constexpr U most = 2 * std::numeric_limits<A>::max_exponent - 2;
  const auto exponent = static_cast<Vec<U, N>>((bits<Vec<U, N>>(best) >> mantissa) & (most + 1));
  const auto kept = select(exponent >= most, broadcast<U, N>(most - 1), exponent);
  return bits<Vec<A, N>>(static_cast<Vec<U, N>>((broadcast<U, N>(most) - kept) << mantissa));
}

// Words as numbers in [0, 1), exact.
template <class A, int N>
SWITCHGRAD_INLINE Vec<A, N> uniform(Vec<uint32_t, N> words) {
  if constexpr (sizeof(A) == 8) {
    return convert<double, N>(words) * 0x1p-32;
  } else {
    return convert<float, N>(bits<Vec<int32_t, N>>(static_cast<Vec<uint32_t, N>>(words >> 8))) * 0x1p-24f;
  }
}

// The winner in proportion to the activations; max pooling's where no draw decides.
struct Stochastic {
  static constexpr bool drops_cells = false;

  template <class A, int N>
  SWITCHGRAD_INLINE static Winner<A, N> winner(const Cells<A>& cells, int64_t at, Vec<Int<A>, N> first,
                                               const uint32_t* words) {
    using V = Vec<A, N>;
    constexpr A infinity = std::numeric_limits<A>::infinity();
    const auto cell = [&](int64_t i) { return load<V>(cells.values[i] + at); };
    Winner<A, N> won{broadcast<A, N>(-infinity), first};
    for (int64_t i = 0; i < cells.count; ++i) meet<A, N>(won, cell(i), broadcast<Int<A>, N>(cells.codes[i]));
    const V best = won.value, scale = unit_scale<A, N>(best);
    const auto positive = best > V{};
    const auto weight = [&](V x) {
      const V share = static_cast<V>(select(x > V{}, x, V{}) * scale);
      return select(positive, share, select(x > broadcast<A, N>(-infinity), broadcast<A, N>(1), V{}));
    };
    V total{}, running{};
    for (int64_t i = 0; i < cells.count; ++i) total += weight(cell(i));
    const V drawn = static_cast<V>(uniform<A, N>(load<Vec<uint32_t, N>>(words)) * total);
    V limit = select(best - best == V{}, drawn, broadcast<A, N>(infinity));
    for (int64_t i = 0; i < cells.count; ++i) {
      const V x = cell(i);
      running += weight(x);
      const auto passes = running > limit;
      won.value = select(passes, x, won.value);
      won.code = select(passes, broadcast<Int<A>, N>(cells.codes[i]), won.code);
      limit = select(passes, broadcast<A, N>(infinity), limit);
    }
    return won;
  }
};

// The largest of what is left; a dropped cell is 0 and nobody's.
struct MaxPoolDropout {
  static constexpr bool drops_cells = true;

  template <class A, int N>
  SWITCHGRAD_INLINE static Winner<A, N> winner(const Cells<A>& cells, int64_t at, Vec<Int<A>, N> first,
                                               const uint32_t*) {
    Winner<A, N> won{broadcast<A, N>(-std::numeric_limits<A>::infinity()), first};
    for (int64_t i = 0; i < cells.count; ++i) {
      const auto dropped = load<Vec<Int<A>, N>>(cells.dropped[i] + at);
      meet<A, N>(won, load<Vec<A, N>>(cells.values[i] + at),
                 static_cast<Vec<Int<A>, N>>(dropped | broadcast<Int<A>, N>(cells.codes[i])));
    }
    return won;
  }
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
