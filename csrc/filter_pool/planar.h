// Sums of windows and their adjoint where columns are neighbours in memory: a row of places lies in lanes.
//
// A line is a row of padded cells. Where the weights are products of one for each row and one for each column, the rows
// of a window are summed into one line, whose columns are summed then (the adjoint: rows of pooled numbers into one,
// which is spread over columns then); else every row is a line. A block of rows goes
// through each of these steps together, so that nothing is read in another form right after it was written.
#pragma once

#include "filter_pool/lines.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// The first `count` of N lanes, as T, to memory.
template <class T, int N>
SWITCHGRAD_INLINE void store_some(Raw<T>* to, Vec<Wide<T>, N> wide, int64_t count) {
  if (count >= N) return store_wide<T, N>(to, wide);
#if defined(__AVX512BW__)
  store_wide<T, N>(to, wide, Part{count});
#else
  Raw<T> lanes[N];
  store_wide<T, N>(lanes, wide);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
#endif
}

// How the padded cells of a line lie: as they are, or parted into their residues modulo the stride (phases), so that
// each cell of a window is read at unit stride. A line with a stride of 2 that is read once is read in pairs instead.
template <class A>
class LineForm {
 public:
  static constexpr int N = vector_bytes / static_cast<int>(sizeof(A));
  using V = Vec<A, N>;

  LineForm(const FilterAxis& across, bool read_once)
      : axis_(across.axis),
        reach_(across.reach),
        cells_(axis_.pad_begin + axis_.size > reach_ ? axis_.pad_begin + axis_.size : reach_),
        pairs_(read_once && axis_.stride == 2 && axis_.dilation == 1 && axis_.kernel > 1),
        parted_(axis_.stride > 1 && !pairs_),
        phases_(!parted_                      ? 1
                : axis_.stride < axis_.span() ? axis_.stride
                                              : axis_.span()),
        length_(rounded_up(parted_ ? axis_.places + axis_.span() / axis_.stride + 1 + 2 * N : cells_ + 4 * N, N)),
        shift_(axis_.kernel) {
    for (int64_t s = 0; s < axis_.kernel; ++s) {
      const int64_t away = s * axis_.dilation;
      shift_[s] = parted_ ? away % axis_.stride * length_ + away / axis_.stride : away;
    }
  }

  // Lines are aligned, so that whole vectors are written to whole vectors of them.
  int64_t size() const {
    return rounded_up(phases_ * length_ > cells_ + 4 * N ? phases_ * length_ : cells_ + 4 * N, N);
  }
  bool parted() const { return parted_; }
  // How far before its own place a pooled number is read by the adjoint, and how far behind.
  int64_t lead() const { return rounded_up(axis_.span() / axis_.stride + 1, N); }
  int64_t room() const { return rounded_up(lead() + cells_ / axis_.stride + 1 + 3 * N, N); }

  void part(const A* line, A* to) const {
    if (axis_.stride == 2 && phases_ == 2) {
      for (int64_t i = 0; 2 * i < reach_; i += N) {
        V even, odd;
        load_pairs<A, N>(line + 2 * i, even, odd);
        store(to + i, even);
        store(to + length_ + i, odd);
      }
      return;
    }
    for (int64_t f = 0; f < phases_; ++f)
      for (int64_t i = 0; f + i * axis_.stride < reach_; ++i) to[f * length_ + i] = line[f + i * axis_.stride];
  }

  // Calls body(q, sums of N places from q on).
  template <class F>
  SWITCHGRAD_INLINE void each_sum(const Lines<A>& lines, F&& body) const {
    with_size(axis_.kernel, [&](auto size) {
      constexpr int S = decltype(size)::value;
      for (int64_t q = 0; q < axis_.places; q += N) {
        V sum{};
        for (int64_t k = 0; k < lines.count; ++k) {
          if (pairs_) {
            add_pairs<S>(lines.run[k] + 2 * q, lines.weights[k], sum);
          } else {
            add_cells<S>(lines.run[k] + q, lines.weights[k], sum);
          }
        }
        body(q, sum);
      }
    });
  }

  // A line of what each of its cells gets from rows of pooled numbers, which have zeros around them.
  SWITCHGRAD_INLINE void spread(const Lines<A>& lines, A* line) const {
    if (!pairs_) return spread_cells(lines, line);
    with_size(axis_.kernel, [&](auto size) { spread_pairs<decltype(size)::value>(lines, line); });
  }

 private:
  // Calls body(s) for the cells of a window, or of every second where Step is 2, S of them or as many as the axis says.
  template <int S, int Step, class F>
  SWITCHGRAD_INLINE void each_cell(F&& body) const {
    if constexpr (S > 0) {
      all_of<Step>(body, std::make_integer_sequence<int, S / Step>{});
    } else {
      for (int64_t s = 0; s + Step <= axis_.kernel; s += Step) body(s);
    }
  }
  template <int Step, class F, int... s>
  SWITCHGRAD_INLINE static void all_of(F&& body, std::integer_sequence<int, s...>) {
    (body(int64_t{Step * s}), ...);
  }
  template <int S>
  SWITCHGRAD_INLINE int64_t cells() const {
    return S > 0 ? S : axis_.kernel;
  }

