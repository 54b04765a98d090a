// Pooling over boxes on the CPU: checks, what the bins hold, allocation, threads, registration.
#include <algorithm>
#include <tuple>

#include "cpu/isa.h"
#include "cpu/numbers.h"
#include "cpu/region_bins.h"
#include "cpu/turned.h"
#include "cpu/windows.h"

namespace switchgrad {

SWITCHGRAD_TABLE(RegionTable, region_table)

namespace {

const RegionTable& table() { return kernels<RegionTable>(SWITCHGRAD_OF_EACH_ISA(region_table)); }

// The boxes of each picture, and their numbers in the precision to compute in.
template <class A>
struct Boxes {
  Tensor rows;  // (K, 5), compact
  int64_t count;
  Sizes first, order;

  Boxes(const Tensor& given, int64_t pictures) : rows(made_compact(given, false)), count(given.size(0)) {
    const A* numbers = static_cast<const A*>(rows.const_data_ptr());
    for (int64_t i = 0; i < 5 * count; ++i)
      if (!std::isfinite(numbers[i])) fail("the boxes hold NaN or infinity; every coordinate must be finite");
    A least = 0, most = 0;
    for (int64_t k = 0; k < count; ++k) {
      const A n = numbers[5 * k];
      least = k == 0 || n < least ? n : least;
      most = k == 0 || n > most ? n : most;
    }
    if (count > 0 && (least <= -1 || most >= static_cast<A>(pictures)))
      fail("the boxes name pictures " + std::to_string(static_cast<int64_t>(least)) + " to " +
           std::to_string(static_cast<int64_t>(most)) + ", and the batch has " + std::to_string(pictures) +
           "; pictures count from 0");
    first.assign(pictures + 1, 0);
    for (int64_t k = 0; k < count; ++k) ++first[picture(k) + 1];
    for (int64_t n = 0; n < pictures; ++n) first[n + 1] += first[n];
    Sizes next(first.begin(), first.end() - 1);
    order.resize(count);
    for (int64_t k = 0; k < count; ++k) order[next[picture(k)]++] = k;
  }

  int64_t picture(int64_t k) const { return static_cast<int64_t>(number(k, 0)); }
  A number(int64_t k, int64_t i) const { return static_cast<const A*>(rows.const_data_ptr())[5 * k + i]; }

  // Rounded corners (halves away from 0), of which the second belongs to the box if it is `inclusive`.
  Extents<A> whole(int axis, A scale, bool inclusive) const {
    Extents<A> extents;
    for (int64_t k = 0; k < count; ++k) {
      const A low = std::round(number(k, 2 - axis) * scale), high = std::round(number(k, 4 - axis) * scale);
      extents.start.push_back(low);
      extents.length.push_back(std::max(high - low + (inclusive ? A{1} : A{0}), A{1}));
    }
    return extents;
  }
  Extents<A> exact(int axis, A scale, bool aligned) const {
    const A offset = aligned ? A{0.5} : A{0};
    Extents<A> extents;
    for (int64_t k = 0; k < count; ++k) {
      const A low = number(k, 2 - axis) * scale - offset, high = number(k, 4 - axis) * scale - offset;
      extents.start.push_back(low);
      extents.length.push_back(aligned ? high - low : std::max(high - low, A{1}));
    }
    return extents;
  }
};

// Sizes of what is pooled, and of the result; checked.
struct Regions {
  Sizes maps;    // N, C, H, W
  Sizes places;  // P, Q
  bool sensitive;

  int64_t channels() const { return sensitive ? maps[1] / (places[0] * places[1]) : maps[1]; }
  Sizes pooled(int64_t boxes) const { return {boxes, channels(), places[0], places[1]}; }

