// y = x W^T + b, perhaps with a ReLU: rows of the weight go by, number by number, each times vectors of the batch.
#pragma once

#include "layout/turn.h"
#include "linear/few_rows.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

constexpr int64_t inputs_of_block = 128;  // that are summed before the sum is put away
constexpr int most_vectors = vector_bytes == 64 ? 4 : 3;
constexpr int64_t most_groups = 4;  // of rows of the batch, beside each other

// How the batch is cut: groups of V vectors of rows, in bands of a few groups. A vector holds one input of many rows.
template <class E>
struct Batch {
  int64_t vectors = 0, groups = 0;
  explicit Batch(const LinearJob& job) {
    const int64_t all = parts_of(job.rows, lanes_of<E>);
    groups = parts_of(all, most_vectors);
    vectors = groups > 0 ? parts_of(all, groups) : 1;
  }
  int64_t width() const { return vectors * lanes_of<E>; }
};

// The input, turned over: group, input, row. Inputs are filled up with zeros to whole vectors.
template <class E>
int64_t packed_inputs(const LinearJob& job) {
  return rounded_up(job.inputs, lanes_of<E>);
}
template <class E>
int64_t packed_input_size(const LinearJob& job) {
  if (are_few(job)) return job.rows * few_rows_step<E>(job);
  const Batch<E> batch(job);
  return batch.groups * batch.width() * packed_inputs<E>(job);
}
template <class E>
int64_t pack_input_items(const LinearJob& job) {
  return are_few(job) ? 1 : parts_of(job.inputs, inputs_of_block);
}

// A square of N rows and N inputs; what is not there is 0.
template <class E>
void pack_square(const LinearForwardJob& job, int64_t row, int64_t input, E* to, int64_t width) {
  constexpr int N = lanes_of<E>;
  const int64_t rows = row < job.rows ? job.rows - row : 0, inputs = job.inputs - input;
  if (rows >= N && inputs >= N && job.input.column_step == 1)
    return turn_square<E, N>(at<E>(job.input, row, input), job.input.row_step, to, width);
  alignas(64) E square[N][N] = {};
  for (int64_t i = 0; i < (rows < N ? rows : N); ++i)
    copy_row(at<E>(job.input, row + i, input), job.input.column_step, inputs < N ? inputs : N, square[i], N);
  turn_square<E, N>(square[0], N, to, width);
}

template <class E>
void pack_input(const LinearForwardJob& job, int64_t begin, int64_t end) {
  if (are_few(job)) return pack_few_rows<E>(job);
  constexpr int N = lanes_of<E>;
  const Batch<E> batch(job);
  const int64_t width = batch.width(), last = end * inputs_of_block;
  for (int64_t group = 0; group < batch.groups; ++group) {
    E* to = static_cast<E*>(job.packed) + group * width * packed_inputs<E>(job);
    for (int64_t input = begin * inputs_of_block; input < (last < job.inputs ? last : job.inputs); input += N)
      for (int64_t v = 0; v < batch.vectors; ++v)
        pack_square(job, group * width + v * N, input, to + input * width + v * N, width);
  }
}

// A block of the weight: some inputs of T rows, brought together, because rows of a weight are often so far apart that
// they would share a few places of the cache.
template <class E, int T>
struct WeightBlock {
  static constexpr int64_t width = inputs_of_block + 64 / static_cast<int64_t>(sizeof(E));
  alignas(64) E numbers[T * width];

  // Rows that are not there stay as they are: nobody looks at their sums.
  void copy(const E* from, int64_t step, int64_t rows, int64_t inputs) {
    for (int64_t t = 0; t < (rows < T ? rows : T); ++t)
      copy_row(from + t * step, 1, inputs, numbers + t * width, rounded_up(inputs, lanes_of<E>));
  }
};

// What is copied while products are added: the next block of the weight, whole.
template <class E>
struct Next {
  const E* from = nullptr;
  int64_t step = 0;
  E* to = nullptr;
};

// Adds the products of a block of T rows of the weight with V vectors of the batch.
template <class E, int T, int V, bool Copies>
__attribute__((noinline)) void add_block(const E* weight, const E* batch, int64_t inputs, const Next<E>& next,
                                         E* sums) {
  constexpr int N = lanes_of<E>;
  constexpr int64_t width = WeightBlock<E, T>::width;
  constexpr int each = (T + N - 1) / N;  // rows that are copied at each of N inputs
  ProductSums<E, T, V> found;
  found.clear();
  const E* from = next.from;
  E* to = next.to;
  for (int64_t k = 0; k < inputs; k += N) {
    const E* source = from;
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j) {
      found.add(weight + j, width, batch + j * V * N);
      if constexpr (Copies) {
#pragma GCC unroll 4
        for (int i = 0; i < each; ++i) {
          const int t = j * each + i;
          if (t >= T) break;
          store(to + t * width, load<Vec<E, N>>(source));
          if (N * sizeof(E) == 64 || k % (64 / sizeof(E)) == 0) __builtin_prefetch(source + inputs_of_block, 0, 2);
          source += next.step;
        }
      }
    }
    weight += N;
    batch += N * V * N;
    from += Copies ? N : 0;
    to += Copies ? N : 0;
  }
  found.add_to(sums, V * N);
}

