// Max pooling over windows at given places on the CPU: checks, allocation, threads, registration.
#include <algorithm>
#include <atomic>
#include <iterator>
#include <optional>
#include <tuple>

#include "cpu/isa.h"
#include "cpu/side_by_side.h"
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
  // ones, then the places). Without ends a window has kernel_size cells, or those of them that lie in the input; where
  // all have kernel_size and nobody `needs_ends`, they are not written out.
  PlacedLists(const Tensor& starts, const std::optional<Tensor>& ends, const Sizes& lead, const Sizes& size,
              const Sizes& places, const Sizes& kernel_size, bool needs_ends)
      : shared(starts.dim() == 1), axes_(places.size()) {
    if (axes_ < 1 || axes_ > 3 || size.size() != axes_ || kernel_size.size() != axes_)
      fail("pooling works on 1 to 3 spatial axes; places and kernel_size need one number for each");
    for (size_t i = 0; i < axes_; ++i) {
      if (places[i] < 1 || kernel_size[i] < 1)
        fail("places and kernel_size need entries of at least 1; along spatial axis " + std::to_string(i) +
             " they are " + std::to_string(places[i]) + " and " + std::to_string(kernel_size[i]));
      total_ += places[i];
    }
    Sizes wanted = shared ? Sizes{} : lead;
    for (const int64_t count : wanted) maps_ *= count;
    wanted.push_back(total_);
    const int64_t* begin = read(starts, wanted, "starts", starts_);
    for (size_t i = 0; i < axes_; ++i) {
      axis(i) = {size[i], places[i], kernel_size[i], shared ? 0 : total_, begin, nullptr};
      begin += places[i];
    }
    for (size_t i = 0; i < 3 - axes_; ++i) windows.axis[i].begin = &zero_, windows.axis[i].end = &one_;
    if (ends) {
      end_at(read(*ends, wanted, "ends", stops_));
      windows.are_boxes = check();
    } else {
      windows.are_boxes = start_boxes();
      if (!windows.are_boxes || needs_ends) make_ends();
      if (!windows.are_boxes) check();
    }
  }
  PlacedLists(const PlacedLists&) = delete;
  PlacedLists& operator=(const PlacedLists&) = delete;

  PlacedWindows windows;
  const bool shared;

 private:
  PlacedAxis& axis(size_t i) { return windows.axis[3 - axes_ + i]; }

  // The numbers of `given`, which `kept` holds.
  static const int64_t* read(const Tensor& given, const Sizes& wanted, const char* what, std::optional<Tensor>& kept) {
    if (given.scalar_type() != ScalarType::Long || sizes_of(given) != wanted)
      fail(std::string("the ") + what + " of the windows have shape " + written(given) + " and dtype " +
           torch::headeronly::toString(given.scalar_type()) +
           "; give int64 numbers, one for each place, for all maps or for each");
    kept = made_compact(given, false);
    return static_cast<const int64_t*>(kept->const_data_ptr());
  }

  // Whether windows of kernel_size cells at these starts all lie in the input.
  bool start_boxes() {
    for (size_t i = 0; i < axes_; ++i)
      if (axis(i).kernel > axis(i).size) return false;
    std::atomic<bool> fit{true};
    in_parallel(maps_, total_, [&](int64_t from, int64_t to) {
      if (!start_boxes(from, to)) fit = false;
    });
    return fit;
  }
  // A start below 0 has its sign, and so has what is left to the last one where it lies beyond. (Signs are collected
  // and not compared, because there are vectors of 64-bit numbers to be subtracted in every processor.)
  bool start_boxes(int64_t from, int64_t to) {
    uint64_t signs = 0;
    for (size_t i = 0; i < axes_; ++i) {
      const PlacedAxis& along = axis(i);
      const auto last = static_cast<uint64_t>(along.size - along.kernel);
      for (int64_t map = from; map < to; ++map) {
        const int64_t* begin = along.begin + map * total_;
        for (int64_t p = 0; p < along.places; ++p)
          signs |= static_cast<uint64_t>(begin[p]) | (last - static_cast<uint64_t>(begin[p]));
      }
    }
    return signs >> 63 == 0;
  }
  void make_ends() {
    ends_.resize(static_cast<size_t>(maps_ * total_));
    int64_t* first = ends_.data();
    for (size_t i = 0; i < axes_; first += axis(i++).places) {
      const PlacedAxis& along = axis(i);
      const int64_t last = along.size - along.kernel;
      for (int64_t map = 0; map < maps_; ++map) {
        const int64_t* begin = along.begin + map * total_;
        int64_t* end = first + map * total_;
        for (int64_t p = 0; p < along.places; ++p) end[p] = begin[p] < last ? begin[p] + along.kernel : along.size;
      }
    }
    end_at(ends_.data());
  }
  void end_at(const int64_t* end) {
    for (size_t i = 0; i < axes_; end += axis(i++).places) axis(i).end = end;
  }

  // Refuses windows without cells, beyond the input, or wider than the kernel; says whether all are as wide.
  bool check() {
    bool are_widest = true;
    for (size_t i = 0; i < axes_; ++i)
      for (int64_t map = 0; map < maps_; ++map)
        are_widest &= check(axis(i).begin + map * total_, axis(i).end + map * total_, axis(i), i);
    return are_widest;
  }
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

  size_t axes_;
  int64_t total_ = 0, maps_ = 1;  // places of all axes, and how many maps have lists of their own
  std::optional<Tensor> starts_, stops_;
  Sizes ends_;
  static constexpr int64_t zero_ = 0, one_ = 1;
};

