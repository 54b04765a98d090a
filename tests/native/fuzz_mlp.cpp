// Fuzzes chains of fully connected layers without PyTorch or Python: random rows and widths in buffers of exactly the
// right size, against loops, under AddressSanitizer and UBSan. scripts/sanitize builds and runs it.
//
//   fuzz_mlp SECONDS [SEED]      for each of the instruction sets that SWITCHGRAD_SERVERS lists
//
// Numbers are small and whole, and widths such that sums of sums stay exact in float; a part of the cases has NaN and
// infinities among them, a part any bits at all, where only memory is looked at.
#include "fuzz/memory.h"
#include "fuzz/products.h"
#include "fuzz/run.h"
#include "mlp/job.h"

namespace fuzz {
namespace {

using switchgrad::MlpBackwardJob;
using switchgrad::MlpForwardJob;
using switchgrad::MlpJob;
using switchgrad::MlpKernels;
using switchgrad::MlpLayer;
using switchgrad::MlpTable;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::mlp_table},
constexpr Server<MlpTable> servers[] = {SWITCHGRAD_SERVERS};

constexpr size_t most_layers = 3;
int64_t rows;
std::vector<int64_t> widths;  // of the input and of each layer's outputs

void show() {
  std::printf("  rows %d, widths", static_cast<int>(rows));
  for (const int64_t width : widths) std::printf(" %d", static_cast<int>(width));
  std::printf("\n");
}

// A matrix by rows.
template <class E>
class Numbers {
 public:
  Numbers(int region, int64_t rows, int64_t columns, Kind kind) : columns_(columns), buffer_(region, rows * columns) {
    for (int64_t i = 0; i < rows * columns; ++i) buffer_[i] = any_real<E>(kind);
  }
  E at(int64_t row, int64_t column) const { return buffer_[row * columns_ + column]; }
  E* get() { return buffer_.get(); }
  bool intact() const { return buffer_.intact(); }

 private:
  int64_t columns_;
  Buffer<E> buffer_;
};

template <class E>
class Fuzz {
 public:
  explicit Fuzz(const MlpKernels& kernels)
      : kernels_(kernels), kind_(any_kind()), count_(widths.size() - 1), input_(0, rows, widths[0], kind_) {
    for (size_t at = 0; at < count_; ++at) {
      weights_.emplace_back(1 + static_cast<int>(at), widths[at + 1], widths[at], kind_);
      layers_.push_back({widths[at], widths[at + 1], weights_[at].get(), nullptr});
    }
  }

  void run() {
    forward();
    backward();
    for (const Numbers<E>& weight : weights_)
      if (!weight.intact()) complain("memory beside a weight");
    if (!input_.intact()) complain("memory beside the input");
  }

 private:
  void describe(MlpJob& job) {
    job.rows = rows;
    job.count = static_cast<int64_t>(count_);
    job.layers = layers_.data();
    job.input = input_.get();
  }
  void compare(E got, E wanted, const char* what) const {
    if (kind_ != any_bits && !same_sum(got, wanted)) complain(what);
  }
  static E held_back(E value) { return value <= 0 ? 0 : value; }

  void forward() {
    std::vector<Numbers<E>> outputs, biases;
    std::vector<void*> wanted;
    for (size_t at = 0; at < count_; ++at) {
      outputs.emplace_back(4 + static_cast<int>(at), rows, widths[at + 1], kind_);
      if (at < 2) biases.emplace_back(7 + static_cast<int>(at), 1, widths[at + 1], kind_);
      layers_[at].bias = at < 2 && chance(70) ? biases[at].get() : nullptr;
      wanted.push_back(at + 1 == count_ || chance(60) ? outputs[at].get() : nullptr);
    }
    MlpForwardJob job;
    describe(job);
    job.vectors = chance(50) ? 1 : kernels_.most_vectors;
    job.outputs = wanted.data();
    Buffer<E> room(9, kernels_.room(job));
    job.room = room.get();
    in_chunks(kernels_.forward, job, kernels_.forward_items(job));
    if (!room.intact()) complain("memory beside the room");
    for (size_t at = 0; at < count_; ++at)
      if (!outputs[at].intact() || (at < 2 && !biases[at].intact())) complain("memory beside the values");
    for (int64_t m = 0; m < rows; ++m) {
      std::vector<E> given(static_cast<size_t>(widths[0]));
      for (int64_t k = 0; k < widths[0]; ++k) given[k] = input_.at(m, k);
      for (size_t at = 0; at < count_; ++at) {
        std::vector<E> found(static_cast<size_t>(widths[at + 1]));
        for (int64_t n = 0; n < widths[at + 1]; ++n) {
          E sum = layers_[at].bias ? biases[at].at(0, n) : 0;
          for (int64_t k = 0; k < widths[at]; ++k) sum += given[k] * weights_[at].at(n, k);
          found[n] = at + 1 < count_ ? held_back(sum) : sum;
          if (wanted[at]) compare(outputs[at].at(m, n), found[n], "values");
        }
        given = found;
      }
    }
  }

