// Random pooling on the CPU: checks, allocation, threads, registration.
#include <tuple>

#include "cpu/isa.h"
#include "cpu/numbers.h"
#include "cpu/windows.h"
#include "random_pool/job.h"

namespace switchgrad {

SWITCHGRAD_TABLE(RandomPoolTable, random_pool_table)

namespace {

using Pooled = std::tuple<Tensor, Tensor>;

const RandomPoolTable& table() { return kernels<RandomPoolTable>(SWITCHGRAD_OF_EACH_ISA(random_pool_table)); }

Pooled pool(const Tensor& given, const Tensor& seed, uint32_t threshold, const Geometry& geometry, const char* name,
            const RandomPoolKernel (&planar)[float_count], const RandomPoolKernel (&channels_last)[float_count]) {
  const int64_t spatial = geometry.dims();
  check_rank(given, spatial, name);
  const Dtype dtype = float_dtype(given, "the input", name);
  if (seed.scalar_type() != ScalarType::Long || seed.numel() != 1)
    fail("the seed has shape " + written(seed) + "; give one int64 number");
  RandomPoolJob job;
  PoolJob& pooled = job.pool;
  pooled.window = geometry.over(spatial_of(given, spatial));
  const bool pixels = is_channels_last(given, spatial);
  const int64_t unit_axis = pixels ? 1 : given.dim() - 1;
  const bool usable = given.stride(unit_axis) == 1 || given.size(unit_axis) == 1;
  const Tensor input = usable ? given : made_compact(given, pixels);
  const int64_t lead = input.dim() - spatial;
  pooled.batch = lead == 2 ? input.size(0) : 1;
  pooled.channels = input.size(lead - 1);
  read_strides(input, spatial, pooled.input_stride);
  const Sizes sizes = with_spatial(given, spatial, places_of(pooled.window, spatial));
  Tensor values = compact(sizes, pixels, given.scalar_type());
  Tensor codes = compact(sizes, pixels, geometry.code_type(pooled.window));
  pooled.input = input.const_data_ptr();
  pooled.values = values.mutable_data_ptr();
  pooled.codes = codes.mutable_data_ptr();
  job.seed = static_cast<uint64_t>(*static_cast<const int64_t*>(seed.const_data_ptr()));
  job.threshold = threshold;
  const Axis* axis = pooled.window.axis;
  const int64_t rows = pooled.batch * axis[0].places * axis[1].places, cells = axis[2].places * pooled.window.cells();
  const RandomPoolKernel kernel = (pixels ? channels_last : planar)[dtype];
  in_parallel(pixels ? rows : rows * pooled.channels, pixels ? cells * pooled.channels : cells,
              [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  return {values, codes};
}

Pooled stochastic_pool(const Tensor& input, const Tensor& seed, const Sizes& window) {
  return pool(input, seed, 0, window, "stochastic_pool", table().stochastic_planar, table().stochastic_channels_last);
}

Pooled max_pool_dropout(const Tensor& input, const Tensor& seed, double p, const Sizes& window) {
  if (!(p >= 0 && p < 1)) fail("p is " + std::to_string(p) + "; the kernels of max_pool_dropout take 0 <= p < 1");
  const double words = p * 4294967296.0;
  const uint32_t threshold = words >= 4294967295.0 ? 4294967295u : static_cast<uint32_t>(words + 0.5);
  return pool(input, seed, threshold, window, "max_pool_dropout", table().dropout_planar,
              table().dropout_channels_last);
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("stochastic_pool", TORCH_BOX(&switchgrad::stochastic_pool));
  m.impl("max_pool_dropout", TORCH_BOX(&switchgrad::max_pool_dropout));
}
