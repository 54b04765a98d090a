// Fuzzes fully connected layers without PyTorch or Python: random sizes and strides in buffers of exactly the right
// size, against loops, under AddressSanitizer and UBSan. scripts/sanitize builds and runs it.
//
//   fuzz_linear SECONDS [SEED]      for each of the instruction sets that SWITCHGRAD_SERVERS lists
//
// Numbers are small and whole, so that sums are exact; a part of the cases has NaN and infinities among them. A part
// has any bits at all, where only memory is looked at. As in fuzz_max_pool.cpp, jobs are cut into chunks that run in
// any order, and guard pages stand beside half of the buffers.
#include "fuzz/memory.h"
#include "fuzz/products.h"
#include "fuzz/run.h"
#include "linear/job.h"

namespace fuzz {
namespace {

using switchgrad::LinearJob;
using switchgrad::LinearKernels;
using switchgrad::LinearTable;
using switchgrad::Matrix;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::linear_table},
constexpr Server<LinearTable> servers[] = {SWITCHGRAD_SERVERS};

LinearJob current;

void show() {
  std::printf("  rows %d, inputs %d, outputs %d\n", static_cast<int>(current.rows), static_cast<int>(current.inputs),
              static_cast<int>(current.outputs));
}

int64_t any_size(int64_t most) {
  return chance(5) ? 0 : chance(50) ? between(1, 9) : chance(40) ? 16 * between(1, most / 16) : between(10, most);
}

// Rows and columns with gaps between them, or the other way round, or all of them the same few numbers.
template <class E>
class Numbers {
 public:
  Numbers(int region, int64_t rows, int64_t columns, Kind kind, bool compact = false)
      : matrix_(lay(rows, columns, compact)), buffer_(region, span_) {
    matrix_.data = buffer_.get();
    for (int64_t i = 0; i < span_; ++i) buffer_[i] = any_real<E>(kind);
  }
  E at(int64_t row, int64_t column) const { return buffer_[row * matrix_.row_step + column * matrix_.column_step]; }
  const Matrix& matrix() const { return matrix_; }
  bool intact() const { return buffer_.intact(); }

 private:
  Matrix lay(int64_t rows, int64_t columns, bool compact) {
    const auto gap = [] { return chance(70) ? 0 : between(1, 5); };
    Matrix found{nullptr, columns, 1};
    if (!compact && chance(40)) found.row_step += gap();
    if (!compact && chance(20)) found = {nullptr, 1 + gap(), 0}, found.column_step = rows * found.row_step;
    if (!compact && chance(10)) found = {nullptr, 0, 0};
    span_ = rows == 0 || columns == 0 ? 0 : (rows - 1) * found.row_step + (columns - 1) * found.column_step + 1;
    return found;
  }
  int64_t span_ = 0;
  Matrix matrix_;
  Buffer<E> buffer_;
};

template <class E>
class Fuzz {
 public:
  explicit Fuzz(const LinearKernels& kernels)
      : kernels_(kernels),
        kind_(any_kind()),
        input_(0, current.rows, current.inputs, kind_),
        weight_(1, current.outputs, current.inputs, kind_, true),
        grad_(2, current.rows, current.outputs, kind_),
        output_(3, current.rows, current.outputs, kind_) {}

  void run() {
    if (current.rows > 0 && current.outputs > 0) forward();
    backward();
    for (const Numbers<E>* given : {&input_, &weight_, &grad_, &output_})
      if (!given->intact()) complain("memory beside what is only read");
  }

 private:
  template <class Job>
  Job described() const {
    Job job;
    static_cast<LinearJob&>(job) = current;
    return job;
  }
  void compare(E got, E wanted, const char* what) const {
    if (kind_ != any_bits && !same_sum(got, wanted)) complain(what);
  }

