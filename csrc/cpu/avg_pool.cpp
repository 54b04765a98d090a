// Average pooling on the CPU: checks, allocation, threads, registration. The schemas are in kernels/schema.py.
#include "cpu/bins.h"
#include "cpu/isa.h"

namespace switchgrad {
namespace {

constexpr const char* name = "avg_pool";
constexpr const char* adaptive_name = "adaptive_avg_pool";

const AveragePoolTable& table() { return kernels<AveragePoolTable>(SWITCHGRAD_OF_EACH_ISA(avg_pool_table)); }

Dtype float_of(const Tensor& t, const char* what) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return F64;
    case ScalarType::Float: return F32;
    case ScalarType::Half: return F16;
    case ScalarType::BFloat16: return BF16;
    default: break;
  }
  fail(std::string(what) + " has dtype " + torch::headeronly::toString(t.scalar_type()) +
       "; average pooling takes float64, float32, float16 or bfloat16");
}

// Averages of so many bytes, and the several times as many that they are made of, do not find room in the caches.
bool is_large(const Tensor& averages) {
  constexpr int64_t large = int64_t{1} << 23;
  return averages.numel() * static_cast<int64_t>(averages.element_size()) >= large;
}

Tensor average(const Tensor& given, const Plan& plan) {
  const int64_t spatial = plan.spatial, lead = given.dim() - spatial;
  const Dtype dtype = float_of(given, "the input");
  const bool channels_last = is_channels_last(given, spatial);
  const int64_t unit_axis = channels_last ? 1 : given.dim() - 1;
  const bool usable = given.stride(unit_axis) == 1 || given.size(unit_axis) == 1;
  const Tensor input = usable ? given : made_compact(given, channels_last);
  AverageJob job = plan.job();
  job.batch = lead == 2 ? input.size(0) : 1;
  job.channels = input.size(lead - 1);
  read_strides(input, spatial, job.stride);
  Tensor values = compact(with_spatial(given, spatial, plan.places), channels_last, given.scalar_type());
  job.from = input.const_data_ptr();
  job.to = values.mutable_data_ptr();
  job.past_caches = is_large(values);
  const int64_t places = product(plan.places), cells = product(plan.size);
  const int64_t row = job.bins[2].places, work = (cells + places) * row / places;  // cells read and written a row
  if (channels_last) {
    const AverageKernel kernel = table().pool_channels_last[dtype];
    in_parallel(job.batch * places, job.channels * (cells + places) / places,
                [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  } else {
    const AverageKernel kernel = table().pool_planar[dtype];
    in_parallel(job.batch * job.channels * places / row, work,
                [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  }
  return values;
}

Tensor spread(const Tensor& given, const Plan& plan, bool channels_last, const char* operation) {
  const int64_t spatial = plan.spatial, lead = given.dim() - spatial;
  check_rank(given, spatial, operation);
  const Dtype dtype = float_of(given, "the tensor to spread");
  if (spatial_of(given, spatial) != plan.places)
    fail("the tensor to spread has shape " + written(given) +
         ", which these windows over this input do not give; use the arguments of the pooling that made it");
  channels_last = channels_last && lead == 2 && spatial > 1;
  const Tensor pooled = made_compact(given, channels_last);
  AverageJob job = plan.job();
  job.batch = lead == 2 ? pooled.size(0) : 1;
  job.channels = pooled.size(lead - 1);
  Tensor shares = compact(with_spatial(given, spatial, plan.size), channels_last, given.scalar_type());
  job.from = pooled.const_data_ptr();
  job.to = shares.mutable_data_ptr();
  const int64_t cells = product(plan.size), row = job.bins[2].size;
  if (channels_last) {
    const AverageKernel kernel = table().spread_channels_last[dtype];
    in_parallel(job.batch * cells, job.channels, [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  } else {
    const AverageKernel kernel = table().spread_planar[dtype];
    const int64_t planes = job.batch * job.channels;
    job.batch = planes;  // a pooled row is found by its plane
    job.channels = 1;
    in_parallel(planes * cells / row, row, [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  }
  return shares;
}

// ---- what the dispatcher calls -----------------------------------------------------------------------------------

Tensor avg_pool(const Tensor& input, const Sizes& window, bool count_include_pad, double divisor) {
  const Geometry geometry(window);
  check_rank(input, geometry.dims(), name);
  return average(input, Plan::over(geometry, spatial_of(input, geometry.dims()), count_include_pad, divisor));
}

Tensor avg_pool_spread(const Tensor& pooled, const Sizes& input_size, const Sizes& window, bool count_include_pad,
                       double divisor, bool channels_last) {
  const Geometry geometry(window);
  return spread(pooled, Plan::over(geometry, input_size, count_include_pad, divisor), channels_last, name);
}

Tensor adaptive_avg_pool(const Tensor& input, const Sizes& output_size) {
  const auto spatial = static_cast<int64_t>(output_size.size());
  check_rank(input, spatial, adaptive_name);
  return average(input, Plan::adaptive(spatial_of(input, spatial), output_size));
}

Tensor adaptive_avg_pool_spread(const Tensor& pooled, const Sizes& input_size, bool channels_last) {
  const auto spatial = static_cast<int64_t>(input_size.size());
  check_rank(pooled, spatial, adaptive_name);
  return spread(pooled, Plan::adaptive(input_size, spatial_of(pooled, spatial)), channels_last, adaptive_name);
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("avg_pool", TORCH_BOX(&switchgrad::avg_pool));
  m.impl("avg_pool_spread", TORCH_BOX(&switchgrad::avg_pool_spread));
  m.impl("adaptive_avg_pool", TORCH_BOX(&switchgrad::adaptive_avg_pool));
  m.impl("adaptive_avg_pool_spread", TORCH_BOX(&switchgrad::adaptive_avg_pool_spread));
}
