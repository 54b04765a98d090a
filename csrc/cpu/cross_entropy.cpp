// Softmax cross entropy on the CPU: checks, allocation, threads, registration.
#include <memory>
#include <tuple>

#include "cpu/isa.h"
#include "cpu/numbers.h"
#include "cpu/windows.h"

namespace switchgrad {
namespace {

enum Reduction { none, mean, sum };

// The losses of rows, reduced in the order of the rows, and the gradient of the result (not where nobody needs it).
std::tuple<Tensor, Tensor> losses(const Tensor& given, const Tensor& target, const Optional& weight, int64_t ignore,
                                  double smoothing, int64_t reduction, bool keep_grad) {
  const Dtype dtype = float_dtype(given, "the input", "cross entropy");
  if (given.dim() != 2 || given.size(1) == 0)
    fail("cross entropy takes rows of shape (N, C) with 1 class or more; this input has shape " + written(given));
  if (target.dim() != 1 || target.size(0) != given.size(0) || target.scalar_type() != ScalarType::Long)
    fail("the target has shape " + written(target) + " and dtype " + torch::headeronly::toString(target.scalar_type()) +
         "; give one int64 class for each of the " + std::to_string(given.size(0)) + " rows");
  const Tensor input = made_compact(given, false), classes = made_compact(target, false);
  const Numbers weights = numbers_of(weight, given.size(1), 1, "the weight", "cross entropy");
  CrossEntropyJob job;
  job.rows = given.size(0);
  job.classes = given.size(1);
  job.input = input.const_data_ptr();
  job.target = static_cast<const int64_t*>(classes.const_data_ptr());
  job.weight = weight ? weights.data() : nullptr;
  job.ignore = ignore;
  job.smoothing = smoothing;
  for (const double w : weights) job.total_weight += w;
  double counted = 0;
  for (int64_t i = 0; i < job.rows; ++i) {
    const int64_t c = job.target[i];
    if (c == ignore) continue;
    if (c < 0 || c >= job.classes)
      fail("the target is " + std::to_string(c) + " at row " + std::to_string(i) +
           ", but the input has the classes 0 to " + std::to_string(job.classes - 1) + "; only ignore_index (" +
           std::to_string(ignore) + ") may lie outside");
    counted += weights[c];
  }
  job.divisor = reduction == mean ? counted : 1;
  const std::unique_ptr<double[]> each(new double[static_cast<size_t>(job.rows)]);
  job.losses = each.get();
  Tensor grad = compact(keep_grad ? sizes_of(given) : Sizes{0}, false, given.scalar_type());
  job.grad = keep_grad ? grad.mutable_data_ptr() : nullptr;
  const CrossEntropyKernel kernel = kernels<CrossEntropyTable>(SWITCHGRAD_OF_EACH_ISA(cross_entropy_table)).rows[dtype];
  in_parallel(job.rows, 8 * job.classes, [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  if (reduction == none)
    return {tensor_of(Numbers(each.get(), each.get() + job.rows), {job.rows}, given.scalar_type()), grad};
  double total = 0;
  for (int64_t i = 0; i < job.rows; ++i) total += each[i];
  return {tensor_of({total / job.divisor}, {}, given.scalar_type()), grad};
}

std::tuple<Tensor, Tensor> cross_entropy(const Tensor& input, const Tensor& target, const Optional& weight,
                                         int64_t ignore_index, double label_smoothing, int64_t reduction) {
  return losses(input, target, weight, ignore_index, label_smoothing, reduction, true);
}

Tensor cross_entropy_values(const Tensor& input, const Tensor& target, const Optional& weight, int64_t ignore_index,
                            double label_smoothing, int64_t reduction) {
  return std::get<0>(losses(input, target, weight, ignore_index, label_smoothing, reduction, false));
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("cross_entropy", TORCH_BOX(&switchgrad::cross_entropy));
  m.impl("cross_entropy_values", TORCH_BOX(&switchgrad::cross_entropy_values));
}
