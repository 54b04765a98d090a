// Max pooling on the CPU: checks, allocation, threads, registration. The schemas are in kernels/schema.py.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <tuple>

#include "cpu/isa.h"
#include "cpu/side_by_side.h"
#include "cpu/windows.h"
#include "max_pool/index.h"
#include "max_pool/job.h"
#include "max_pool/pick.h"

namespace switchgrad {

SWITCHGRAD_TABLE(MaxScatterTable, max_scatter_table)

namespace {

const MaxScatterTable& scatter_table() { return kernels<MaxScatterTable>(SWITCHGRAD_OF_EACH_ISA(max_scatter_table)); }
const MaxPoolTable& table() { return kernels<MaxPoolTable>(SWITCHGRAD_OF_EACH_ISA(max_pool_table)); }
const ReluMaxPoolTable& relu_table() { return kernels<ReluMaxPoolTable>(SWITCHGRAD_OF_EACH_ISA(relu_max_pool_table)); }

// The kernels for one dtype, by width of the codes.
struct PoolKernels {
  const PoolKernel (&planar)[code_count];
  const PoolKernel (&channels_last)[code_count];
};

PoolKernels plain(Dtype dtype) { return {table().pool_planar[dtype], table().pool_channels_last[dtype]}; }

PoolKernels rectified(Dtype dtype) {
  if (dtype >= float_count)
    fail("a ReLU before max pooling takes float64, float32, float16 or bfloat16; for integers, clamp and pool");
  return {relu_table().planar[dtype], relu_table().channels_last[dtype]};
}

void run_pool(const PoolJob& job, const PoolKernels& pooling, bool channels_last) {
  const CodeWidth width = code_width(job.window.cells());
  const Axis* axis = job.window.axis;
  if (channels_last) {
    const PoolKernel kernel = pooling.channels_last[width];
    in_parallel(job.batch * job.window.output_cells(), job.channels * job.window.cells(),
                [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  } else {
    const PoolKernel kernel = pooling.planar[width];
    in_parallel(job.batch * job.channels * axis[0].places * axis[1].places, axis[2].places * job.window.cells(),
                [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  }
}

std::tuple<Tensor, Tensor> pool(const Tensor& given, const Geometry& geometry, PoolKernels (*of)(Dtype),
                                bool keep_codes) {
  const int64_t spatial = geometry.dims();
  check_rank(given, spatial);
  const PoolKernels pooling = of(dtype_of(given, "the input"));
  PoolJob job;
  job.window = geometry.over(spatial_of(given, spatial));
  const bool channels_last = is_channels_last(given, spatial);
  const int64_t unit_axis = channels_last ? 1 : given.dim() - 1;
  const bool usable = given.stride(unit_axis) == 1 || given.size(unit_axis) == 1;
  const Tensor input = usable ? given : made_compact(given, channels_last);
  const int64_t lead = input.dim() - spatial;
  job.batch = lead == 2 ? input.size(0) : 1;
  job.channels = input.size(lead - 1);
  read_strides(input, spatial, job.input_stride);
  const Sizes sizes = with_spatial(given, spatial, places_of(job.window, spatial));
  Tensor values = compact(sizes, channels_last, given.scalar_type());
  Tensor codes = keep_codes ? compact(sizes, channels_last, geometry.code_type(job.window)) : Tensor();
  job.input = input.const_data_ptr();
  job.values = values.mutable_data_ptr();
  job.codes = keep_codes ? codes.mutable_data_ptr() : nullptr;
  run_pool(job, pooling, channels_last);
  return {values, codes};
}

// Codes, checked against the window, and the tensor of the same shape that goes with them, both compact.
struct Pooled {
  Window window;
  bool channels_last;
  int64_t spatial;
  Tensor codes;
  RouteJob job;

  Pooled(const Tensor& given, const Sizes& input_size, const Geometry& geometry)
      : window(geometry.over(input_size)),
        channels_last(is_channels_last(given, geometry.dims())),
        spatial(geometry.dims()),
        codes(made_compact(given, channels_last)) {
    check_rank(codes, spatial);
    if (spatial_of(codes, spatial) != places_of(window, spatial) || codes.scalar_type() != geometry.code_type(window))
      fail("the switches have shape " + written(given) + " and dtype " +
           torch::headeronly::toString(given.scalar_type()) +
           ", which this window over this input does not give; use the switches with the pooling that made them");
    const int64_t lead = codes.dim() - spatial;
    job.window = window;
    job.batch = lead == 2 ? codes.size(0) : 1;
    job.channels = codes.size(lead - 1);
    job.codes = codes.const_data_ptr();
  }

  int64_t planes() const { return job.batch * job.channels; }

  Tensor beside(const Tensor& t, const char* what) const {
    if (sizes_of(t) != sizes_of(codes))
      fail(std::string(what) + " has shape " + written(t) + " and the switches " + written(codes) +
           "; give one number for each switch");
    return made_compact(t, channels_last);
  }

  // Calls body(at, plane, place, code) for each pooled cell, whatever the width of the codes.
  template <class F>
  void for_each(const F& body) const {
    in_parallel(planes(), window.output_cells(), [&](int64_t begin, int64_t end) {
      switch (code_width(window.cells())) {
        case Code8: return for_each_code<uint8_t>(job, channels_last, begin, end, body);
        case Code16: return for_each_code<int16_t>(job, channels_last, begin, end, body);
        default: return for_each_code<int32_t>(job, channels_last, begin, end, body);
      }
    });
  }
  int64_t none() const { return code_width(window.cells()) == Code8 ? 255 : -1; }
};

constexpr int64_t nearby = 1 << 18;  // half-precision sums are taken in a copy, which should stay in the cache

bool is_half(Dtype dtype) { return dtype == F16 || dtype == BF16; }

// Whether so many threads' worth of items are there that each can have one to itself.
bool keeps_threads_busy(int64_t items) { return items >= 2 * static_cast<int64_t>(torch::stable::get_num_threads()); }

// Whether to go from the pooled cells to their winners, plane by plane, rather than from each input cell to its
// windows: not for pairs of cells, for which there is vector code, nor where threads would be left without planes.
bool by_plane(const Window& window, int64_t planes, Dtype dtype) {
  const Axis* axis = window.axis;
  if (axis[2].pairs() && !axis[0].overlaps() && !axis[1].overlaps()) return false;
  if (is_half(dtype) && window.overlaps() && window.input_cells() > nearby) return false;
  return keeps_threads_busy(planes);
}

// The same channels last, where the way from a cell to its windows is vector code: only where it would look at many.
bool by_image(const RouteJob& job, int64_t chunks, Dtype dtype) {
  const Axis* axis = job.window.axis;
  if (job.window.cells() <= 12 * axis[0].stride * axis[1].stride * axis[2].stride) return false;
  if (code_width(job.window.cells()) != Code8) return false;
  if (is_half(dtype) && job.window.input_cells() * std::min(job.channels, scatter_chunk) > nearby) return false;
  return keeps_threads_busy(job.batch * chunks);
}

void run_route(const RouteJob& job, Dtype dtype, bool channels_last) {
  const CodeWidth width = code_width(job.window.cells());
  const Axis* axis = job.window.axis;
  const int64_t planes = job.batch * job.channels;
  const int64_t chunks = (job.channels + scatter_chunk - 1) / scatter_chunk;
  if (channels_last && by_image(job, chunks, dtype)) {
    const RouteKernel kernel = scatter_table().channels_last[dtype];
    in_parallel(job.batch * chunks, job.window.input_cells() * std::min(job.channels, scatter_chunk),
                [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  } else if (channels_last) {
    const RouteKernel kernel = table().route_channels_last[dtype][width];
    in_parallel(job.batch * job.window.input_cells(), job.channels,
                [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  } else if (by_plane(job.window, planes, dtype)) {
    const RouteKernel kernel = table().scatter_planar[dtype][width];
    in_parallel(planes, job.window.input_cells(), [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  } else {
    const RouteKernel kernel = table().route_planar[dtype][width];
    in_parallel(planes * axis[0].size * axis[1].size, axis[2].size,
                [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  }
}

Tensor route(const Tensor& pooled, const Tensor& codes, const Sizes& input_size, const Geometry& geometry) {
  Pooled switches(codes, input_size, geometry);
  const Tensor numbers = switches.beside(pooled, "the tensor to route");
  const Dtype dtype = dtype_of(numbers, "the tensor to route");
  RouteJob& job = switches.job;
  const int64_t spatial = switches.spatial;
  Tensor routed = compact(with_spatial(codes, spatial, input_size), switches.channels_last, numbers.scalar_type());
  job.pooled = numbers.const_data_ptr();
  job.routed = routed.mutable_data_ptr();
  run_route(job, dtype, switches.channels_last);
  return routed;
}

[[noreturn]] void fail_foreign() {
  fail("some switches point outside their window or the input; use them with the pooling that made them");
}

Tensor indices(const Tensor& codes, const Sizes& input_size, const Geometry& geometry) {
  Pooled switches(codes, input_size, geometry);
  const Axis* axis = switches.window.axis;
  const Winners winners{switches.window, {axis[1].size * axis[2].size, axis[2].size, 1}};
  Tensor result = compact(sizes_of(codes), switches.channels_last, ScalarType::Long);
  auto* to = static_cast<int64_t*>(result.mutable_data_ptr());
  const int64_t none = switches.none();
  std::atomic<bool> foreign{false};
  switches.for_each([&](int64_t, int64_t place, int64_t at, int64_t code) {
    to[at] = winners.offset(place, code, none);
    if (to[at] == -2) foreign = true;
  });
  if (foreign) fail_foreign();
  return result;
}

template <class Raw>
void gather_cells(const Pooled& switches, const Tensor& input, Tensor& result) {
  int64_t stride[5];
  read_strides(input, switches.spatial, stride);
  const Winners winners{switches.window, {stride[2], stride[3], stride[4]}};
  const auto* from = static_cast<const Raw*>(input.const_data_ptr());
  auto* to = static_cast<Raw*>(result.mutable_data_ptr());
  const int64_t none = switches.none(), channels = switches.job.channels;
  std::atomic<bool> foreign{false};
  switches.for_each([&](int64_t plane, int64_t place, int64_t at, int64_t code) {
    const int64_t offset = winners.offset(place, code, none);
    if (offset == -2) foreign = true;
    to[at] = offset < 0 ? Raw{} : from[plane / channels * stride[0] + plane % channels * stride[1] + offset];
  });
  if (foreign) fail_foreign();
}

Tensor gather(const Tensor& input, const Tensor& codes, const Geometry& geometry) {
  check_rank(input, geometry.dims());
  const Sizes spatial = spatial_of(input, geometry.dims());
  const Pooled switches(codes, spatial, geometry);
  if (with_spatial(input, geometry.dims(), spatial_of(codes, geometry.dims())) != sizes_of(codes))
    fail("the input has shape " + written(input) + ", which does not go with switches of shape " + written(codes) +
         "; use the switches with the pooling that made them");
  dtype_of(input, "the input");
  Tensor result = compact(sizes_of(codes), switches.channels_last, input.scalar_type());
  switch (input.element_size()) {
    case 1: gather_cells<int8_t>(switches, input, result); break;
    case 2: gather_cells<int16_t>(switches, input, result); break;
    case 4: gather_cells<int32_t>(switches, input, result); break;
    default: gather_cells<int64_t>(switches, input, result); break;
  }
  return result;
}

template <class Raw>
void place_cells(const Tensor& values, const Tensor& where, Tensor& result, int64_t planes, int64_t from_cells,
                 int64_t to_cells) {
  const auto* from = static_cast<const Raw*>(values.const_data_ptr());
  const auto* at = static_cast<const int64_t*>(where.const_data_ptr());
  auto* to = static_cast<Raw*>(result.mutable_data_ptr());
  constexpr int64_t fine = INT64_MAX;
  std::atomic<int64_t> beyond{fine};  // the first value whose index is beyond the output
  in_parallel(planes, from_cells + to_cells, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      Raw* here = to + plane * to_cells;
      std::memset(here, 0, static_cast<size_t>(to_cells) * sizeof(Raw));
      for (int64_t i = plane * from_cells; i < (plane + 1) * from_cells; ++i) {
        if (static_cast<uint64_t>(at[i]) < static_cast<uint64_t>(to_cells)) {
          here[at[i]] = from[i];
        } else if (at[i] != -1) {
          int64_t first = beyond;
          while (i < first && !beyond.compare_exchange_weak(first, i)) {
          }
        }
      }
    }
  });
  if (beyond != fine)
    fail("max_unpool found index " + std::to_string(at[beyond]) + ", but an output of this size has the flat indices " +
         "0 to " + std::to_string(to_cells - 1) + " in each channel; check output_size and the indices");
}

// max_unpool(values, indices, output_size): where several indices name one cell, the last in row-major order stays.
Tensor unpool(const Tensor& given, const Tensor& indices, const Sizes& output_size) {
  const auto spatial = static_cast<int64_t>(output_size.size());
  check_rank(given, spatial);
  if (sizes_of(given) != sizes_of(indices) || indices.scalar_type() != ScalarType::Long)
    fail("max_unpool needs int64 indices of the values' shape " + written(given) + "; these have shape " +
         written(indices) + " and dtype " + torch::headeronly::toString(indices.scalar_type()));
  dtype_of(given, "the input");
  int64_t from_cells = 1, to_cells = 1, planes = 1;
  for (int64_t i = 0; i < spatial; ++i) {
    if (output_size[i] < 1) fail("output_size has an entry of " + std::to_string(output_size[i]) + "; give 1 or more");
    to_cells *= output_size[i];
    from_cells *= given.size(given.dim() - spatial + i);
  }
  for (int64_t i = 0; i < given.dim() - spatial; ++i) planes *= given.size(i);
  const Tensor values = made_compact(given, false), where = made_compact(indices, false);
  Tensor result = compact(with_spatial(given, spatial, output_size), false, given.scalar_type());
  switch (values.element_size()) {
    case 1: place_cells<int8_t>(values, where, result, planes, from_cells, to_cells); break;
    case 2: place_cells<int16_t>(values, where, result, planes, from_cells, to_cells); break;
    case 4: place_cells<int32_t>(values, where, result, planes, from_cells, to_cells); break;
    default: place_cells<int64_t>(values, where, result, planes, from_cells, to_cells); break;
  }
  return result;
}

// max_unpool_pick(tensor, indices, dims): the adjoint of max_unpool, what each value left in the output.
Tensor pick(const Tensor& given, const Tensor& indices, int64_t spatial) {
  check_rank(indices, spatial);
  check_rank(given, spatial);
  if (indices.scalar_type() != ScalarType::Long ||
      with_spatial(given, spatial, spatial_of(indices, spatial)) != sizes_of(indices))
    fail("the adjoint of max_unpool needs int64 indices with the channels of its input " + written(given) +
         "; these have shape " + written(indices) + " and dtype " + torch::headeronly::toString(indices.scalar_type()));
  dtype_of(given, "the input");
  const Tensor tensor = made_compact(given, false), where = made_compact(indices, false);
  Tensor result = compact(sizes_of(indices), false, given.scalar_type());
  PickJob job;
  for (int64_t i = 0; i < spatial; ++i) {
    job.places[3 - spatial + i] = indices.size(indices.dim() - spatial + i);
    job.size[3 - spatial + i] = given.size(given.dim() - spatial + i);
  }
  job.from = tensor.const_data_ptr();
  job.indices = static_cast<const int64_t*>(where.const_data_ptr());
  job.picked = result.mutable_data_ptr();
  int64_t planes = 1;
  for (int64_t i = 0; i < given.dim() - spatial; ++i) planes *= given.size(i);
  const auto in_planes = [&](void (*kernel)(const PickJob&, int64_t, int64_t)) {
    in_parallel(planes, 4 * job.values(), [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  };
  switch (tensor.element_size()) {
    case 1: in_planes(pick_planes<int8_t>); break;
    case 2: in_planes(pick_planes<int16_t>); break;
    case 4: in_planes(pick_planes<int32_t>); break;
    default: in_planes(pick_planes<int64_t>); break;
  }
  return result;
}

// ---- what the dispatcher calls -----------------------------------------------------------------------------------

std::tuple<Tensor, Tensor> max_pool(const Tensor& input, const Sizes& window) {
  return pool(input, window, plain, true);
}

Tensor max_pool_values(const Tensor& input, const Sizes& window) {
  return std::get<0>(pool(input, window, plain, false));
}

std::tuple<Tensor, Tensor> relu_max_pool(const Tensor& input, const Sizes& window) {
  return pool(input, window, rectified, true);
}

Tensor relu_max_pool_values(const Tensor& input, const Sizes& window) {
  return std::get<0>(pool(input, window, rectified, false));
}

Tensor max_pool_route(const Tensor& pooled, const Tensor& codes, const Sizes& input_size, const Sizes& window) {
  return route(pooled, codes, input_size, window);
}

Tensor max_pool_gather(const Tensor& input, const Tensor& codes, const Sizes& window) {
  return gather(input, codes, window);
}

Tensor max_pool_indices(const Tensor& codes, const Sizes& input_size, const Sizes& window) {
  return indices(codes, input_size, window);
}

Tensor max_unpool(const Tensor& values, const Tensor& indices, const Sizes& output_size) {
  return unpool(values, indices, output_size);
}

Tensor max_unpool_pick(const Tensor& tensor, const Tensor& indices, int64_t dims) {
  return pick(tensor, indices, dims);
}

}  // namespace

void pool_side_by_side(const PoolJob& job, Dtype dtype, bool channels_last) {
  run_pool(job, plain(dtype), channels_last);
}
void route_side_by_side(const RouteJob& job, Dtype dtype, bool channels_last) { run_route(job, dtype, channels_last); }

}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("max_pool", TORCH_BOX(&switchgrad::max_pool));
  m.impl("max_pool_values", TORCH_BOX(&switchgrad::max_pool_values));
  m.impl("relu_max_pool", TORCH_BOX(&switchgrad::relu_max_pool));
  m.impl("relu_max_pool_values", TORCH_BOX(&switchgrad::relu_max_pool_values));
  m.impl("max_pool_route", TORCH_BOX(&switchgrad::max_pool_route));
  m.impl("max_pool_gather", TORCH_BOX(&switchgrad::max_pool_gather));
  m.impl("max_pool_indices", TORCH_BOX(&switchgrad::max_pool_indices));
  m.impl("max_unpool", TORCH_BOX(&switchgrad::max_unpool));
  m.impl("max_unpool_pick", TORCH_BOX(&switchgrad::max_unpool_pick));
}