template <class E, int T, int V>
class ForwardRows {
  static constexpr int N = lanes_of<E>;
  static constexpr int64_t width = V * N;

 public:
  explicit ForwardRows(const LinearForwardJob& job) : job_(job), groups_(Batch<E>(job).groups) {}

  // Outputs `output` .. output + T - 1, as far as they are there.
  void run(int64_t output) {
    for (int64_t group = 0; group < groups_; group += most_groups) {
      const int64_t left = groups_ - group;
      band(output, group, left < most_groups ? left : most_groups);
    }
  }

 private:
  const E* weight(int64_t output, int64_t input) const {
    return static_cast<const E*>(job_.weight) + output * job_.inputs + input;
  }

  void band(int64_t output, int64_t group, int64_t groups) {
    std::memset(sums_, 0, static_cast<size_t>(groups * T * width) * sizeof(E));
    const int64_t rows = job_.outputs - output;
    for (int64_t input = 0; input < job_.inputs; input += inputs_of_block) {
      const int64_t left = job_.inputs - input, inputs = left < inputs_of_block ? left : inputs_of_block;
      if (!ready_) blocks_[now_].copy(weight(output, input), job_.inputs, rows, inputs);
      const bool follows = rows >= T && left >= 2 * inputs_of_block;
      const Next<E> next{weight(output, input + (follows ? inputs_of_block : 0)), job_.inputs,
                         blocks_[1 - now_].numbers};
      const int64_t packed = packed_inputs<E>(job_), filled = rounded_up(inputs, N);
      for (int64_t g = 0; g < groups; ++g) {
        const E* batch = static_cast<const E*>(job_.packed) + ((group + g) * packed + input) * width;
        if (follows && g == 0)
          add_block<E, T, V, true>(blocks_[now_].numbers, batch, filled, next, sums_);
        else
          add_block<E, T, V, false>(blocks_[now_].numbers, batch, filled, next, sums_ + g * T * width);
      }
      ready_ = follows;
      now_ = follows ? 1 - now_ : now_;
    }
    for (int64_t g = 0; g < groups; ++g) finish(output, (group + g) * width, sums_ + g * T * width);
  }

  void finish(int64_t output, int64_t row, const E* sums) const {
    const int64_t rows = job_.rows - row < width ? job_.rows - row : width;
    const int64_t outputs = job_.outputs - output < T ? job_.outputs - output : T;
    E* to = static_cast<E*>(job_.output) + row * job_.outputs + output;
    for (int64_t t = 0; t < outputs; ++t) {
      const E bias = job_.bias == nullptr ? E{0} : static_cast<const E*>(job_.bias)[output + t];
      for (int64_t m = 0; m < rows; ++m) {
        const E value = sums[t * width + m] + bias;
        to[m * job_.outputs + t] = job_.relu && value <= 0 ? E{0} : value;
      }
    }
  }

  const LinearForwardJob& job_;
  int64_t groups_;
  bool ready_ = false;
  int now_ = 0;
  WeightBlock<E, T> blocks_[2];
  alignas(64) E sums_[most_groups * T * width];
};

// Calls body(V) with the number of vectors of a group.
template <class E, class F>
void with_vectors(const LinearJob& job, const F& body) {
  switch (Batch<E>(job).vectors) {
    case 1: return body(std::integral_constant<int, 1>{});
    case 2: return body(std::integral_constant<int, 2>{});
    case 3: return body(std::integral_constant<int, 3>{});
    default: return body(std::integral_constant<int, most_vectors>{});
  }
}

// How many rows of the weight go beside each other: as many as the registers hold, or a third of them where the outputs
// are so few that threads would find nothing to share.
template <int V>
constexpr int narrow_rows = sums_in_registers / 3 / V;
template <int V>
constexpr int wide_rows = sums_in_registers / V;

template <class E, class F>
void with_rows_and_vectors(const LinearJob& job, const F& body) {
  with_vectors<E>(job, [&](auto V) {
    if (job.outputs < 2 * wide_rows<V>) return body(std::integral_constant<int, narrow_rows<V>>{}, V);
    body(std::integral_constant<int, wide_rows<V>>{}, V);
  });
}

template <class E>
int64_t forward_items(const LinearJob& job) {
  if (are_few(job)) return few_rows_items(job);
  int64_t items = 0;
  with_rows_and_vectors<E>(job, [&](auto T, auto) { items = parts_of(job.outputs, T); });
  return items;
}

template <class E>
void forward(const LinearForwardJob& job, int64_t begin, int64_t end) {
  if (are_few(job)) return forward_few_rows<E>(job, begin, end);
  with_rows_and_vectors<E>(job, [&](auto T, auto V) {
    ForwardRows<E, T, V> rows(job);
    for (int64_t item = begin; item < end; ++item) rows.run(item * T);
  });
}

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
