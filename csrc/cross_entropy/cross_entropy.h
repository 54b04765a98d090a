// Softmax cross entropy of rows: each row is read once, and gives its loss and its gradient.
#pragma once

#include <cmath>

#include "common/numbers.h"
#include "common/sums.h"
#include "cross_entropy/job.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// exp(x) for x <= 0, to about one unit in the last place; below -87.3, where float has subnormals, 0. NaN stays.
template <int N>
SWITCHGRAD_INLINE Vec<float, N> exp_of(Vec<float, N> x) {
  using V = Vec<float, N>;
  const auto least = broadcast<float, N>(-87.3f);
  const V at = select(x < least, least, x);
  const auto shift = broadcast<float, N>(0x1.8p23f);  // rounds to an integer, which lies in the lowest bits
  const V shifted = static_cast<V>(at * 0x1.715476p0f + shift), n = static_cast<V>(shifted - shift);
  const V r = static_cast<V>(static_cast<V>(at - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f);  // at - n ln 2, in two steps
  V sum = broadcast<float, N>(1.98756915e-4f);
  sum = static_cast<V>(sum * r + 1.39819995e-3f);
  sum = static_cast<V>(sum * r + 8.33345191e-3f);
  sum = static_cast<V>(sum * r + 4.16657959e-2f);
  sum = static_cast<V>(sum * r + 1.66666655e-1f);
  sum = static_cast<V>(sum * r + 5.00000012e-1f);
  sum = static_cast<V>(static_cast<V>(sum * r) * r + r + 1.0f);
  using I = Vec<int32_t, N>;
  const V power = bits<V>(static_cast<I>((bits<I>(shifted) << 23) + 0x3f800000));  // 2^n
  return select(x < least, V{}, static_cast<V>(sum * power));
}
template <int N>
SWITCHGRAD_INLINE Vec<double, N> exp_of(Vec<double, N> x) {
  if constexpr (N == 1) {
    return std::exp(x);
  } else {
    Vec<double, N> result;
    for (int i = 0; i < N; ++i) result[i] = std::exp(x[i]);
    return result;
  }
}

template <class T>
class Row {
 public:
  using A = Wide<T>;
  static constexpr int lanes = wide_lanes<T>;

  // Rows are rounded up to blocks, filled with -infinity, whose power is 0: no block is a part.
  explicit Row(const CrossEntropyJob& job)
      : job_(job), padded_((job.classes + block - 1) / block * block), away_(padded_), power_(padded_) {
    spread_ = job.smoothing / static_cast<double>(job.classes) / job.divisor;
    at_target_ = (1 - job.smoothing) / job.divisor;
  }

  // The row's numbers less their largest, and what e to the power of them adds up to.
  void read(const Raw<T>* from) {
    using V = Vec<A, lanes>;
    V most_of_lanes = broadcast<A, lanes>(lowest);
    for (int64_t c = 0; c < padded_; c += lanes) {
      const V x = job_.classes - c >= lanes ? load_wide<T, lanes>(from + c) : last_of(from + c, job_.classes - c);
      store(away_.get() + c, x);
      most_of_lanes = select(x > most_of_lanes, x, most_of_lanes);
    }
    A most = most_of_lanes[0];
    for (int i = 1; i < lanes; ++i) most = most_of_lanes[i] > most ? most_of_lanes[i] : most;
    for (int64_t c = 0; c < padded_; c += lanes) {
      const auto away = static_cast<V>(load<V>(away_.get() + c) - broadcast<A, lanes>(most));
      store(away_.get() + c, away);
      store(power_.get() + c, exp_of<lanes>(away));
    }
    powers_ = sum_of_blocks(padded_, [&](auto n, int64_t c) {
      constexpr int N = decltype(n)::value;
      return convert<double, N>(load<Vec<A, N>>(power_.get() + c));
    });
    weighed_ = 0;
    if (job_.smoothing == 0) return;  // a class at -infinity must not spoil the sum that nobody asks for
    for (int64_t c = 0; c < job_.classes; ++c) weighed_ += weight(c) * static_cast<double>(away_[c]);
  }

  double loss(int64_t target) const {
    const double log = std::log(powers_);
    const double of_target = (1 - job_.smoothing) * weight(target) * (log - static_cast<double>(away_[target]));
    if (job_.smoothing == 0) return of_target;
    return of_target + job_.smoothing / static_cast<double>(job_.classes) * (job_.total_weight * log - weighed_);
  }

  void write(int64_t target, Raw<T>* to) const {
    const double at_target = at_target_ * weight(target),
                 of_power = (at_target + spread_ * job_.total_weight) / powers_;
    const auto factor = broadcast<A, lanes>(static_cast<A>(of_power));
    const auto all = broadcast<A, lanes>(static_cast<A>(job_.weight ? 0 : spread_));
    blocks_of(to, [&](int64_t c) {
      return static_cast<Vec<A, lanes>>(load<Vec<A, lanes>>(power_.get() + c) * factor - all);
    });
    // The target's number is the difference of near equals where the guess is right, so it is taken in double.
    const auto put = [&](int64_t c, double hit) {
      const double grad = static_cast<double>(power_[c]) * of_power - spread_ * weight(c) - hit;
      to[c] = Element<T>::narrow(static_cast<A>(grad));
    };
    if (job_.weight && spread_ != 0)
      for (int64_t c = 0; c < job_.classes; ++c) put(c, 0);
    put(target, at_target);
  }

 private:
  // The last `count` numbers of a row (or none) and -infinity behind them; made in a register, because a vector that is
  // read just after a part of it was written waits for the memory.
  Vec<A, lanes> last_of(const Raw<T>* from, int64_t count) const {
    using V = Vec<A, lanes>;
    const V none = broadcast<A, lanes>(lowest);
    if (count <= 0) return none;
    if constexpr (has_parts) {
      Vec<Int<A>, lanes> index;
      for (int i = 0; i < lanes; ++i) index[i] = static_cast<Int<A>>(i);
      return select(index < static_cast<Int<A>>(count), load_wide<T, lanes>(from, Part{count}), none);
    } else {
      V last = none;
      for (int64_t i = 0; i < count; ++i) last[i] = Element<T>::widen(from[i]);
      return last;
    }
  }
  // Writes all classes from whole vectors of the padded row; the last one goes by way of a copy.
  template <class F>
  void blocks_of(Raw<T>* to, F&& of) const {
    int64_t c = 0;
    for (; c + lanes <= job_.classes; c += lanes) store_wide<T, lanes>(to + c, of(c));
    if (c == job_.classes) return;
    Raw<T> last[lanes];
    store_wide<T, lanes>(last, of(c));
    std::memcpy(to + c, last, static_cast<size_t>(job_.classes - c) * sizeof(Raw<T>));
  }
  double weight(int64_t c) const { return job_.weight ? job_.weight[c] : 1; }

  static constexpr int block = sum_lanes;
  static constexpr A lowest = -__builtin_huge_val();
  const CrossEntropyJob& job_;
  int64_t padded_;
  Scratch<A> away_, power_;
  double powers_ = 0, weighed_ = 0;
  double spread_ = 0, at_target_ = 0;  // parts of the gradient, divided
};

template <class T>
void rows(const CrossEntropyJob& job, int64_t begin, int64_t end) {
  Row<T> row(job);
  auto* grad = static_cast<Raw<T>*>(job.grad);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t target = job.target[i];
    if (target == job.ignore) {
      job.losses[i] = 0;
      if (grad) std::memset(grad + i * job.classes, 0, static_cast<size_t>(job.classes) * sizeof(Raw<T>));
      continue;
    }
    row.read(static_cast<const Raw<T>*>(job.input) + i * job.classes);
    job.losses[i] = row.loss(target);
    if (grad) row.write(target, grad + i * job.classes);
  }
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
