// Max pooling over windows at given places on the CPU: checks, allocation, threads, registration.
#include <optional>
#include <tuple>

#include "cpu/isa.h"
#include "cpu/windows.h"
#include "placed_pool/job.h"

namespace switchgrad {

SWITCHGRAD_TABLE(PlacedPoolTable, placed_pool_table)

namespace {

constexpr const char* name = "pooling over given windows in ";

const PlacedPoolTable& table() { return kernels<PlacedPoolTable>(SWITCHGRAD_OF_EACH_ISA(placed_pool_table)); }

// Where the windows of one call begin and end, with the memory that PlacedWindows points to.
class PlacedLists {
 public:
  // starts and ends: of all axes one after the other, for all maps (one axis) or for each (the axes before the spatial
  // ones, then the places). Without ends a window has kernel_size cells, or those of them that lie in the input.
  PlacedLists(const Tensor& starts, const std::optional<Tensor>& ends, const Sizes& lead, const Sizes& size,
              const Sizes& places, const Sizes& kernel_size)
      : shared(starts.dim() == 1) {
    const size_t n = places.size();
    if (n < 1 || n > 3 || size.size() != n || kernel_size.size() != n)
      fail("pooling works on 1 to 3 spatial axes; places and kernel_size need one number for each");
    int64_t total = 0, maps = 1;
    for (size_t i = 0; i < n; ++i) {
      if (places[i] < 1 || kernel_size[i] < 1)
        fail("places and kernel_size need entries of at least 1; along spatial axis " + std::to_string(i) +
             " they are " + std::to_string(places[i]) + " and " + std::to_string(kernel_size[i]));
      total += places[i];
    }
    Sizes wanted = shared ? Sizes{} : lead;
    for (const int64_t count : wanted) maps *= count;
    wanted.push_back(total);
    const int64_t *begin = read(starts, wanted, "starts", starts_), *end = nullptr;
    if (ends) {
      end = read(*ends, wanted, "ends", stops_);
    } else {
      ends_.resize(static_cast<size_t>(maps * total));
      end = ends_.data();
    }
    int64_t before = 0;
    windows.are_boxes = true;
    for (size_t i = 0; i < n; ++i) {
      PlacedAxis& axis = windows.axis[3 - n + i];
      axis = {size[i], places[i], kernel_size[i], shared ? 0 : total, begin + before, end + before};
      for (int64_t map = 0; map < maps; ++map) {
        const int64_t at = map * total + before;
        if (!ends) fill_ends(begin + at, axis, ends_.data() + at);
        windows.are_boxes = check(begin + at, end + at, axis, i) && windows.are_boxes;
      }
      before += places[i];
    }
    for (size_t i = 0; i < 3 - n; ++i) windows.axis[i].begin = &zero_, windows.axis[i].end = &one_;
  }
  PlacedLists(const PlacedLists&) = delete;
  PlacedLists& operator=(const PlacedLists&) = delete;

  PlacedWindows windows;
  const bool shared;

 private:
  // The numbers of `given`, which `kept` holds.
  static const int64_t* read(const Tensor& given, const Sizes& wanted, const char* what, std::optional<Tensor>& kept) {
    if (given.scalar_type() != ScalarType::Long || sizes_of(given) != wanted)
      fail(std::string("the ") + what + " of the windows have shape " + written(given) + " and dtype " +
           torch::headeronly::toString(given.scalar_type()) +
           "; give int64 numbers, one for each place, for all maps or for each");
    kept = made_compact(given, false);
    return static_cast<const int64_t*>(kept->const_data_ptr());
  }
  static void fill_ends(const int64_t* begin, const PlacedAxis& axis, int64_t* end) {
    const int64_t last = axis.size - axis.kernel;
    for (int64_t p = 0; p < axis.places; ++p) end[p] = begin[p] < last ? begin[p] + axis.kernel : axis.size;
  }
  // Refuses windows without cells, beyond the input, or wider than the kernel; says whether all are as wide.
  static bool check(const int64_t* begin, const int64_t* end, const PlacedAxis& axis, size_t i) {
    bool fit = true, are_widest = true;
    for (int64_t p = 0; p < axis.places; ++p) {
      const int64_t cells = end[p] - begin[p];
      fit = fit & (begin[p] >= 0) & (begin[p] < end[p]) & (end[p] <= axis.size) & (cells <= axis.kernel);
      are_widest = are_widest & (cells == axis.kernel);
    }
    if (fit) return are_widest;
    int64_t p = 0;
    while (begin[p] >= 0 && begin[p] < end[p] && end[p] <= axis.size && end[p] - begin[p] <= axis.kernel) ++p;
    fail("a window along spatial axis " + std::to_string(i) + " has the cells " + std::to_string(begin[p]) + " to " +
         std::to_string(end[p] - 1) + "; give at least one and at most " + std::to_string(axis.kernel) +
         " of the input's " + std::to_string(axis.size));
  }

