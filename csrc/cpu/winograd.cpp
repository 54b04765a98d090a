// Convolutions of 3 x 3 or 5 x 5 taps by Winograd's algorithm on the CPU: checks, allocation, threads, registration.
#include <array>
#include <optional>
#include <tuple>

#include "cpu/convolutions.h"
#include "cpu/tensors.h"
#include "cpu/tiles.h"
#include "cpu/windows.h"
#include "winograd/job.h"

namespace switchgrad {
namespace {

void check(const Tensor& input, const Tensor& weight, const Sizes& padding) {
  if (input.dim() != 4 || weight.dim() != 4 || weight.size(2) != weight.size(3) ||
      (weight.size(2) != 3 && weight.size(2) != 5))
    fail("convolution by Winograd takes an input of 4 axes and a weight of 3 x 3 or 5 x 5 taps; these have shapes " +
         written(input) + " and " + written(weight));
  const int64_t taps = weight.size(2);
  if (weight.size(1) != input.size(1) || input.size(1) == 0 || weight.size(0) == 0)
    fail("the weight of shape " + written(weight) + " does not fit the input of shape " + written(input) +
         "; its second axis must be the input's channels, and neither may be 0");
  if (padding.size() != 2 || padding[0] < 0 || padding[1] < 0 || padding[0] >= taps || padding[1] >= taps)
    fail("the padding needs two numbers from 0 to " + std::to_string(taps - 1));
  check_same_dtype(input, weight, "weight");
  for (int i = 0; i < 2; ++i)
    if (input.size(2 + i) + 2 * padding[i] < taps)
      fail("the input of shape " + written(input) + " is smaller than the taps, padding included");
}

void describe(WinogradJob& job, const Tensor& pixels, int64_t filters, int64_t taps, const Sizes& padding,
              int64_t tile) {
  job.batch = pixels.size(0);
  job.filters = filters;
  job.input = pixels_of(pixels);
  for (int i = 0; i < 2; ++i) {
    job.pad[i] = padding[i];
    job.places[i] = pixels.size(2 + i) + 2 * padding[i] - taps + 1;
    job.tiles[i] = (job.places[i] + tile - 1) / tile;
  }
}

// Runs `job`, all but its filters and output described; empty where a number was not finite.
std::optional<Tensor> convolved(WinogradForwardJob& job, const WinogradKernels& kernels, const TapBank& bank,
                                const Tensor& like) {
  const PackedTaps packed(job, kernels, bank, like);
  Tensor output = compact({job.batch, job.filters, job.places[0], job.places[1]}, true, like.scalar_type());
  job.output = output.mutable_data_ptr();
  if (!convolve_tiles(job, kernels)) return std::nullopt;
  return output;
}

Tensor in_layout_of(const Tensor& like, const Tensor& made) {
  return is_channels_last(like, 2) ? made : relaid(made, false);
}

// PyTorch's own convolution, which keeps what is not finite where it belongs.
Tensor plain_convolution(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                         const Sizes& padding, bool relu) {
  using torch::stable::detail::from;
  const Sizes ones{1, 1}, zeros{0, 0};
  std::array<StableIValue, 9> stack{from(input), from(weight), from(bias),  from(ones),      from(padding),
                                    from(ones),  from(false),  from(zeros), from(int64_t{1})};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::convolution", "", stack.data(), TORCH_ABI_VERSION));
  if (relu) TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::relu_", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

std::tuple<Tensor, Tensor> plain_gradients(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                           const Sizes& padding, bool input_wanted, bool weight_wanted) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  const Sizes ones{1, 1}, zeros{0, 0};
  const bool each_wanted[3] = {input_wanted, weight_wanted, false};
  const torch::headeronly::HeaderOnlyArrayRef<bool> wanted(each_wanted, 3);
  std::array<StableIValue, 11> stack{from(grad),  from(input),      from(weight), from(std::nullopt),
                                     from(ones),  from(padding),    from(ones),   from(false),
                                     from(zeros), from(int64_t{1}), from(wanted)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::convolution_backward", "", stack.data(), TORCH_ABI_VERSION));
  const Tensor none = compact({0}, false, input.scalar_type());
  return {input_wanted ? to<Tensor>(stack[0]) : none, weight_wanted ? to<Tensor>(stack[1]) : none};
}

Tensor winograd_conv(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, const Sizes& padding,
                     bool relu, int64_t tile) {
  check(input, weight, padding);
  const WinogradKernels& kernels = tile_kernels(input, weight.size(2), tile);
  const Tensor given_bias = bias ? checked_bias(input, *bias, weight.size(0)) : Tensor();
  const Tensor pixels = relaid(input, true), compact_weight = relaid(weight, false);
  WinogradForwardJob job;
  describe(job, pixels, weight.size(0), weight.size(2), padding, tile);
  job.bias = bias ? given_bias.const_data_ptr() : nullptr;
  job.relu = relu;
  const std::optional<Tensor> output = convolved(job, kernels, taps_of(compact_weight), input);
  if (output) return in_layout_of(input, *output);
  return plain_convolution(input, weight, bias, padding, relu);
}

std::optional<Tensor> weight_gradient(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                      const Sizes& padding, int64_t tile) {
  const WinogradKernels& kernels = tile_kernels(input, weight.size(2), tile);
  WinogradWeightJob job;
  describe(job, input, weight.size(0), weight.size(2), padding, tile);
  job.grad = pixels_of(grad);
  if (job.all_tiles() == 0) return std::nullopt;
  int64_t sizes[3];
  const int64_t parts = kernels.term_sizes(job, sizes);
  const CallScratch input_terms = scratch(sizes[0], input), grad_terms = scratch(sizes[1], input);
  const CallScratch sums = scratch(sizes[2], input);
  Tensor found = compact(sizes_of(weight), is_channels_last(weight, 2), input.scalar_type());
  job.input_terms = input_terms.get();
  job.grad_terms = grad_terms.get();
  job.sums = sums.get();
  job.weight_grad = found.mutable_data_ptr();
  for (int i = 0; i < 4; ++i) job.weight_stride[i] = found.stride(i);
  const int64_t tiles = kernels.block_of_tiles(job), channels = job.input.channels;
  for (int64_t block = 0; block * tiles < job.all_tiles(); ++block) {
    const int64_t left = job.all_tiles() - block * tiles, count = left < tiles ? left : tiles;
    in_parallel(count, 16 * (channels + job.filters),
                [&](int64_t begin, int64_t end) { kernels.transform(job, block, begin, end); });
    in_parallel(parts, count * job.filters, [&](int64_t begin, int64_t end) { kernels.add(job, block, begin, end); });
  }
  const bool sound = all_in_parallel(channels, 32 * job.filters,
                                     [&](int64_t begin, int64_t end) { return kernels.finish(job, begin, end); });
  if (!sound) return std::nullopt;
  return found;
}

std::optional<Tensor> input_gradient(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                     const Sizes& padding, int64_t tile) {
  WinogradForwardJob job;
  const int64_t taps = weight.size(2);
  describe(job, grad, weight.size(1), taps, {taps - 1 - padding[0], taps - 1 - padding[1]}, tile);
  const Tensor compact_weight = relaid(weight, false);
  return convolved(job, tile_kernels(input, taps, tile), turned_taps_of(compact_weight), input);
}

std::tuple<Tensor, Tensor> winograd_conv_backward(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                  const Sizes& padding, int64_t tile, bool input_wanted,
                                                  bool weight_wanted) {
  check(input, weight, padding);
  check_same_dtype(input, grad, "gradient");
  const int64_t reach = weight.size(2) - 1;
  const Sizes expected{input.size(0), weight.size(0), input.size(2) + 2 * padding[0] - reach,
                       input.size(3) + 2 * padding[1] - reach};
  if (sizes_of(grad) != expected)
    fail("the gradient has shape " + written(grad) + ", which is not what this convolution gives");
  const Tensor grad_pixels = relaid(grad, true), pixels = relaid(input, true);
  Tensor input_grad = compact({0}, false, input.scalar_type()), weight_grad = input_grad;
  if (input_wanted) {
    const std::optional<Tensor> found = input_gradient(grad_pixels, pixels, weight, padding, tile);
    if (!found) return plain_gradients(grad, input, weight, padding, input_wanted, weight_wanted);
    input_grad = in_layout_of(input, *found);
  }
  if (weight_wanted) {
    const std::optional<Tensor> found = weight_gradient(grad_pixels, pixels, weight, padding, tile);
    weight_grad = found ? *found : std::get<1>(plain_gradients(grad, input, weight, padding, false, true));
  }
  return {input_grad, weight_grad};
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("winograd_conv", TORCH_BOX(&switchgrad::winograd_conv));
  m.impl("winograd_conv_backward", TORCH_BOX(&switchgrad::winograd_conv_backward));
}
