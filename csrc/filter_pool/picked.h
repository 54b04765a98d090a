// Sums of planar windows and their adjoint whose numbers are picked out of vectors, by lanes, in registers.
//
// A block of a row of the result, up to a vector of it, looks at numbers that lie in one vector of each row read, in
// two side by side, or in the vectors of two short rows, whose results then share a vector. Which lane each number is
// of them, and by what it is multiplied, depends on the block's place alone: borders, strides and what reaches over the
// border are all in these lanes. Weights that are products go down the rows first and are picked once.
#pragma once

#include "common/pick.h"
#include "filter_pool/picked_cut.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

#if defined(__AVX512BW__)

// One side of the map: where its rows lie, and the factors of the places, if this side has them.
template <class T>
struct PickedSide {
  Raw<T>* numbers;
  int64_t picture, channel, depth, row;  // steps
  const Wide<T>* factors;
};

// A row that is read, under which row of the window's weights, and the one that the next row of the result reads so.
struct PickedTerm {
  int64_t tap, first, second;
};
constexpr int64_t no_row = -1;

// Numbers to .. to + count - 1 of a row; what they look at is from `from` on, so many in each of both vectors. Several
// groups are added up apart.
struct PickedBlock {
  int64_t to, count, from, first, second, groups;
};

// The sums of one block. A copy of its own keeps all of it out of memory that the results might overlap.
template <class T>
struct PickedLanes {
  using A = Wide<T>;
  static constexpr int N = wide_lanes<T>;
  using V = Vec<A, N>;
  using I = Vec<Int<A>, N>;
  using Mask = std::conditional_t<sizeof(A) == 4, uint16_t, uint8_t>;
  using Cut = PickedCut<N>;

  int64_t looks;  // how many numbers one looks at
  Part count, in_first, in_second;
  const A *down, *factors_from, *factors_to;
  const Raw<T>* zeros;
  const Int<A>* index;  // of each look, a vector
  const Mask* mask;
  const A* weights;  // of each row of weights and look, a vector; one row where weights are products

  // The vectors of a term.
  template <int Form>
  SWITCHGRAD_INLINE void read(const PickedTerm& term, const Raw<T>* from, V& a, V& b) const {
    a = numbers<Form>(term.first, from, in_first);
    if constexpr (Form == Cut::two) b = numbers<Form>(term.first + N, from, in_second);
    if constexpr (Form == Cut::rows) b = numbers<Form>(term.second, from, in_first);
  }
  template <int Form>
  SWITCHGRAD_INLINE V numbers(int64_t at, const Raw<T>* from, Part count) const {
    const bool missing = Form == Cut::rows && at == no_row;
    const V found = load_wide<T, N>(missing ? zeros : from + at, count);
    if constexpr (Form == Cut::rows) return found;  // one row alone: sums, which have no factors on this side
    return factors_from ? scaled<A, N>(found, load<V>(factors_from + at, count)) : found;
  }

  // Adds what is picked, times its weights.
  template <int K, int Form>
  SWITCHGRAD_INLINE void add(const A* by, V a, V b, V& sum) const {
    const int64_t count = K > 0 ? K : looks;
#pragma GCC unroll 5
    for (int64_t k = 0; k < count; ++k) {
      const I lanes = load<I>(index + k * N);
      V found;
      if constexpr (Form == Cut::one) found = picked<A, N>(mask[k], lanes, a);
      if constexpr (Form != Cut::one) found = picked<A, N>(mask[k], lanes, a, b);
      sum += load<V>(by + k * N) * found;
    }
  }

  template <int K, int Form, bool Products>
  SWITCHGRAD_INLINE V sum(const PickedTerm* term, const PickedTerm* end, const Raw<T>* from) const {
    V first{}, second{}, total{};
    for (; term < end; ++term) {
      V a, b{};
      read<Form>(*term, from, a, b);
      if constexpr (Products) {
        first += broadcast<A, N>(down[term->tap]) * a;
        if constexpr (Form != Cut::one) second += broadcast<A, N>(down[term->tap]) * b;
      } else {
        add<K, Form>(weights + term->tap * (K > 0 ? K : looks) * N, a, b, total);
      }
    }
    if constexpr (Products) add<K, Form>(weights, first, second, total);
    return total;
  }