  template <int S>
  SWITCHGRAD_INLINE void add_pairs(const A* from, const A* weights, V& sum) const {
    V even, odd;
    each_cell<S, 2>([&](int64_t s) __attribute__((always_inline)) {
      load_pairs<A, N>(from + s, even, odd);
      sum += broadcast<A, N>(weights[s]) * even;
      sum += broadcast<A, N>(weights[s + 1]) * odd;
    });
    if (cells<S>() % 2 == 0) return;
    const int64_t s = cells<S>() - 1;
    load_pairs<A, N>(from + s, even, odd);
    sum += broadcast<A, N>(weights[s]) * even;
  }
  template <int S>
  SWITCHGRAD_INLINE void add_cells(const A* from, const A* weights, V& sum) const {
    each_cell<S, 1>([&](int64_t s) __attribute__((always_inline)) {
      sum += broadcast<A, N>(weights[s]) * load<V>(from + shift_[s]);
    });
  }

  void spread_cells(const Lines<A>& lines, A* line) const {
    A lanes[N];
    for (int64_t f = phases_; parted_ && f < axis_.stride; ++f)
      for (int64_t t = f; t < reach_; t += axis_.stride) line[t] = 0;
    for (int64_t f = 0; f < phases_; ++f)
      for (int64_t i = 0; f + i * axis_.stride < reach_; i += N) {
        V sum{};
        for (int64_t k = 0; k < lines.count; ++k)
          for (int64_t s = 0; s < axis_.kernel; ++s) {
            const int64_t away = s * axis_.dilation;
            if (parted_ && away % axis_.stride != f) continue;
            sum += broadcast<A, N>(lines.weights[k][s]) * load<V>(lines.run[k] + i - away / axis_.stride);
          }
        if (!parted_) {
          store(line + i, sum);
        } else {
          store(lanes, sum);
          for (int64_t j = 0; j < N && f + (i + j) * axis_.stride < reach_; ++j)
            line[f + (i + j) * axis_.stride] = lanes[j];
        }
      }
  }

  template <int S>
  SWITCHGRAD_INLINE void spread_pairs(const Lines<A>& lines, A* line) const {
    for (int64_t i = 0; 2 * i < reach_; i += N) {
      V even{}, odd{};
      for (int64_t k = 0; k < lines.count; ++k) {
        const A *from = lines.run[k] + i, *weights = lines.weights[k];
        each_cell<S, 2>([&](int64_t s) __attribute__((always_inline)) {
          const auto grads = load<V>(from - s / 2);
          even += broadcast<A, N>(weights[s]) * grads;
          odd += broadcast<A, N>(weights[s + 1]) * grads;
        });
        if (cells<S>() % 2 == 0) continue;
        const int64_t s = cells<S>() - 1;
        even += broadcast<A, N>(weights[s]) * load<V>(from - s / 2);
      }
      store_pairs<A, N>(line + 2 * i, even, odd);
    }
  }

  const Axis axis_;
  const int64_t reach_, cells_;
  const bool pairs_, parted_;
  const int64_t phases_, length_;
  Scratch<int64_t> shift_;
};

template <class T>
class PlanarSums : FilterRows<T> {
  using Base = FilterRows<T>;
  using Base::across_;
  using Base::factors_;
  using Base::job_;
  using Base::N;
  using Base::weights_;
  using typename Base::A;

 public:
  explicit PlanarSums(const FilterJob& job)
      : Base(job),
        form_(across_, this->products()),
        size_(form_.size()),
        inside_(across_.axis.pad_begin),
        width_(across_.axis.size),
        count_(across_.axis.places) {}

  void rows(int64_t begin, int64_t end) const {
    const int64_t each = this->products() ? 1 : job_.axis[0].axis.kernel * job_.axis[1].axis.stride;
    const int64_t most = rows_in_block(size_ * each * static_cast<int64_t>(sizeof(A)), job_.places(1));
    const Plan plan = this->plan_of_sums(most);
    const int64_t cells = (this->products() ? most : plan.held()) * size_;
    Scratch<A> lines(cells), whole(form_.parted() ? cells : 0);
    for (int64_t i = 0; i < cells; ++i) lines[i] = 0;
    for (int64_t i = 0; form_.parted() && i < cells; ++i) whole[i] = 0;
    A* laid = form_.parted() ? whole.get() : lines.get();
    Terms<T> terms(plan.parts());
    Lines<A> seen(plan.parts());
    plan.each_block(begin, end, job_.places(0), [&](const Plan::Block& block) {
      const Raw<T>* map = static_cast<const Raw<T>*>(job_.maps) + block.map / job_.channels * job_.stride[0] +
                          block.map % job_.channels * job_.stride[1];
      const int64_t count = block.end - block.begin, made = this->products() ? count : plan.reads(block);
      for (int64_t i = 0; i < made; ++i) {
        terms.count = 0;
        if (this->products()) {
          plan.each_row(block, i,
                        [&](int64_t tap, int64_t slot) { terms.add(map + plan.from(block, slot), this->down_[tap]); });
        } else {
          terms.add(map + plan.from(block, i), A{1});
        }
        combine_row<T, A>(terms, width_, laid + i * size_ + inside_, Roomy{});
        pad(laid + i * size_);
      }
      for (int64_t i = 0; form_.parted() && i < made; ++i) form_.part(laid + i * size_, lines.get() + i * size_);
      for (int64_t i = 0; i < count; ++i) {
        seen.count = 0;
        if (this->products()) {
          seen.add(lines.get() + i * size_, this->along_);
        } else {
          plan.each_row(block, i, [&](int64_t tap, int64_t slot) {
            seen.add(lines.get() + slot * size_, weights_ + tap * across_.axis.kernel);
          });
        }
        const A* factors = factors_ ? factors_ + (block.first + i) * count_ : nullptr;
        sum_columns(seen, factors, static_cast<Raw<T>*>(job_.pooled) + (block.begin + i) * count_);
      }
    });
  }

