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
      : job_(job), padded_((job.classes + block - 1) / block * block), away_(padded_), power_(padded_) {}

  // The row's numbers less their largest, and what e to the power of them adds up to.
  void read(const Raw<T>* from) {
    using V = Vec<A, lanes>;
    const V none = broadcast<A, lanes>(-__builtin_huge_val());
    for (int64_t c = job_.classes / block * block; c < padded_; c += lanes) store(away_.get() + c, none);
    cascade<lanes>(0, job_.classes, [&](auto n, int64_t c, auto cover) {
      store(away_.get() + c, load_wide<T, decltype(n)::value>(from + c, cover), cover);
    });
    V most_of_lanes = none;
    for (int64_t c = 0; c < padded_; c += lanes) {
      const auto x = load<V>(away_.get() + c);
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
    const double spread = job_.smoothing / static_cast<double>(job_.classes) / job_.divisor;
    const double at_target = (1 - job_.smoothing) * weight(target) / job_.divisor;
    const auto of_power = static_cast<A>((at_target + spread * job_.total_weight) / powers_);
    const auto all = static_cast<A>(job_.weight ? 0 : spread);
    cascade<lanes>(0, job_.classes, [&](auto n, int64_t c, auto cover) {
      constexpr int N = decltype(n)::value;
      using V = Vec<A, N>;
      auto grad = static_cast<V>(load<V>(power_.get() + c, cover) * broadcast<A, N>(of_power) - broadcast<A, N>(all));
      store_wide<T, N>(to + c, grad, cover);
    });
    // The target's number is the difference of near equals where the guess is right, so it is taken in double.
    const double powers = (at_target + spread * job_.total_weight) / powers_;
    const auto put = [&](int64_t c, double hit) {
      const double grad = static_cast<double>(power_[c]) * powers - spread * weight(c) - hit;
      to[c] = Element<T>::narrow(static_cast<A>(grad));
    };
    if (job_.weight && spread != 0)
      for (int64_t c = 0; c < job_.classes; ++c) put(c, 0);
    put(target, at_target);
  }

 private:
  double weight(int64_t c) const { return job_.weight ? job_.weight[c] : 1; }

  static constexpr int block = sum_lanes;
  const CrossEntropyJob& job_;
  int64_t padded_;
  Scratch<A> away_, power_;
  double powers_ = 0, weighed_ = 0;
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