  SWITCHGRAD_INLINE void finish(V sum, int64_t place, int64_t together, Raw<T>* to) const {
    const Part numbers{count.lanes * together};
    if (factors_to) sum = scaled<A, N>(sum, load<V>(factors_to + place, numbers));
    store_wide<T, N>(to + place, sum, numbers);
  }
};

template <class T>
class PickedSums {
  using A = Wide<T>;
  static constexpr int N = wide_lanes<T>;
  using Cut = PickedCut<N>;
  using Lanes = PickedLanes<T>;

 public:
  // `rows`: of a map of the result. Long signals, in which a block has no second row, go faster in lines.
  static bool serves(const FilterJob& job, const Looks& across, int64_t rows, bool paired) {
    const auto* weights = static_cast<const A*>(job.weights);
    const int64_t cells = window_rows(job) * job.axis[2].axis.kernel;
    for (int64_t i = 0; i < cells; ++i)
      if (!(weights[i] - weights[i] == 0)) return false;  // times the zeros beside a row, these are no numbers
    const Cut cut(across, window_rows(job), paired);
    return cut.serves() && (rows >= 4 || cut.blocks() <= 4);
  }

  PickedSums(const FilterJob& job, const Looks& deep, const Looks& high, const Looks& across, bool paired,
             PickedSide<T> from, PickedSide<T> to)
      : job_(job),
        from_(from),
        to_(to),
        cut_(across, window_rows(job), paired),
        height_(high.count()),
        rows_(deep.count() * height_),
        width_(across.count()),
        looks_(across.most() > 0 ? across.most() : 1),
        kinds_(job.down ? 1 : window_rows(job)),
        count_(cut_.blocks()),
        groups_(across.groups()),
        blocks_(count_),
        pattern_(count_ * groups_),
        first_(rows_ + 1),
        terms_(deep.most() * high.most() * rows_ * (cut_.form() == Cut::rows ? 2 : 1)),
        index_(count_ * groups_ * looks_ * N),
        mask_(count_ * groups_ * looks_),
        weights_(count_ * groups_ * kinds_ * looks_ * N),
        zeros_(N) {
    for (int i = 0; i < N; ++i) zeros_[i] = Raw<T>{};
    lay_rows(deep, high);
    lay_columns(across);
  }

  void rows(int64_t begin, int64_t end) const {
    with_size(looks_, [&](auto size) {
      constexpr int K = decltype(size)::value;
      if (job_.down) return rows_of<K, true>(begin, end);
      rows_of<K, false>(begin, end);
    });
  }

 private:
  static int64_t window_rows(const FilterJob& job) { return job.axis[0].axis.kernel * job.axis[1].axis.kernel; }

  // What row `row` looks at, by the rows of the window.
  template <class F>
  void each_look(const Looks& deep, const Looks& high, int64_t row, F&& body) const {
    const int64_t d = row / height_, h = row % height_;
    for (int64_t a = 0; a < deep.looks(d); ++a)
      for (int64_t r = 0; r < high.looks(h); ++r)
        body(deep.cell(d, a) * job_.axis[1].axis.kernel + high.cell(h, r),
             deep.at(d, a) * from_.depth + high.at(h, r) * from_.row);
  }
  void lay_rows(const Looks& deep, const Looks& high) {
    int64_t count = 0;
    for (int64_t row = 0; row < rows_; ++row) {
      const int64_t first = first_[row] = count;
      each_look(deep, high, row, [&](int64_t tap, int64_t at) { terms_[count++] = PickedTerm{tap, at, no_row}; });
      if (cut_.form() != Cut::rows || row + 1 == rows_) continue;
      // Windows see each of their rows once; where only one of both does, zeros stand for the other.
      each_look(deep, high, row + 1, [&](int64_t tap, int64_t at) {
        int64_t i = first;
        while (i < count && terms_[i].tap < tap) ++i;
        if (i == count || terms_[i].tap != tap) {
          for (int64_t later = count++; later > i; --later) terms_[later] = terms_[later - 1];
          terms_[i] = PickedTerm{tap, no_row, no_row};
        }
        terms_[i].second = at;
      });
    }
    first_[rows_] = count;
  }