 private:
  void pad(A* line) const {
    this->for_each_pad([&](int64_t t) { line[t] = across_.source[t] < 0 ? A{} : line[inside_ + across_.source[t]]; });
  }

  SWITCHGRAD_INLINE void sum_columns(const Lines<A>& lines, const A* factors, Raw<T>* to) const {
    form_.each_sum(lines, [&](int64_t q, auto sum) {
      if (factors) sum = scaled<A, N>(sum, load_first<N>(factors + q, count_ - q));
      store_some<T, N>(to + q, sum, count_ - q);
    });
  }

  const LineForm<A> form_;
  const int64_t size_, inside_, width_, count_;
};

template <class T>
class PlanarSpread : FilterRows<T> {
  using Base = FilterRows<T>;
  using Base::across_;
  using Base::factors_;
  using Base::job_;
  using Base::N;
  using Base::weights_;
  using typename Base::A;

 public:
  explicit PlanarSpread(const FilterJob& job)
      : Base(job),
        form_(across_, true),
        size_(form_.size()),
        inside_(across_.axis.pad_begin),
        width_(across_.axis.size),
        count_(across_.axis.places) {}

  void rows(int64_t begin, int64_t end) const {
    const int64_t most = rows_in_block(size_ * static_cast<int64_t>(sizeof(A)), job_.size(1)), room = form_.room();
    const Plan plan = this->plan_of_spread(most);
    Scratch<A> grads(plan.held() * room), summed(room), lines(most * size_);
    for (int64_t i = 0; i < plan.held() * room; ++i) grads[i] = 0;
    for (int64_t i = 0; i < room; ++i) summed[i] = 0;
    Terms<A> terms(plan.parts());
    Lines<A> seen(plan.parts());
    plan.each_block(begin, end, job_.size(0), [&](const Plan::Block& block) {
      const int64_t count = block.end - block.begin, reads = plan.reads(block);
      const auto grad = [&](int64_t slot) { return grads.get() + slot * room + form_.lead(); };
      for (int64_t i = 0; i < reads; ++i) load_grads(block.map, plan.from(block, i), grad(i));
      for (int64_t i = 0; i < count; ++i) {
        seen.count = terms.count = 0;
        if (this->products()) {
          plan.each_row(block, i, [&](int64_t tap, int64_t slot) { terms.add(grad(slot), this->down_[tap]); });
          combine_row<A, A>(terms, count_, summed.get() + form_.lead(), Roomy{});
          seen.add(summed.get() + form_.lead(), this->along_);
        } else {
          plan.each_row(block, i,
                        [&](int64_t tap, int64_t slot) { seen.add(grad(slot), weights_ + tap * across_.axis.kernel); });
        }
        form_.spread(seen, lines.get() + i * size_);
        fold(lines.get() + i * size_);
      }
      for (int64_t i = 0; i < count; ++i) {
        terms.count = 0;
        terms.add(lines.get() + i * size_ + inside_, A{1});
        combine_row<A, T>(terms, width_, static_cast<Raw<T>*>(job_.maps) + (block.begin + i) * width_, Tight{});
      }
    });
  }

 private:
  void fold(A* line) const {
    for (int64_t t = across_.reach; t < inside_ + width_; ++t) line[t] = 0;
    this->for_each_pad([&](int64_t t) {
      if (across_.source[t] >= 0) line[inside_ + across_.source[t]] += line[t];
    });
  }

  // A row of pooled numbers times their factors.
  SWITCHGRAD_INLINE void load_grads(int64_t map, int64_t place, A* to) const {
    const auto* from = static_cast<const Raw<T>*>(job_.pooled) + (map * this->place_rows() + place) * count_;
    cascade<N>(0, count_, [&](auto lanes, int64_t i, auto cover) {
      constexpr int M = decltype(lanes)::value;
      auto grads = load_wide<T, M>(from + i, cover);
      if (factors_) grads = scaled<A, M>(grads, load<Vec<A, M>>(factors_ + place * count_ + i, cover));
      store(to + i, grads);  // zeros behind the last
    });
  }

  const LineForm<A> form_;
  const int64_t size_, inside_, width_, count_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
