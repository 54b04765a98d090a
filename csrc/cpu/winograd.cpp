// Convolutions of 3 x 3 taps by Winograd's algorithm on the CPU: checks, allocation, threads, registration.
#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <tuple>

#include "cpu/convolutions.h"
#include "cpu/tensors.h"
#include "cpu/windows.h"
#include "winograd/job.h"

namespace switchgrad {
namespace {

const WinogradKernels& kernels_for(const Tensor& input, int64_t tile) {
  if (tile != 2 && tile != 4) fail("tiles are of 2 or 4 outputs; this is " + std::to_string(tile));
  const WinogradTable& table = kernels<WinogradTable>(SWITCHGRAD_OF_EACH_ISA(winograd_table));
  switch (input.scalar_type()) {
    case ScalarType::Float: return table.of_float[tile / 4];
    case ScalarType::Double: return table.of_double[tile / 4];
    default: break;
  }
  fail(std::string("the input has dtype ") + torch::headeronly::toString(input.scalar_type()) +
       "; convolution by Winograd takes float32 or float64");
}

void check(const Tensor& input, const Tensor& weight, const Sizes& padding) {
  if (input.dim() != 4 || weight.dim() != 4 || weight.size(2) != 3 || weight.size(3) != 3)
    fail("convolution by Winograd takes an input of 4 axes and a weight of 3 x 3 taps; these have shapes " +
         written(input) + " and " + written(weight));
  if (weight.size(1) != input.size(1) || input.size(1) == 0 || weight.size(0) == 0)
    fail("the weight of shape " + written(weight) + " does not fit the input of shape " + written(input) +
         "; its second axis must be the input's channels, and neither may be 0");
  if (padding.size() != 2 || padding[0] < 0 || padding[1] < 0 || padding[0] > 2 || padding[1] > 2)
    fail("the padding needs two numbers from 0 to 2");
  check_same_dtype(input, weight, "weight");
  for (int i = 0; i < 2; ++i)
    if (input.size(2 + i) + 2 * padding[i] < 3)
      fail("the input of shape " + written(input) + " is smaller than 3 x 3 taps, padding included");
}

// The tensor must lie channel by channel within a pixel.
Pixels pixels_of(const Tensor& t) {
  return {t.const_data_ptr(), t.size(2), t.size(3), t.size(1), {t.stride(0), t.stride(2), t.stride(3)}};
}

void describe(WinogradJob& job, const Tensor& pixels, int64_t filters, const Sizes& padding, int64_t tile) {
  job.batch = pixels.size(0);
  job.filters = filters;
  job.input = pixels_of(pixels);
  for (int i = 0; i < 2; ++i) {
    job.pad[i] = padding[i];
    job.places[i] = pixels.size(2 + i) + 2 * padding[i] - 2;
    job.tiles[i] = (job.places[i] + tile - 1) / tile;
  }
}

TapBank taps_of(const Tensor& weight) { return {weight.const_data_ptr(), 9 * weight.size(1), 9, false}; }

// The same filters as the input's gradient meets them: from outputs to inputs, and turned around.
TapBank turned_taps_of(const Tensor& weight) {
  const auto* first = static_cast<const char*>(weight.const_data_ptr());
  return {first + 8 * static_cast<int64_t>(weight.element_size()), 9, 9 * weight.size(1), true};
}

// Whether every piece says that its numbers are finite.
template <class F>
bool all_in_parallel(int64_t items, int64_t work_of_item, const F& body) {
  std::atomic<bool> sound{true};
  in_parallel(items, work_of_item, [&](int64_t begin, int64_t end) {
    if (!body(begin, end)) sound = false;
  });
  return sound;
}

// Transforms the filters into `packed`, which `job` then points to.
void pack(WinogradForwardJob& job, const WinogradKernels& kernels, const TapBank& bank, const CallScratch& packed) {
  in_parallel(kernels.pack_items(job), 1 << 14,
              [&](int64_t begin, int64_t end) { kernels.pack(job, bank, packed.get(), begin, end); });
  job.packed = packed.get();
}

// Runs `job`, all but its filters and output described; empty where a number was not finite.
std::optional<Tensor> convolved(WinogradForwardJob& job, const WinogradKernels& kernels, const TapBank& bank,
                                const Tensor& like) {
  const CallScratch packed = scratch(kernels.packed_size(job), like);
  pack(job, kernels, bank, packed);
  Tensor output = compact({job.batch, job.filters, job.places[0], job.places[1]}, true, like.scalar_type());
  job.output = output.mutable_data_ptr();
  const bool sound = all_in_parallel(job.all_tiles(), job.input.channels * job.filters,
                                     [&](int64_t begin, int64_t end) { return kernels.forward(job, begin, end); });
  if (!sound) return std::nullopt;
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

Tensor winograd_conv(Tensor input, Tensor weight, std::optional<Tensor> bias, Sizes padding, bool relu, int64_t tile) {
  const WinogradKernels& kernels = kernels_for(input, tile);
  check(input, weight, padding);
  const Tensor given_bias = bias ? checked_bias(input, *bias, weight.size(0)) : Tensor();
  const Tensor pixels = relaid(input, true), compact_weight = relaid(weight, false);
  WinogradForwardJob job;
  describe(job, pixels, weight.size(0), padding, tile);
  job.bias = bias ? given_bias.const_data_ptr() : nullptr;
  job.relu = relu;
  const std::optional<Tensor> output = convolved(job, kernels, taps_of(compact_weight), input);
  if (output) return in_layout_of(input, *output);
  return plain_convolution(input, weight, bias, padding, relu);
}

std::optional<Tensor> weight_gradient(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                      const Sizes& padding, int64_t tile) {
  const WinogradKernels& kernels = kernels_for(input, tile);
  WinogradWeightJob job;
  describe(job, input, weight.size(0), padding, tile);
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
  describe(job, grad, weight.size(1), {2 - padding[0], 2 - padding[1]}, tile);
  const Tensor compact_weight = relaid(weight, false);
  return convolved(job, kernels_for(input, tile), turned_taps_of(compact_weight), input);
}

std::tuple<Tensor, Tensor> winograd_conv_backward(Tensor grad, Tensor input, Tensor weight, Sizes padding, int64_t tile,
                                                  bool input_wanted, bool weight_wanted) {
  check(input, weight, padding);
  check_same_dtype(input, grad, "gradient");
  const Sizes expected{input.size(0), weight.size(0), input.size(2) + 2 * padding[0] - 2,
                       input.size(3) + 2 * padding[1] - 2};
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

bool is_three_by_three(const Axis (&conv)[2]) {
  for (const Axis& axis : conv)
    if (axis.kernel != 3 || axis.stride != 1 || axis.pad_begin > 2 || axis.pad_end > 2) return false;
  return true;
}

bool is_halved(const Axis (&pool)[2]) {
  for (const Axis& axis : pool)
    if (axis.kernel != 2 || axis.stride != 2 || axis.dilation != 1 || axis.pad_begin != 0 ||
        2 * axis.places > axis.size)
      return false;
  return true;
}

// How large tiles should be, 0 for none, to take less time than the sum over all taps. In products of that sum, as they
// were measured: a transformed number on its way in or out, a transformed weight, an input number that is brought into
// another layout. Tiles of 4 round more, so they must be worth it.
int64_t tile_of(const ConvPoolJob& job, bool channels_last) {
  constexpr int64_t of_weight = 60, of_relayout = 12, fewest = 16;
  if (job.channels < fewest || job.filters < fewest) return 0;
  const int64_t products = job.channels * job.filters;
  const int64_t windows = job.batch * job.pool[0].places * job.pool[1].places;
  const int64_t moved = channels_last ? 0 : job.batch * job.channels * job.conv[0].size * job.conv[1].size;
  const auto cost = [&](int64_t tile) {
    const int64_t along = tile / 2, terms = (tile + 2) * (tile + 2);
    const int64_t tiles =
        job.batch * ((job.pool[0].places + along - 1) / along) * ((job.pool[1].places + along - 1) / along);
    const int64_t of_term = tile == 2 ? 8 : 20;
    return terms * (tiles * (products + of_term * (job.channels + job.filters)) + of_weight * products) +
           of_relayout * moved;
  };
  const int64_t dense = 9 * 4 * products * windows;
  if (10 * cost(4) < 8 * std::min(cost(2), dense)) return 4;
  return cost(2) < dense ? 2 : 0;
}

}  // namespace

bool pool_in_tiles(const ConvPoolForwardJob& job, const Tensor& input, const Tensor& weight, const void* bias) {
  if (!is_three_by_three(job.conv) || !is_halved(job.pool)) return false;
  const int64_t tile = tile_of(job, is_channels_last(input, 2));
  if (tile == 0) return false;
  const Tensor pixels = relaid(input, true), compact_weight = relaid(weight, false);
  WinogradForwardJob in_tiles;
  in_tiles.batch = job.batch;
  in_tiles.filters = job.filters;
  in_tiles.input = pixels_of(pixels);
  in_tiles.bias = bias;
  for (int i = 0; i < 2; ++i) {
    in_tiles.pad[i] = job.conv[i].pad_begin;
    in_tiles.places[i] = 2 * job.pool[i].places;
    in_tiles.tiles[i] = (in_tiles.places[i] + tile - 1) / tile;
  }
  const WinogradKernels& kernels = kernels_for(input, tile);
  const CallScratch packed = scratch(kernels.packed_size(in_tiles), input);
  pack(in_tiles, kernels, taps_of(compact_weight), packed);
  return all_in_parallel(in_tiles.all_tiles(), job.channels * job.filters,
                         [&](int64_t begin, int64_t end) { return kernels.pool(in_tiles, job, begin, end); });
}

}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("winograd_conv", TORCH_BOX(&switchgrad::winograd_conv));
  m.impl("winograd_conv_backward", TORCH_BOX(&switchgrad::winograd_conv_backward));
}
