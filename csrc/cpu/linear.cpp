// Fully connected layers on the CPU: checks, allocation, threads, registration.
#include <optional>
#include <tuple>

#include "cpu/convolutions.h"
#include "linear/job.h"

namespace switchgrad {
namespace {

const LinearKernels& kernels_for(const Tensor& input) {
  return of_dtype(kernels<LinearTable>(SWITCHGRAD_OF_EACH_ISA(linear_table)), input,
                  "the kernels of fully connected layers take");
}

LinearJob described(const Tensor& input, const Tensor& weight) {
  if (input.dim() != 2 || weight.dim() != 2 || weight.size(1) != input.size(1))
    fail("a fully connected layer takes rows (M, K) and a weight (N, K); these have shapes " + written(input) +
         " and " + written(weight));
  check_same_dtype(input, weight, "weight");
  return {input.size(0), input.size(1), weight.size(0)};
}

// One number for each output, side by side.
Tensor checked_numbers(const Tensor& bias, const Tensor& input, int64_t outputs) {
  check_same_dtype(input, bias, "bias");
  if (bias.dim() != 1 || bias.size(0) != outputs)
    fail("the bias has shape " + written(bias) + "; give one number for each of the " + std::to_string(outputs) +
         " rows of the weight");
  return made_compact(bias, false);
}

// What is read of a tensor of two axes, whatever its strides.
Matrix matrix_of(const Tensor& t) { return {t.const_data_ptr(), t.stride(0), t.stride(1)}; }

// Multiplications of `numbers` of the weight that a thread is worth waking for, as in_parallel counts.
int64_t work_of(const LinearJob& job, int64_t numbers) { return job.rows * numbers / 8 + 1; }

int64_t share(int64_t work, int64_t items) { return items > 0 ? work / items : 0; }

Tensor linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, bool relu) {
  const LinearKernels& with = kernels_for(input);
  LinearForwardJob job;
  static_cast<LinearJob&>(job) = described(input, weight);
  const Tensor given_bias = bias ? checked_numbers(*bias, input, job.outputs) : Tensor();
  const Tensor rows = made_compact(weight, false);
  Tensor output = compact({job.rows, job.outputs}, false, input.scalar_type());
  if (output.numel() == 0) return output;
  const CallScratch packed = scratch(with.packed_input_size(job), input);
  job.input = matrix_of(input);
  job.weight = rows.const_data_ptr();
  job.bias = bias ? given_bias.const_data_ptr() : nullptr;
  job.relu = relu;
  job.packed = packed.get();
  job.output = output.mutable_data_ptr();
  const int64_t blocks = with.pack_input_items(job), items = with.forward_items(job);
  in_parallel(blocks, share(input.numel(), blocks),
              [&](int64_t begin, int64_t end) { with.pack_input(job, begin, end); });
  in_parallel(items, share(work_of(job, weight.numel()), items),
              [&](int64_t begin, int64_t end) { with.forward(job, begin, end); });
  return output;
}

// Packs the gradient into `job.packed_grad`, without what the ReLU held back.
void pack(LinearGradientJob& job, const LinearKernels& with, const Tensor& grad, const std::optional<Tensor>& output) {
  job.grad = matrix_of(grad);
  if (output) job.output = matrix_of(*output);
  const int64_t panels = with.pack_grad_items(job);
  in_parallel(panels, share(grad.numel(), panels),
              [&](int64_t begin, int64_t end) { with.pack_grad(job, begin, end); });
}

void input_gradient(const LinearJob& shape, const LinearKernels& with, const CallScratch& grad, const Tensor& weight,
                    Tensor& found) {
  if (found.numel() == 0) return;
  const Tensor rows = made_compact(weight, false);
  const CallScratch sums = scratch(with.tiled_input_size(shape), weight);
  LinearInputGradientJob job;
  static_cast<LinearJob&>(job) = shape;
  job.packed_grad = grad.get();
  job.weight = rows.const_data_ptr();
  job.sums = sums.get();
  job.input_grad = found.mutable_data_ptr();
  const int64_t tiles = with.tiled_input_items(job);
  in_parallel(tiles, share(work_of(shape, weight.numel()), tiles),
              [&](int64_t begin, int64_t end) { with.input_gradient(job, begin, end); });
}

void weight_gradient(const LinearJob& shape, const LinearKernels& with, const CallScratch& grad, const Tensor& input,
                     Tensor& found) {
  if (found.numel() == 0) return;
  const CallScratch tiled = scratch(with.tiled_input_size(shape), input);
  LinearWeightGradientJob job;
  static_cast<LinearJob&>(job) = shape;
  job.packed_grad = grad.get();
  job.input = matrix_of(input);
  job.packed_input = tiled.get();
  job.weight_grad = found.mutable_data_ptr();
  const int64_t tiles = with.tiled_input_items(job), items = with.weight_gradient_items(job);
  in_parallel(tiles, share(input.numel(), tiles),
              [&](int64_t begin, int64_t end) { with.tile_input(job, begin, end); });
  in_parallel(items, share(work_of(shape, found.numel()), items),
              [&](int64_t begin, int64_t end) { with.weight_gradient(job, begin, end); });
}

std::tuple<Tensor, Tensor, Tensor> linear_backward(const Tensor& grad, const std::optional<Tensor>& output,
                                                   const Tensor& input, const Tensor& weight, bool input_wanted,
                                                   bool weight_wanted, bool bias_wanted) {
  const LinearKernels& with = kernels_for(input);
  const LinearJob shape = described(input, weight);
  const ScalarType dtype = input.scalar_type();
  check_same_dtype(input, grad, "gradient");
  if (output) check_same_dtype(input, *output, "output");
  const Sizes expected{shape.rows, shape.outputs};
  if (sizes_of(grad) != expected || (output && sizes_of(*output) != expected))
    fail("the gradient has shape " + written(grad) + (output ? " and the output " + written(*output) : "") +
         ", which is not what this layer gives; it gives (" + std::to_string(shape.rows) + ", " +
         std::to_string(shape.outputs) + ")");
  const Sizes none{0};
  Tensor input_grad = compact(input_wanted ? sizes_of(input) : none, false, dtype);
  Tensor weight_grad = compact(weight_wanted ? sizes_of(weight) : none, false, dtype);
  Tensor bias_grad = compact(bias_wanted ? Sizes{shape.outputs} : none, false, dtype);
  const CallScratch packed = scratch(with.packed_grad_size(shape), input);
  LinearGradientJob job;
  static_cast<LinearJob&>(job) = shape;
  job.packed_grad = packed.get();
  job.bias_grad = bias_wanted ? bias_grad.mutable_data_ptr() : nullptr;
  pack(job, with, grad, output);
  if (input_wanted) input_gradient(shape, with, packed, weight, input_grad);
  if (weight_wanted) weight_gradient(shape, with, packed, input, weight_grad);
  return {input_grad, weight_grad, bias_grad};
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("linear", TORCH_BOX(&switchgrad::linear));
  m.impl("linear_backward", TORCH_BOX(&switchgrad::linear_backward));
}
