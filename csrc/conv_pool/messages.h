// What goes back to the winners, as lists of messages: a number, and where it goes.
//
// A list is one filter's (its messages go to patches of the input) or one convolution output's (its messages go through
// filters). Both are made a vector at a time: what came back is parted into lanes, and the lanes that carry something
// are pressed together. A branch on "did it win" would be taken at random.
#pragma once

#include "common/turn.h"
#include "conv_pool/patches.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class E>
using Places = Vec<Int<E>, lanes_of<E>>;
template <class E>
using Numbers = Vec<E, lanes_of<E>>;

template <class E>
struct Messages {
  const Int<E>* where;
  const E* number;
  int64_t count;
};

// Room for lists of up to `most` messages each, and for the vector that the last of them is written with.
template <class E>
class Lists {
 public:
  Lists(int64_t lists, int64_t most)
      : step_(rounded_up(most, lanes_of<E>) + lanes_of<E>),
        where_(lists * step_),
        number_(lists * step_),
        count_(lists) {}

  Messages<E> operator[](int64_t list) const {
    return {where_.get() + list * step_, number_.get() + list * step_, count_[list]};
  }
  int64_t count(int64_t list) const { return count_[list]; }
  void set_count(int64_t list, int64_t count) { count_[list] = static_cast<int32_t>(count); }

  // Behind the first `count` messages of a list the lanes whose number is not 0, in their order; returns the new count.
  SWITCHGRAD_INLINE int64_t append(int64_t list, int64_t count, Places<E> where, Numbers<E> number) const {
    Int<E>* to_where = where_.get() + list * step_ + count;
    E* to_number = number_.get() + list * step_ + count;
#if defined(__AVX512BW__)
    if constexpr (sizeof(E) == 4) {
      const __mmask16 carries = _mm512_cmp_ps_mask(bits<__m512>(number), _mm512_setzero_ps(), _CMP_NEQ_UQ);
      store(to_where, _mm512_maskz_compress_epi32(carries, bits<__m512i>(where)));
      store(to_number, _mm512_maskz_compress_ps(carries, bits<__m512>(number)));
      return count + __builtin_popcount(carries);
    } else {
      const __mmask8 carries = _mm512_cmp_pd_mask(bits<__m512d>(number), _mm512_setzero_pd(), _CMP_NEQ_UQ);
      store(to_where, _mm512_maskz_compress_epi64(carries, bits<__m512i>(where)));
      store(to_number, _mm512_maskz_compress_pd(carries, bits<__m512d>(number)));
      return count + __builtin_popcount(carries);
    }
#else
    Int<E> places[lanes_of<E>];
    E numbers[lanes_of<E>];
    store(places, where);
    store(numbers, number);
    int64_t kept = 0;
    for (int lane = 0; lane < lanes_of<E>; ++lane) {
      to_where[kept] = places[lane];
      to_number[kept] = numbers[lane];
      kept += static_cast<int64_t>(numbers[lane] != 0);
    }
    return count + kept;
#endif
  }

 private:
  int64_t step_;
  Scratch<Int<E>> where_;
  Scratch<E> number_;
  Scratch<int32_t> count_;
};

// What came back to the convolution's outputs, each through all the windows that it won.
template <class E>
class Arrivals {
 public:
  static constexpr int N = lanes_of<E>;

  explicit Arrivals(const ConvPoolBackwardJob& job)
      : job_(job),
        of_row_(most(job.pool[0])),
        of_column_(most(job.pool[1]) * job.pool[1].size),
        starts_(job.pool[1].size + 1),
        windows_(most(job.pool[0]) * most(job.pool[1])) {
    const Axis& x = job.pool[1];
    int64_t count = 0;
    for (int64_t column = 0; column < x.size; ++column) {
      starts_[column] = count;
      count += windows_over(x, column, job.filters, 1, of_column_.get() + count);
    }
    starts_[x.size] = count;
  }

  // Convolution row `row` of image n.
  void go_to_row(int64_t n, int64_t row) {
    const Axis &y = job_.pool[0], &x = job_.pool[1];
    image_ = n * y.places * x.places * job_.filters;
    rows_ = windows_over(y, row, x.places * job_.filters, x.kernel, of_row_.get());
  }

  // A column of that row; returns whether any window sees it.
  bool go_to_column(int64_t column) {
    count_ = 0;
    for (int64_t j = starts_[column]; j < starts_[column + 1]; ++j)
      for (int64_t i = 0; i < rows_; ++i)
        windows_[count_++] = {image_ + of_row_[i].offset + of_column_[j].offset, of_row_[i].cell + of_column_[j].cell};
    return count_ > 0;
  }

  // For filters k .. k + N - 1, of which `filters` are there.
  SWITCHGRAD_INLINE Numbers<E> at(int64_t k, int64_t filters) const {
    Numbers<E> sum = through(windows_[0], k, filters);
    for (int64_t i = 1; i < count_; ++i) sum += through(windows_[i], k, filters);
    return sum;
  }

 private:
  struct Window {
    int64_t offset;  // of its pooled cell
    Int<E> cell;     // which of the window's
  };
  // How many windows of an axis may see one place.
  static int64_t most(const Axis& a) { return (a.span() + a.stride - 1) / a.stride; }
  static int64_t windows_over(const Axis& a, int64_t at, int64_t offset, int64_t cell, Window* to) {
    int64_t count = 0;
    for (int64_t place = a.covering_begin(at); place < a.covering_end(at); ++place)
      if (a.cell(place, at) >= 0) to[count++] = {place * offset, static_cast<Int<E>>(a.cell(place, at) * cell)};
    return count;
  }

  SWITCHGRAD_INLINE Numbers<E> through(const Window& window, int64_t k, int64_t filters) const {
    const int64_t at = window.offset + k;
    const auto codes = widen_codes<Int<E>, N, uint8_t>(load_first<N>(job_.codes + at, filters));
    const auto won = codes == broadcast<Int<E>, N>(window.cell);
    return select(won, load_first<N>(static_cast<const E*>(job_.grad) + at, filters), Numbers<E>{});
  }

  const ConvPoolBackwardJob& job_;
  Scratch<Window> of_row_, of_column_;
  Scratch<int64_t> starts_;
  Scratch<Window> windows_;
  int64_t image_ = 0, rows_ = 0, count_ = 0;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