  // Blocks whose lanes are alike share them.
  void lay_columns(const Looks& across) {
    int64_t block = 0, patterns = 0;
    cut_.each([&](int64_t to, int64_t count, int64_t from) {
      const int64_t left = across.seen() - from;
      const auto limited = [](int64_t numbers) { return numbers < 0 ? 0 : numbers > N ? int64_t{N} : numbers; };
      PickedBlock& made = blocks_[block] = PickedBlock{to, count, from, limited(left), limited(left - N), 1};
      for (int64_t g = 0; g < groups_; ++g) {
        if (lay_pattern(across, made, g, patterns)) made.groups = g + 1;
        int64_t same = 0;
        while (same < patterns && !alike(same, patterns)) ++same;
        pattern_[block * groups_ + g] = same;
        if (same == patterns) ++patterns;
      }
      ++block;
    });
  }
  // Whether anybody looks at anything.
  bool lay_pattern(const Looks& across, const PickedBlock& block, int64_t group, int64_t p) {
    const A* row = static_cast<const A*>(job_.down ? job_.along : job_.weights);
    const int64_t kernel = job_.axis[2].axis.kernel, copies = cut_.form() == Cut::rows ? 2 : 1;
    bool any = false;
    for (int64_t k = 0; k < looks_; ++k) {
      uint32_t lanes = 0;
      for (int64_t i = 0; i < N; ++i) {
        const int64_t copy = i / block.count, q = block.to + i % block.count;
        const bool looks = copy < copies && k < across.looks(q, group);
        if (looks) lanes |= uint32_t{1} << i;
        index_[(p * looks_ + k) * N + i] =
            static_cast<Int<A>>(looks ? across.at(q, k, group) - block.from + copy * N : 0);
        for (int64_t r = 0; r < kinds_; ++r)
          weights_[((p * kinds_ + r) * looks_ + k) * N + i] = looks ? row[r * kernel + across.cell(q, k, group)] : A{};
      }
      mask_[p * looks_ + k] = static_cast<typename Lanes::Mask>(lanes);
      any = any || lanes != 0;
    }
    return any;
  }
  bool alike(int64_t p, int64_t other) const {
    const auto same = [&](const auto& numbers, int64_t size) {
      return std::memcmp(numbers.get() + p * size, numbers.get() + other * size,
                         static_cast<size_t>(size) * sizeof(numbers[0])) == 0;
    };
    return same(mask_, looks_) && same(index_, looks_ * N) && same(weights_, kinds_ * looks_ * N);
  }

  template <int K, bool Products>
  void rows_of(int64_t begin, int64_t end) const {
    switch (cut_.form()) {
      case Cut::one: return maps_of<K, Cut::one, Products>(begin, end);
      case Cut::two: return maps_of<K, Cut::two, Products>(begin, end);
      case Cut::rows: return maps_of<K, Cut::rows, Products>(begin, end);
    }
  }
  template <int K, int Form, bool Products>
  void maps_of(int64_t begin, int64_t end) const {
    for (int64_t at = begin; at < end;) {
      const int64_t map = at / rows_, first = at % rows_, left = end - at;
      const int64_t last = left < rows_ - first ? first + left : rows_;
      const Raw<T>* from = from_.numbers + map / job_.channels * from_.picture + map % job_.channels * from_.channel;
      Raw<T>* to = to_.numbers + map * rows_ * width_;
      const int64_t band = count_ > 1 ? 4 : last - first;  // rows of one block, then of the next; even, for pairs
      for (int64_t row = first; row < last; row += band) {
        const int64_t until = row + band < last ? row + band : last;
        for (int64_t b = 0; b < count_; ++b) {
          if (blocks_[b].groups == 1) {
            each_row<K, Form, Products, false>(row, until, from, to, b);
          } else {
            each_row<K, Form, Products, true>(row, until, from, to, b);
          }
        }
      }
      at += last - first;
    }
  }
  // One block of rows row .. end - 1 of a map. Not inlined: in a larger function GCC keeps what it needs in memory.
  template <int K, int Form, bool Products, bool Groups>
  __attribute__((noinline)) void each_row(int64_t row, int64_t end, const Raw<T>* from, Raw<T>* to, int64_t b) const {
    const PickedBlock& block = blocks_[b];
    const Lanes lanes = lanes_of_group(block, pattern_[b * groups_]);
    const PickedTerm* terms = terms_.get();
    const int64_t *starts = first_.get(), width = width_;
    from += block.from;
    to += block.to;
    for (; row < end; row += Form == Cut::rows ? 2 : 1) {
      const PickedTerm *first = terms + starts[row], *last = terms + starts[row + 1];
      auto sum = lanes.template sum<K, Form, Products>(first, last, from);
      for (int64_t g = 1; Groups && g < block.groups; ++g)
        sum += lanes_of_group(block, pattern_[b * groups_ + g]).template sum<K, Form, Products>(first, last, from);
      lanes.finish(sum, row * width, Form == Cut::rows && row + 1 < end ? 2 : 1, to);
    }
  }
  SWITCHGRAD_INLINE Lanes lanes_of_group(const PickedBlock& block, int64_t pattern) const {
    return Lanes{looks_,
                 {block.count},
                 {block.first},
                 {block.second},
                 static_cast<const A*>(job_.down),
                 from_.factors ? from_.factors + block.from : nullptr,
                 to_.factors ? to_.factors + block.to : nullptr,
                 zeros_.get(),
                 index_.get() + pattern * looks_ * N,
                 mask_.get() + pattern * looks_,
                 weights_.get() + pattern * kinds_ * looks_ * N};
  }