  std::optional<Tensor> starts_, stops_;
  Sizes ends_;
  static constexpr int64_t zero_ = 0, one_ = 1;
};

Sizes lead_of(const Tensor& t, int64_t spatial) {
  Sizes sizes = sizes_of(t);
  sizes.resize(sizes.size() - spatial);
  return sizes;
}

ScalarType code_type(const PlacedWindows& windows) {
  const CodeWidth width = code_width(windows.cells());
  return width == Code8 ? ScalarType::Byte : width == Code16 ? ScalarType::Short : ScalarType::Int;
}

std::tuple<Tensor, Tensor> placed_max_pool(Tensor given, Tensor starts, std::optional<Tensor> ends, Sizes places,
                                           Sizes kernel_size) {
  const auto spatial = static_cast<int64_t>(places.size());
  check_rank(given, spatial, name);
  const Sizes lead = lead_of(given, spatial);
  const PlacedLists lists(starts, ends, lead, spatial_of(given, spatial), places, kernel_size);
  const Dtype dtype = dtype_of(given, "the input");
  const bool channels_last = is_channels_last(given, spatial), by_pixel = channels_last && lists.shared;
  const int64_t unit_axis = by_pixel ? 1 : given.dim() - 1;
  const bool usable = given.stride(unit_axis) == 1 || given.size(unit_axis) == 1;
  const Tensor input = usable ? given : made_compact(given, by_pixel);
  PlacedPoolJob job;
  job.windows = lists.windows;
  job.batch = lead.size() == 2 ? lead[0] : 1;
  job.channels = lead.back();
  read_strides(input, spatial, job.input_stride);
  const Sizes sizes = with_spatial(given, spatial, places);
  Tensor values = compact(sizes, by_pixel, given.scalar_type());
  Tensor codes = compact(sizes, by_pixel, code_type(job.windows));
  job.input = input.const_data_ptr();
  job.values = values.mutable_data_ptr();
  job.codes = codes.mutable_data_ptr();
  const CodeWidth width = code_width(job.windows.cells());
  const PlacedAxis* axis = job.windows.axis;
  if (by_pixel) {
    const PlacedPoolKernel kernel = table().pool_channels_last[dtype][width];
    in_parallel(job.batch * job.windows.output_cells(), job.channels * job.windows.cells(),
                [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
    return {values, codes};
  }
  const PlacedPoolKernel kernel = table().pool_planar[dtype][width];
  in_parallel(job.batch * job.channels * axis[0].places * axis[1].places,
              axis[2].size * axis[0].kernel * axis[1].kernel,
              [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  if (channels_last) return {made_compact(values, true), made_compact(codes, true)};
  return {values, codes};
}

Tensor placed_max_pool_route(Tensor pooled, Tensor given, Tensor starts, std::optional<Tensor> ends, Sizes input_size,
                             Sizes kernel_size) {
  const auto spatial = static_cast<int64_t>(input_size.size());
  check_rank(given, spatial, name);
  const Sizes lead = lead_of(given, spatial);
  const PlacedLists lists(starts, ends, lead, input_size, spatial_of(given, spatial), kernel_size);
  const Dtype dtype = dtype_of(pooled, "the tensor to route");
  if (given.scalar_type() != code_type(lists.windows) || sizes_of(pooled) != sizes_of(given))
    fail("the switches have shape " + written(given) + " and dtype " +
         torch::headeronly::toString(given.scalar_type()) + " and the tensor to route has shape " + written(pooled) +
         "; use the switches with the pooling that made them, and one number for each");
  const bool channels_last = is_channels_last(given, spatial), by_pixel = channels_last && lists.shared;
  const Tensor codes = made_compact(given, by_pixel), numbers = made_compact(pooled, by_pixel);
  Tensor routed = compact(with_spatial(given, spatial, input_size), by_pixel, pooled.scalar_type());
  PlacedRouteJob job;
  job.windows = lists.windows;
  job.batch = lead.size() == 2 ? lead[0] : 1;
  job.channels = lead.back();
  job.pooled = numbers.const_data_ptr();
  job.codes = codes.const_data_ptr();
  job.routed = routed.mutable_data_ptr();
  const CodeWidth width = code_width(job.windows.cells());
  const int64_t cells = job.windows.input_cells() + job.windows.output_cells();
  if (by_pixel) {
    const PlacedRouteKernel kernel = table().route_channels_last[dtype][width];
    const int64_t chunks = (job.channels + placed_chunk - 1) / placed_chunk;
    in_parallel(job.batch * chunks, cells * placed_chunk, [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
    return routed;
  }
  const PlacedRouteKernel kernel = table().route_planar[dtype][width];
  in_parallel(job.batch * job.channels, cells, [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  return channels_last ? made_compact(routed, true) : routed;
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("placed_max_pool", TORCH_BOX(&switchgrad::placed_max_pool));
  m.impl("placed_max_pool_route", TORCH_BOX(&switchgrad::placed_max_pool_route));
}
