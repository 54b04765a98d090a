// Dropout on the CPU: checks, allocation, threads, registration.
#include <tuple>

#include "cpu/isa.h"
#include "cpu/numbers.h"
#include "cpu/windows.h"

namespace switchgrad {
namespace {

const DropoutTable& table() { return kernels<DropoutTable>(SWITCHGRAD_OF_EACH_ISA(dropout_table)); }

// Draws for every element of a contiguous tensor and writes what is kept.
Tensor run(const Tensor& given, const Tensor& seed, double p, const DropoutKernel (&kernel)[float_count],
           DropoutJob job) {
  const Dtype dtype = float_dtype(given, "the input", "dropout");
  if (!(p >= 0 && p < 1)) fail("p is " + std::to_string(p) + "; the kernels of dropout take 0 <= p < 1");
  if (seed.scalar_type() != ScalarType::Long || seed.numel() != 1)
    fail("the seed has shape " + written(seed) + "; give one int64 number");
  const Tensor input = made_compact(given, false);
  Tensor output = compact(sizes_of(given), false, given.scalar_type());
  job.count = input.numel();
  job.input = input.const_data_ptr();
  job.output = output.mutable_data_ptr();
  job.seed = static_cast<uint64_t>(*static_cast<const int64_t*>(seed.const_data_ptr()));
  const double words = p * 4294967296.0;
  job.threshold = words >= 4294967295.0 ? 4294967295u : static_cast<uint32_t>(words + 0.5);
  job.scale = 1 / (1 - p);
  const DropoutKernel chosen = kernel[dtype];
  in_parallel((job.count + dropout_chunk - 1) / dropout_chunk, 2 * dropout_chunk,
              [&](int64_t begin, int64_t end) { chosen(job, begin, end); });
  return output;
}

Tensor dropout(const Tensor& input, const Tensor& seed, double p) { return run(input, seed, p, table().drop, {}); }

// The bias belongs to `axis` of the input.
Tensor bias_relu_dropout(const Tensor& input, const Optional& bias, const Tensor& seed, double p, int64_t axis) {
  DropoutJob job;
  Numbers numbers;
  if (bias) {
    if (axis < 0 || axis >= input.dim()) fail("the bias has no axis in an input of shape " + written(input));
    job.channels = input.size(axis);
    for (int64_t i = axis + 1; i < input.dim(); ++i) job.inner *= input.size(i);
    numbers = numbers_of(bias, job.channels, 0, "the bias", "dropout");
    job.bias = numbers.data();
  }
  return run(input, seed, p, table().rectify_and_drop, job);
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("dropout", TORCH_BOX(&switchgrad::dropout));
  m.impl("bias_relu_dropout", TORCH_BOX(&switchgrad::bias_relu_dropout));
}