  // What a layer's weight meets: the input, or what the layer before gave.
  E met(size_t at, int64_t m, int64_t k) const { return at == 0 ? input_.at(m, k) : hidden_[at - 1].at(m, k); }

  void backward() {
    hidden_.clear();
    std::vector<Numbers<E>> grads;
    std::vector<const void*> hidden;
    std::vector<void*> of_outputs, of_weights, of_biases;
    std::vector<std::unique_ptr<E[]>> held;
    const auto wanted = [&](int64_t numbers, bool asked) -> void* {
      if (!asked) return nullptr;
      held.emplace_back(new E[static_cast<size_t>(numbers)]);
      return held.back().get();
    };
    MlpBackwardJob job;
    describe(job);
    job.first = chance(60) ? 0 : between(0, static_cast<int64_t>(count_) - 1);
    for (size_t at = 0; at < count_; ++at) {
      const bool asked = static_cast<int64_t>(at) >= job.first;
      if (at + 1 < count_) {
        hidden_.emplace_back(4 + static_cast<int>(at), rows, widths[at + 1], kind_);
        hidden.push_back(hidden_.back().get());
      }
      grads.emplace_back(6 + static_cast<int>(at), rows, widths[at + 1], kind_);
      of_outputs.push_back(asked ? grads.back().get() : nullptr);
      of_weights.push_back(wanted(widths[at + 1] * widths[at], asked && chance(80)));
      of_biases.push_back(wanted(widths[at + 1], asked && chance(80)));
    }
    Buffer<E> below(9, rows * widths[0]);
    job.hidden = hidden.data();
    job.grads = of_outputs.data();
    job.input_grad = job.first == 0 && chance(70) && widths[0] > 0 ? below.get() : nullptr;
    job.weight_grads = of_weights.data();
    job.bias_grads = of_biases.data();
    in_chunks(kernels_.row_gradients, job, kernels_.row_items(job));
    in_chunks(kernels_.weight_gradients, job, kernels_.weight_items(job));
    for (const Numbers<E>& numbers : grads)
      if (!numbers.intact()) complain("memory beside a gradient");
    for (const Numbers<E>& numbers : hidden_)
      if (!numbers.intact()) complain("memory beside a hidden output");
    if (!below.intact()) complain("memory beside the input's gradient");
    for (size_t at = static_cast<size_t>(job.first); at < count_; ++at)
      check_layer(grads, at, static_cast<const E*>(of_weights[at]), static_cast<const E*>(of_biases[at]));
    for (size_t at = static_cast<size_t>(job.first); at < count_; ++at)
      check_below(grads, at, at > static_cast<size_t>(job.first), job.input_grad ? below.get() : nullptr);
  }

  void check_layer(const std::vector<Numbers<E>>& grads, size_t at, const E* of_weight, const E* of_bias) const {
    for (int64_t n = 0; n < widths[at + 1]; ++n) {
      E total = 0;
      for (int64_t m = 0; m < rows; ++m) total += grads[at].at(m, n);
      if (of_bias) compare(of_bias[n], total, "a bias's gradient");
      for (int64_t k = 0; of_weight && k < widths[at]; ++k) {
        E sum = 0;
        for (int64_t m = 0; m < rows; ++m) sum += grads[at].at(m, n) * met(at, m, k);
        compare(of_weight[n * widths[at] + k], sum, "a weight's gradient");
      }
    }
  }

  // The gradient of what layer `at` reads: of the layer before (`has_below`), or of the input where it was wanted.
  void check_below(const std::vector<Numbers<E>>& grads, size_t at, bool has_below, const E* of_input) const {
    if (!has_below && (at > 0 || !of_input)) return;
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t k = 0; k < widths[at]; ++k) {
        E sum = 0;
        for (int64_t n = 0; n < widths[at + 1]; ++n) sum += grads[at].at(m, n) * weights_[at].at(n, k);
        if (!has_below)
          compare(of_input[m * widths[0] + k], sum, "the input's gradient");
        else
          compare(grads[at - 1].at(m, k), met(at, m, k) <= 0 ? 0 : sum, "a hidden gradient");
      }
  }

  const MlpKernels& kernels_;
  Kind kind_;
  size_t count_;
  Numbers<E> input_;
  std::vector<Numbers<E>> weights_, hidden_;
  std::vector<MlpLayer> layers_;
};

int64_t any_width() {
  return chance(4) ? 0 : chance(60) ? between(1, 9) : chance(60) ? between(10, 60) : between(61, 300);
}

void fuzz_once(const MlpTable& table) {
  rows = chance(50) ? between(1, 9) : between(10, 80);
  widths.assign(1, any_width());
  for (int64_t at = between(1, most_layers); at > 0; --at) widths.push_back(any_width());
  int64_t product = 1;
  for (const int64_t width : widths) product *= width > 0 ? width : 1;
  if (product * (rows < 16 ? 1 : rows / 16) > 40'000) return;  // beyond which sums of sums may be rounded
  if (chance(65)) return Fuzz<float>(table.of_float).run();
  Fuzz<double>(table.of_double).run();
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
