// Fused convolution and max pooling on the CPU: checks, allocation, threads, registration.
#include <algorithm>
#include <cstring>
#include <optional>
#include <tuple>

#include "conv_pool/job.h"
#include "cpu/convolutions.h"
#include "cpu/deep.h"
#include "cpu/tensors.h"
#include "cpu/tiled_blocks.h"
#include "cpu/windows.h"

namespace switchgrad {
namespace {

const ConvPoolKernels& kernels_for(const Tensor& input) {
  return of_dtype(kernels<ConvPoolTable>(SWITCHGRAD_OF_EACH_ISA(conv_pool_table)), input,
                  "fused convolution and pooling takes");
}

FilterBank bank_of(const Tensor& weight) {
  FilterBank bank{weight.const_data_ptr(), {}};
  for (int i = 0; i < 4; ++i) bank.stride[i] = weight.stride(i);
  return bank;
}

// Fills what forward and backward share; `input` must have a batch.
void describe(ConvPoolJob& job, const Tensor& input, const Tensor& weight, const Sizes& conv_stride,
              const Sizes& conv_padding, const Geometry& geometry, bool relu) {
  if (input.dim() != 4 || weight.dim() != 4 || geometry.dims() != 2)
    fail("fused convolution and pooling takes an input of 4 axes and a weight of 4; these have shapes " +
         written(input) + " and " + written(weight));
  if (conv_stride.size() != 2 || conv_padding.size() != 4)
    fail("the convolution's stride needs one number and its padding two for each spatial axis");
  if (weight.size(0) == 0) fail("the weight of shape " + written(weight) + " has no filters; give at least 1");
  if (input.size(1) != weight.size(1) || input.size(1) == 0)
    fail("the weight of shape " + written(weight) + " takes " + std::to_string(weight.size(1)) +
         " channels and the input of shape " + written(input) + " has " + std::to_string(input.size(1)) +
         "; they must be equal, and at least 1");
  check_same_dtype(input, weight, "weight");
  job.batch = input.size(0);
  job.channels = input.size(1);
  job.filters = weight.size(0);
  job.relu = relu;
  for (int64_t i = 0; i < 2; ++i) {
    job.conv[i] = {
        input.size(2 + i), weight.size(2 + i), conv_stride[i], conv_padding[2 * i], conv_padding[2 * i + 1], 1, 1};
    settle(job.conv[i], i, false);
  }
  const Window window = geometry.over({job.conv[0].places, job.conv[1].places});
  if (code_width(window.cells()) != Code8)
    fail("the pooling window has " + std::to_string(window.cells()) + " cells; the fused kernel takes up to 254");
  for (int i = 0; i < 2; ++i) job.pool[i] = window.axis[1 + i];
  const int64_t widest = job.filters * job.conv[0].kernel * (job.run() + 64);
  const int64_t row = (job.conv[1].size + job.conv[1].pad_begin + job.conv[1].pad_end) * job.channels;
  constexpr int64_t limit = int64_t{1} << 29;  // addresses within a band and within the filters are 32 bits wide
  if (widest > limit || row > limit / (4 * job.conv[0].kernel + job.pool[0].span() * job.conv[0].stride))
    fail("the weight of shape " + written(weight) + " or a row of the input of shape " + written(input) +
         " is too large for the fused kernel; call conv2d and max_pool2d");
  for (int i = 0; i < 4; ++i) job.input_stride[i] = input.stride(i);
  job.input = input.const_data_ptr();
}

Sizes pooled_sizes(const ConvPoolJob& job) { return {job.batch, job.filters, job.pool[0].places, job.pool[1].places}; }

// Multiplications of one pooled cell's window that a thread is worth waking for, as in_parallel counts.
int64_t work_of_cell(const ConvPoolJob& job) { return job.taps() * job.channels / 4 + 1; }

std::tuple<Tensor, Tensor> conv_max_pool(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                                         const Sizes& conv_stride, const Sizes& conv_padding, const Sizes& window,
                                         bool relu) {
  ConvPoolForwardJob job;
  const Geometry geometry(window);
  describe(job, input, weight, conv_stride, conv_padding, geometry, relu);
  const ConvPoolKernels& kernels = kernels_for(input);
  const Tensor given_bias = bias ? checked_bias(input, *bias, job.filters) : Tensor();
  const void* numbers = bias ? given_bias.const_data_ptr() : nullptr;
  Tensor values = compact(pooled_sizes(job), true, input.scalar_type());
  Tensor codes = compact(pooled_sizes(job), true, ScalarType::Byte);
  job.values = values.mutable_data_ptr();
  job.codes = static_cast<uint8_t*>(codes.mutable_data_ptr());
  if (!pool_in_tiles(job, input, weight, numbers)) {
    const CallScratch packed = scratch(kernels.packed_size(job), input);
    kernels.pack(job, bank_of(weight), numbers, packed.get());
    job.weight = packed.get();
    in_parallel(job.batch * job.pool[0].places, job.pool[1].places * job.filters * work_of_cell(job),
                [&](int64_t begin, int64_t end) { kernels.forward(job, begin, end); });
  }
  // One channel lies in both layouts at once; the result then stays in the kernel's own.
  if (!is_channels_last(input, 2) && job.channels > 1) values = relaid(values, false);
  return {values, codes};
}

int64_t work_of_filter(const ConvPoolJob& job) {
  return job.batch * job.pool[0].places * job.pool[1].places * work_of_cell(job);
}

// Does the items of two jobs, and wakes the threads once for both.
template <class F, class G>
void both_in_parallel(int64_t first_items, int64_t second_items, int64_t work, const F& first, const G& second) {
  constexpr int64_t pieces = 256;  // of each job; how they are cut changes nothing
  in_parallel(pieces, work / pieces, [&](int64_t begin, int64_t end) {
    const auto some = [&](int64_t items, const auto& body) {
      const int64_t from = begin * items / pieces, to = end * items / pieces;
      if (from < to) body(from, to);
    };
    some(first_items, first);
    some(second_items, second);
  });
}

// The gradients of weights and bias, where `weights` says so, and of the input for `blocks` of it: 0 where nobody wants
// that.
void gradients(ConvPoolBackwardJob& job, const ConvPoolKernels& kernels, const Tensor& like, bool weights,
               int64_t blocks) {
  const int64_t parts = weights ? kernels.weight_parts(job) : 0, work = work_of_filter(job) * job.filters;
  const CallScratch sums = scratch(weights ? kernels.weight_sums_size(job) : 0, like);
  job.weight_sums = sums.get();
  both_in_parallel(
      parts * job.filters, blocks, (weights ? work : 0) + (blocks > 0 ? work : 0),
      [&](int64_t begin, int64_t end) { kernels.weight_gradient(job, begin, end); },
      [&](int64_t begin, int64_t end) { kernels.input_gradient(job, begin, end); });
  constexpr int64_t lanes = 8;  // additions a vector, whose time is next to nothing
  in_parallel(weights ? job.filters : 0, parts * job.taps() * job.channels / lanes,
              [&](int64_t begin, int64_t end) { kernels.finish_weights(job, begin, end); });
}

// Whether a patch takes fewer vectors where the convolution's steps are deep pixels.
bool is_better_deep(const ConvPoolJob& job) {
  constexpr int64_t lanes = 16;
  const auto vectors = [](int64_t numbers) { return (numbers + lanes - 1) / lanes; };
  const int64_t deep_run = deep_taps(job.conv[1]) * steps_of(job) * job.channels;
  return steps_of(job) > 1 && deep_run % lanes == 0 &&
         deep_taps(job.conv[0]) * vectors(deep_run) < job.conv[0].kernel * vectors(job.run());
}

void deep_weight_gradient(const ConvPoolBackwardJob& job, const ConvPoolKernels& kernels, const Tensor& input) {
  const int64_t taps[2] = {deep_taps(job.conv[0]), deep_taps(job.conv[1])};
  const Tensor pixels = relaid(input, true);
  const DeepMap map(job, taps, pixels, job.batch);
  map.read(0, job.batch);
  const Pixels read = map.pixels();
  ConvPoolBackwardJob deep = job;
  deep.channels = read.channels;
  deep.input = read.data;
  const int64_t input_stride[4] = {read.stride[0], 1, read.stride[1], read.stride[2]};
  const int64_t weight_stride[4] = {read.channels * taps[0] * taps[1], taps[0] * taps[1], taps[1], 1};
  std::copy(input_stride, input_stride + 4, deep.input_stride);
  std::copy(weight_stride, weight_stride + 4, deep.weight_stride);
  for (int i = 0; i < 2; ++i) deep.conv[i] = {i ? read.columns : read.rows, taps[i], 1, 0, 0, 1, used(job.pool[i])};
  const CallScratch found = scratch(job.filters * weight_stride[0], input);
  deep.weight_grad = found.get();
  gradients(deep, kernels, input, true, 0);
  const auto width = static_cast<size_t>(input.element_size());
  const int64_t (&step)[4] = job.weight_stride;
  for_each_deep_weight(job, taps, [&](int64_t at, int64_t k, int64_t c, int64_t r, int64_t s) {
    const int64_t to = k * step[0] + c * step[1] + r * step[2] + s * step[3];
    std::memcpy(static_cast<char*>(job.weight_grad) + static_cast<size_t>(to) * width,
                static_cast<const char*>(found.get()) + static_cast<size_t>(at) * width, width);
  });
}

std::tuple<Tensor, Tensor, Tensor> conv_max_pool_backward(const Tensor& grad, const Tensor& codes, const Tensor& input,
                                                          const Tensor& weight, const Sizes& conv_stride,
                                                          const Sizes& conv_padding, const Sizes& window,
                                                          bool input_wanted, bool weight_wanted, bool bias_wanted) {
  ConvPoolBackwardJob job;
  const Geometry geometry(window);
  describe(job, input, weight, conv_stride, conv_padding, geometry, true);
  const ConvPoolKernels& kernels = kernels_for(input);
  check_same_dtype(input, grad, "gradient");
  if (sizes_of(grad) != pooled_sizes(job) || sizes_of(codes) != pooled_sizes(job) ||
      codes.scalar_type() != ScalarType::Byte)
    fail("the gradient has shape " + written(grad) + " and the codes " + written(codes) +
         ", which this convolution and window do not give; use what the forward returned");
  const Tensor numbers = relaid(grad, true), winners = made_compact(codes, true);
  job.grad = numbers.const_data_ptr();
  job.codes = static_cast<const uint8_t*>(winners.const_data_ptr());
  const Sizes none{0};
  Tensor input_grad =
      compact(input_wanted ? sizes_of(input) : none, input_wanted && is_channels_last(input, 2), input.scalar_type());
  Tensor weight_grad = compact(weight_wanted || bias_wanted ? sizes_of(weight) : none,
                               (weight_wanted || bias_wanted) && is_channels_last(weight, 2), input.scalar_type());
  Tensor bias_grad = compact(bias_wanted ? Sizes{job.filters} : none, false, input.scalar_type());
  bool weights = weight_wanted || bias_wanted;
  if (weights) {
    job.weight_grad = weight_grad.mutable_data_ptr();
    for (int i = 0; i < 4; ++i) job.weight_stride[i] = weight_grad.stride(i);
    job.bias_grad = bias_wanted ? bias_grad.mutable_data_ptr() : nullptr;
  }
  if (weights && is_better_deep(job)) {
    deep_weight_gradient(job, kernels, input);
    weights = false;
  }
  const CallScratch packed = scratch(input_wanted ? kernels.packed_filters_size(job) : 0, input);
  if (input_wanted) {
    kernels.pack_filters(job, bank_of(weight), packed.get());
    job.weight = packed.get();
    job.input_grad = input_grad.mutable_data_ptr();
    for (int i = 0; i < 4; ++i) job.grad_stride[i] = input_grad.stride(i);
  }
  gradients(job, kernels, input, weights, input_wanted ? kernels.input_blocks(job) : 0);
  return {input_grad, weight_grad, bias_grad};
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("conv_max_pool", TORCH_BOX(&switchgrad::conv_max_pool));
  m.impl("conv_max_pool_backward", TORCH_BOX(&switchgrad::conv_max_pool_backward));
}