Sizes lead_of(const Tensor& t, int64_t spatial) {
  Sizes sizes = sizes_of(t);
  sizes.resize(sizes.size() - spatial);
  return sizes;
}

// The windows as those of max pooling, where all maps have the same, side by side: adaptive pooling to a size that
// divides the input's.
std::optional<Window> side_by_side(const PlacedLists& lists) {
  if (!lists.shared || !lists.windows.are_boxes) return std::nullopt;
  Window window;
  for (int i = 0; i < 3; ++i) {
    const PlacedAxis& axis = lists.windows.axis[i];
    for (int64_t p = 0; p < axis.places; ++p)
      if (axis.begin[p] != p * axis.kernel) return std::nullopt;
    window.axis[i] = {axis.size, axis.kernel, axis.kernel, 0, 0, 1, axis.places};
  }
  return window;
}

ScalarType code_type(const PlacedWindows& windows) {
  const CodeWidth width = code_width(windows.cells());
  return width == Code8 ? ScalarType::Byte : width == Code16 ? ScalarType::Short : ScalarType::Int;
}

std::tuple<Tensor, Tensor> placed_max_pool(const Tensor& given, const Tensor& starts, const std::optional<Tensor>& ends,
                                           const Sizes& places, const Sizes& kernel_size) {
  const auto spatial = static_cast<int64_t>(places.size());
  check_rank(given, spatial, name);
  const Sizes lead = lead_of(given, spatial);
  const PlacedLists lists(starts, ends, lead, spatial_of(given, spatial), places, kernel_size, true);
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
  if (const auto window = side_by_side(lists)) {
    PoolJob pooling{*window, job.batch, job.channels, {}, job.input, job.values, job.codes};
    std::copy(std::begin(job.input_stride), std::end(job.input_stride), pooling.input_stride);
    pool_side_by_side(pooling, dtype, by_pixel);
    return {values, codes};
  }
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

Tensor placed_max_pool_route(const Tensor& pooled, const Tensor& given, const Tensor& starts,
                             const std::optional<Tensor>& ends, const Sizes& input_size, const Sizes& kernel_size) {
  const auto spatial = static_cast<int64_t>(input_size.size());
  check_rank(given, spatial, name);
  const Sizes lead = lead_of(given, spatial);
  // The planar kernel for bytes goes by the starts alone where all windows are boxes.
  const bool needs_ends = starts.dim() == 1 || given.scalar_type() != ScalarType::Byte;
  const PlacedLists lists(starts, ends, lead, input_size, spatial_of(given, spatial), kernel_size, needs_ends);
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
  if (const auto window = side_by_side(lists)) {
    route_side_by_side({*window, job.batch, job.channels, job.pooled, job.codes, job.routed}, dtype, by_pixel);
    return routed;
  }
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