  void forward() {
    auto job = described<switchgrad::LinearForwardJob>();
    const Numbers<E> bias(4, 1, current.outputs, kind_, true);
    const bool biased = chance(60);
    Buffer<E> packed(5, kernels_.packed_input_size(job)), values(6, current.rows * current.outputs);
    job.input = input_.matrix();
    job.weight = weight_.matrix().data;
    job.bias = biased ? bias.matrix().data : nullptr;
    job.relu = chance(50);
    job.packed = packed.get();
    job.output = values.get();
    in_chunks(kernels_.pack_input, job, kernels_.pack_input_items(job));
    in_chunks(kernels_.forward, job, kernels_.forward_items(job));
    if (!packed.intact() || !values.intact() || !bias.intact()) complain("memory beside the values");
    for (int64_t m = 0; m < current.rows; ++m)
      for (int64_t n = 0; n < current.outputs; ++n) {
        E sum = 0;
        for (int64_t k = 0; k < current.inputs; ++k) sum += input_.at(m, k) * weight_.at(n, k);
        if (biased) sum += bias.at(0, n);
        compare(values[m * current.outputs + n], job.relu && sum <= 0 ? 0 : sum, "values");
      }
  }

  E sent(int64_t m, int64_t n) const { return masked_ && output_.at(m, n) <= 0 ? 0 : grad_.at(m, n); }

  void backward() {
    auto job = described<switchgrad::LinearGradientJob>();
    masked_ = chance(60);
    const bool biased = chance(60);
    Buffer<E> packed(4, kernels_.packed_grad_size(job)), of_bias(5, current.outputs);
    job.grad = grad_.matrix();
    if (masked_) job.output = output_.matrix();
    if (masked_ && job.output.data == nullptr) masked_ = false;
    job.bias_grad = biased ? of_bias.get() : nullptr;
    job.packed_grad = packed.get();
    in_chunks(kernels_.pack_grad, job, kernels_.pack_grad_items(job));
    for (int64_t n = 0; biased && n < current.outputs; ++n) {
      E sum = 0;
      for (int64_t m = 0; m < current.rows; ++m) sum += sent(m, n);
      compare(of_bias[n], sum, "the bias's gradient");
    }
    if (current.rows > 0 && current.inputs > 0) input_gradient(packed.get());
    if (current.outputs > 0 && current.inputs > 0) weight_gradient(packed.get());
    if (!packed.intact() || !of_bias.intact()) complain("memory beside the gradient");
  }

  void input_gradient(const E* packed) {
    auto job = described<switchgrad::LinearInputGradientJob>();
    Buffer<E> sums(6, kernels_.tiled_input_size(job)), found(7, current.rows * current.inputs);
    job.packed_grad = packed;
    job.weight = weight_.matrix().data;
    job.sums = sums.get();
    job.input_grad = found.get();
    in_chunks(kernels_.input_gradient, job, kernels_.tiled_input_items(job));
    if (!sums.intact() || !found.intact()) complain("memory beside the input's gradient");
    for (int64_t m = 0; m < current.rows; ++m)
      for (int64_t k = 0; k < current.inputs; ++k) {
        E sum = 0;
        for (int64_t n = 0; n < current.outputs; ++n) sum += sent(m, n) * weight_.at(n, k);
        compare(found[m * current.inputs + k], sum, "the input's gradient");
      }
  }

  void weight_gradient(const E* packed) {
    auto job = described<switchgrad::LinearWeightGradientJob>();
    Buffer<E> tiled(6, kernels_.tiled_input_size(job)), found(7, current.outputs * current.inputs);
    job.packed_grad = packed;
    job.input = input_.matrix();
    job.packed_input = tiled.get();
    job.weight_grad = found.get();
    in_chunks(kernels_.tile_input, job, kernels_.tiled_input_items(job));
    in_chunks(kernels_.weight_gradient, job, kernels_.weight_gradient_items(job));
    if (!tiled.intact() || !found.intact()) complain("memory beside the weight's gradient");
    for (int64_t n = 0; n < current.outputs; ++n)
      for (int64_t k = 0; k < current.inputs; ++k) {
        E sum = 0;
        for (int64_t m = 0; m < current.rows; ++m) sum += sent(m, n) * input_.at(m, k);
        compare(found[n * current.inputs + k], sum, "the weight's gradient");
      }
  }

  const LinearKernels& kernels_;
  Kind kind_;
  Numbers<E> input_, weight_, grad_, output_;
  bool masked_ = false;
};

void fuzz_once(const LinearTable& table) {
  current = {any_size(90), any_size(420), any_size(150)};
  if (current.rows * current.inputs * current.outputs > 400'000) return;
  if (chance(65)) return Fuzz<float>(table.of_float).run();
  Fuzz<double>(table.of_double).run();
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