  const FilterJob& job_;
  const PickedSide<T> from_, to_;
  const Cut cut_;
  const int64_t height_, rows_, width_, looks_, kinds_, count_, groups_;
  Scratch<PickedBlock> blocks_;
  Scratch<int64_t> pattern_;  // of each block and group
  Scratch<int64_t> first_;
  Scratch<PickedTerm> terms_;
  Scratch<Int<A>> index_;
  Scratch<typename Lanes::Mask> mask_;
  Scratch<A> weights_;
  Scratch<Raw<T>> zeros_;
};

template <class T>
bool picks_sums(const FilterJob& job) {
  return PickedSums<T>::serves(job, Looks::of_windows(job.axis[2]), job.places(0) * job.places(1), true);
}
template <class T>
bool picks_spread(const FilterJob& job) {
  return PickedSums<T>::serves(job, Looks::of_cells_in_groups(job.axis[2]), job.size(0) * job.size(1), false);
}

template <class T>
void picked_sums(const FilterJob& job, int64_t begin, int64_t end) {
  const PickedSide<T> maps{
      static_cast<Raw<T>*>(job.maps), job.stride[0], job.stride[1], job.stride[2], job.stride[3], nullptr};
  const PickedSide<T> pooled{static_cast<Raw<T>*>(job.pooled), 0, 0, 0, 0, static_cast<const Wide<T>*>(job.factors)};
  const Looks deep = Looks::of_windows(job.axis[0]), high = Looks::of_windows(job.axis[1]);
  PickedSums<T>(job, deep, high, Looks::of_windows(job.axis[2]), true, maps, pooled).rows(begin, end);
}
template <class T>
void picked_spread(const FilterJob& job, int64_t begin, int64_t end) {
  const int64_t row = job.places(2), depth = job.places(1) * row, channel = job.places(0) * depth;
  const PickedSide<T> pooled{static_cast<Raw<T>*>(job.pooled),        job.channels * channel, channel, depth, row,
                             static_cast<const Wide<T>*>(job.factors)};
  const PickedSide<T> maps{static_cast<Raw<T>*>(job.maps), 0, 0, 0, 0, nullptr};
  const Looks deep = Looks::of_cells(job.axis[0]), high = Looks::of_cells(job.axis[1]);
  PickedSums<T>(job, deep, high, Looks::of_cells_in_groups(job.axis[2]), false, pooled, maps).rows(begin, end);
}

#else

template <class T>
bool picks_sums(const FilterJob&) {
  return false;
}
template <class T>
bool picks_spread(const FilterJob&) {
  return false;
}
template <class T>
void picked_sums(const FilterJob&, int64_t, int64_t) {}
template <class T>
void picked_spread(const FilterJob&, int64_t, int64_t) {}

#endif

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