  void check(const Tensor& boxes, ScalarType dtype, const char* name) const {
    if (maps.size() != 4 || maps[1] < 1 || maps[2] < 1 || maps[3] < 1 || maps[2] * maps[3] > INT32_MAX)
      fail(std::string(name) + " takes features of shape (N, C, H, W), of at most 2^31 cells a map");
    if (places.size() != 2 || places[0] < 1 || places[1] < 1) fail("output_size must hold two numbers of at least 1");
    if (sensitive && maps[1] % (places[0] * places[1]) != 0)
      fail(std::string(name) + " deals the " + std::to_string(maps[1]) + " channels out to " +
           std::to_string(places[0]) + " x " + std::to_string(places[1]) + " bins; give a multiple of them");
    const ScalarType wanted = dtype == ScalarType::Double ? dtype : ScalarType::Float;
    if (boxes.dim() != 2 || boxes.size(1) != 5 || boxes.scalar_type() != wanted)
      fail("the boxes have shape " + written(boxes) + " and dtype " + torch::headeronly::toString(boxes.scalar_type()) +
           "; give (K, 5) rows of picture and corners in the precision to compute in");
  }
};

template <class A>
RegionJob job_of(const Regions& regions, const Boxes<A>& boxes) {
  RegionJob job;
  job.batch = regions.maps[0];
  job.channels = regions.channels();
  job.height = regions.maps[2];
  job.width = regions.maps[3];
  job.places[0] = regions.places[0];
  job.places[1] = regions.places[1];
  job.sensitive = regions.sensitive;
  job.first_box = boxes.first.data();
  job.box = boxes.order.data();
  return job;
}

void read_strides_of(const Tensor& t, int64_t (&stride)[4]) {
  for (int64_t i = 0; i < 4; ++i) stride[i] = t.stride(i);
}

// Numbers of the maps and of the boxes' bins that an item reads or writes.
int64_t work_of(const RegionJob& job, int64_t boxes) {
  const int64_t a_picture = boxes / (job.batch > 0 ? job.batch : 1) + 1;
  return region_lanes * (job.height * job.width + a_picture * job.bins());
}

void run(const RegionKernel kernel, const RegionJob& job, int64_t boxes) {
  in_parallel(job.batch * job.blocks() * (job.sensitive ? job.bins() : 1), work_of(job, boxes),
              [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
}

void* writable(const Tensor& t) { return const_cast<void*>(t.const_data_ptr()); }  // kernels write to new tensors alone

// ---- sums --------------------------------------------------------------------------------------------------------

// How the bins of an axis are weighted: samples between cells, or the mean of whole cells.
struct Weighting {
  bool samples;
  double scale;
  int64_t sampling_ratio;
  bool aligned, sensitive;

  template <class A>
  Weights<A> of(const Boxes<A>& boxes, int axis, int64_t places, int64_t size) const {
    const auto factor = static_cast<A>(scale);
    if (samples) return samples_of(boxes.exact(axis, factor, aligned), places, sampling_ratio, size);
    return means_of<A>(bounds_of(boxes.whole(axis, factor, !sensitive), places, size, !sensitive), places);
  }
};

template <class A>
void sum_or_spread(const Regions& regions, const Tensor& given_boxes, const Weighting& weighting, const Tensor& maps,
                   const Tensor& pooled, RegionKernel kernel) {
  const Boxes<A> boxes(given_boxes, regions.maps[0]);
  const auto rows = weighting.of(boxes, 0, regions.places[0], regions.maps[2]);
  const auto columns = weighting.of(boxes, 1, regions.places[1], regions.maps[3]);
  RegionJob job = job_of(regions, boxes);
  job.weights[0] = rows.view();
  job.weights[1] = columns.view();
  job.maps = writable(maps);
  job.pooled = writable(pooled);
  read_strides_of(maps, job.map_stride);
  read_strides_of(pooled, job.pooled_stride);
  run(kernel, job, boxes.count);
}

Tensor sums(const Tensor& input, const Tensor& boxes, const Sizes& output_size, const Weighting& weighting,
            const char* name) {
  const Dtype dtype = float_dtype(input, "the input", name);
  const Regions regions{sizes_of(input), output_size, weighting.sensitive};
  regions.check(boxes, input.scalar_type(), name);
  Tensor pooled = compact(regions.pooled(boxes.size(0)), is_channels_last(input, 2), input.scalar_type());
  const RegionKernel kernel = table().sums[dtype];
  if (dtype == F64) {
    sum_or_spread<double>(regions, boxes, weighting, input, pooled, kernel);
  } else {
    sum_or_spread<float>(regions, boxes, weighting, input, pooled, kernel);
  }
  return pooled;
}

Regions below(const Tensor& pooled, const Tensor& boxes, const Sizes& input_size, bool sensitive, const char* name) {
  if (pooled.dim() != 4 || pooled.size(0) != boxes.size(0))
    fail("the tensor to spread has shape " + written(pooled) + " and the boxes " + written(boxes) +
         "; give (K, C, P, Q) for K boxes");
  const Regions regions{input_size, {pooled.size(2), pooled.size(3)}, sensitive};
  regions.check(boxes, pooled.scalar_type(), name);
  if (regions.channels() != pooled.size(1))
    fail("the tensor to spread has shape " + written(pooled) + ", which does not go with maps of " +
         std::to_string(input_size[1]) + " channels");
  return regions;
}

Tensor spread(const Tensor& pooled, const Tensor& boxes, const Sizes& input_size, const Weighting& weighting,
              bool channels_last, const char* name) {
  const Dtype dtype = float_dtype(pooled, "the tensor to spread", name);
  const Regions regions = below(pooled, boxes, input_size, weighting.sensitive, name);
  Tensor maps = compact(input_size, channels_last, pooled.scalar_type());
  const RegionKernel kernel = table().spread[dtype];
  if (dtype == F64) {
    sum_or_spread<double>(regions, boxes, weighting, maps, pooled, kernel);
  } else {
    sum_or_spread<float>(regions, boxes, weighting, maps, pooled, kernel);
  }
  return maps;
}

// ---- maxima ------------------------------------------------------------------------------------------------------

template <class A>
void maxima(const Regions& regions, const Tensor& given_boxes, A scale, const Tensor& input, const Tensor& values,
            const Tensor& winners, RegionKernel kernel) {
  const Boxes<A> boxes(given_boxes, regions.maps[0]);
  const Bounds rows = bounds_of(boxes.whole(0, scale, true), regions.places[0], regions.maps[2], true);
  const Bounds columns = bounds_of(boxes.whole(1, scale, true), regions.places[1], regions.maps[3], true);
  RegionJob job = job_of(regions, boxes);
  job.bounds[0] = rows.view();
  job.bounds[1] = columns.view();
  job.maps = writable(input);
  job.pooled = writable(values);
  job.winners = static_cast<int32_t*>(writable(winners));
  read_strides_of(input, job.map_stride);
  read_strides_of(values, job.pooled_stride);
  run(kernel, job, boxes.count);
}

template <class A>
void by_winners(const Regions& regions, const Tensor& given_boxes, const Tensor& maps, const Tensor& pooled,
                const Tensor& winners, RegionKernel kernel) {
  const Boxes<A> boxes(given_boxes, regions.maps[0]);
  RegionJob job = job_of(regions, boxes);
  job.maps = writable(maps);
  job.pooled = writable(pooled);
  job.winners = static_cast<int32_t*>(writable(winners));
  read_strides_of(maps, job.map_stride);
  read_strides_of(pooled, job.pooled_stride);
  in_parallel(job.batch * job.channels, job.height * job.width + boxes.count * job.bins(),
              [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
}

void check_winners(const Tensor& winners, const Tensor& pooled) {
  if (winners.scalar_type() != ScalarType::Int || sizes_of(winners) != sizes_of(pooled))
    fail("the winners have shape " + written(winners) + " and the pooled numbers " + written(pooled) +
         "; use those of the pooling that made them");
}

// ---- what the dispatcher calls -----------------------------------------------------------------------------------

Tensor roi_align(const Tensor& input, const Tensor& boxes, const Sizes& output_size, double spatial_scale,
                 int64_t sampling_ratio, bool aligned, bool sensitive) {
  return sums(input, boxes, output_size, {true, spatial_scale, sampling_ratio, aligned, sensitive}, "roi_align");
}

Tensor roi_align_spread(const Tensor& pooled, const Tensor& boxes, const Sizes& input_size, double spatial_scale,
                        int64_t sampling_ratio, bool aligned, bool sensitive, bool channels_last) {
  return spread(pooled, boxes, input_size, {true, spatial_scale, sampling_ratio, aligned, sensitive}, channels_last,
                "roi_align");
}

Tensor roi_average(const Tensor& input, const Tensor& boxes, const Sizes& output_size, double spatial_scale,
                   bool sensitive) {
  return sums(input, boxes, output_size, {false, spatial_scale, 0, false, sensitive}, "roi_avg_pool");
}

Tensor roi_average_spread(const Tensor& pooled, const Tensor& boxes, const Sizes& input_size, double spatial_scale,
                          bool sensitive, bool channels_last) {
  return spread(pooled, boxes, input_size, {false, spatial_scale, 0, false, sensitive}, channels_last, "roi_avg_pool");
}

std::tuple<Tensor, Tensor> roi_max(const Tensor& input, const Tensor& boxes, const Sizes& output_size,
                                   double spatial_scale) {
  const Dtype dtype = float_dtype(input, "the input", "roi_pool");
  const Regions regions{sizes_of(input), output_size, false};
  regions.check(boxes, input.scalar_type(), "roi_pool");
  const Sizes sizes = regions.pooled(boxes.size(0));
  const bool channels_last = is_channels_last(input, 2);
  Tensor values = compact(sizes, channels_last, input.scalar_type());
  Tensor winners = compact(sizes, channels_last, ScalarType::Int);
  const RegionKernel kernel = table().maxima[dtype];
  if (dtype == F64) {
    maxima<double>(regions, boxes, spatial_scale, input, values, winners, kernel);
  } else {
    maxima<float>(regions, boxes, static_cast<float>(spatial_scale), input, values, winners, kernel);
  }
  return {values, winners};
}

Tensor roi_max_route(const Tensor& pooled, const Tensor& boxes, const Tensor& winners, const Sizes& input_size,
                     bool channels_last) {
  const Dtype dtype = float_dtype(pooled, "the tensor to route", "roi_pool");
  const Regions regions = below(pooled, boxes, input_size, false, "roi_pool");
  check_winners(winners, pooled);
  const Tensor numbers = in_channels(pooled), where = in_channels(winners);
  Tensor maps = compact(input_size, channels_last, pooled.scalar_type());
  const RegionKernel kernel = table().route[dtype];
  if (dtype == F64) {
    by_winners<double>(regions, boxes, maps, numbers, where, kernel);
  } else {
    by_winners<float>(regions, boxes, maps, numbers, where, kernel);
  }
  return maps;
}

Tensor roi_max_gather(const Tensor& input, const Tensor& boxes, const Tensor& winners) {
  const Dtype dtype = float_dtype(input, "the input", "roi_pool");
  Tensor pooled = compact(sizes_of(winners), is_channels_last(winners, 2), input.scalar_type());
  const Regions regions = below(pooled, boxes, sizes_of(input), false, "roi_pool");
  check_winners(winners, pooled);
  const Tensor where = made_compact(winners, is_channels_last(winners, 2));
  const RegionKernel kernel = table().gather[dtype];
  if (dtype == F64) {
    by_winners<double>(regions, boxes, input, pooled, where, kernel);
  } else {
    by_winners<float>(regions, boxes, input, pooled, where, kernel);
  }
  return pooled;
}

// ---- suppression -------------------------------------------------------------------------------------------------

// Boxes in the order of `order`, one array a corner.
template <class A>
std::vector<int64_t> stays(const Tensor& boxes, const int64_t* order, const int64_t* classes, double threshold,
                           SuppressionKernel kernel) {
  const int64_t count = boxes.size(0);
  const auto* corners = static_cast<const A*>(boxes.const_data_ptr());
  std::vector<A> laid(5 * count);
  std::vector<int64_t> kinds(classes ? count : 0);
  for (int64_t i = 0; i < count; ++i) {
    const A* box = corners + 4 * order[i];
    for (int64_t side = 0; side < 4; ++side) laid[side * count + i] = box[side];
    laid[4 * count + i] = (box[2] - box[0]) * (box[3] - box[1]);
    if (classes) kinds[i] = classes[order[i]];
  }
  std::vector<uint8_t> gone(count, 0);
  SuppressionJob job;
  job.count = count;
  for (int side = 0; side < 4; ++side) job.corner[side] = laid.data() + side * count;
  job.area = laid.data() + 4 * count;
  job.classes = classes ? kinds.data() : nullptr;
  job.threshold = threshold;
  job.gone = gone.data();
  constexpr int64_t block = 256;  // a block is settled by itself, then removes from all that follow it, on every thread
  std::vector<int64_t> kept;
  for (int64_t first = 0; first < count; first += block) {
    const int64_t end = std::min(first + block, count), known = static_cast<int64_t>(kept.size());
    for (int64_t i = first; i < end; ++i) {
      if (gone[i]) continue;
      kept.push_back(i);
      kernel(job, i, i + 1, end);
    }
    const int64_t stay = static_cast<int64_t>(kept.size()) - known;
    in_parallel(count - end, stay, [&](int64_t begin, int64_t last) {
      for (int64_t i = known; i < known + stay; ++i) kernel(job, kept[i], end + begin, end + last);
    });
  }
  for (int64_t& i : kept) i = order[i];
  return kept;
}

// Boxes (K, 4) of float or double; `order` by falling score.
Tensor nms_in_order(const Tensor& boxes, const Tensor& order, const std::optional<Tensor>& classes,
                    double iou_threshold) {
  const int64_t count = boxes.dim() == 2 ? boxes.size(0) : -1;
  const bool wide = boxes.scalar_type() == ScalarType::Double;
  if (count < 0 || boxes.size(1) != 4 || (!wide && boxes.scalar_type() != ScalarType::Float) || order.dim() != 1 ||
      order.size(0) != count || order.scalar_type() != ScalarType::Long ||
      (classes && (classes->scalar_type() != ScalarType::Long || classes->dim() != 1 || classes->size(0) != count)))
    fail(
        "nms takes boxes (K, 4) of float32 or float64, their order (K) and classes (K) as int64; the boxes have "
        "shape " +
        written(boxes));
  const Tensor table_ = made_compact(boxes, false), places = made_compact(order, false);
  std::optional<Tensor> kinds;
  if (classes) kinds = made_compact(*classes, false);
  const auto* where = static_cast<const int64_t*>(places.const_data_ptr());
  for (int64_t i = 0; i < count; ++i)
    if (where[i] < 0 || where[i] >= count) fail("the order names box " + std::to_string(where[i]));
  const auto* kind = kinds ? static_cast<const int64_t*>(kinds->const_data_ptr()) : nullptr;
  const Sizes kept = wide ? stays<double>(table_, where, kind, iou_threshold, table().suppress_double)
                          : stays<float>(table_, where, kind, iou_threshold, table().suppress_float);
  Tensor result = compact({static_cast<int64_t>(kept.size())}, false, ScalarType::Long);
  std::copy(kept.begin(), kept.end(), static_cast<int64_t*>(result.mutable_data_ptr()));
  return result;
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&switchgrad::roi_align));
  m.impl("roi_align_spread", TORCH_BOX(&switchgrad::roi_align_spread));
  m.impl("roi_average", TORCH_BOX(&switchgrad::roi_average));
  m.impl("roi_average_spread", TORCH_BOX(&switchgrad::roi_average_spread));
  m.impl("roi_max", TORCH_BOX(&switchgrad::roi_max));
  m.impl("roi_max_route", TORCH_BOX(&switchgrad::roi_max_route));
  m.impl("roi_max_gather", TORCH_BOX(&switchgrad::roi_max_gather));
  m.impl("nms_in_order", TORCH_BOX(&switchgrad::nms_in_order));
}
