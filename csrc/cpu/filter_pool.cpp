// Weighted and blurred pooling on the CPU: checks, what lies beyond the border, threads, registration.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "cpu/isa.h"
#include "cpu/numbers.h"
#include "cpu/windows.h"
#include "filter_pool/job.h"

namespace switchgrad {

SWITCHGRAD_TABLE(FilterTable, filter_pool_table)

namespace {

constexpr const char* name = "filter_pool";
enum Border : int64_t { zeros, replicate, reflect };

const FilterTable& table() { return kernels<FilterTable>(SWITCHGRAD_OF_EACH_ISA(filter_pool_table)); }

// The padded cells of one axis, with the memory that FilterAxis points to.
class Along {
 public:
  Along(const Axis& axis, int64_t border) : axis_(axis) {
    const int64_t reach = (axis.places - 1) * axis.stride + axis.span();
    for (int64_t t = 0; t < reach; ++t) source_.push_back(cell(t - axis.pad_begin, axis.size, border));
    first_back_.assign(axis.size + 1, 0);
    for (const int32_t at : source_)
      if (at >= 0) ++first_back_[at + 1];
    for (int64_t i = 0; i < axis.size; ++i) first_back_[i + 1] += first_back_[i];
    back_.resize(reach);
    std::vector<int32_t> next(first_back_.begin(), first_back_.end() - 1);
    for (int64_t t = 0; t < reach; ++t)
      if (source_[t] >= 0) back_[next[source_[t]]++] = static_cast<int32_t>(t);
  }

  FilterAxis view() const {
    return {axis_, static_cast<int64_t>(source_.size()), source_.data(), first_back_.data(), back_.data()};
  }

 private:
  static int32_t cell(int64_t at, int64_t size, int64_t border) {
    if (at >= 0 && at < size) return static_cast<int32_t>(at);
    if (border == zeros) return -1;
    if (border == replicate) return static_cast<int32_t>(at < 0 ? 0 : size - 1);
    const int64_t turned = at < 0 ? -at : 2 * (size - 1) - at;
    if (turned < 0 || turned >= size)
      fail("an axis of " + std::to_string(size) + " cells cannot be reflected so far; use another padding");
    return static_cast<int32_t>(turned);
  }

  Axis axis_;
  std::vector<int32_t> source_, first_back_, back_;
};

// Where the windows lie; `places` says how many there are.
struct Plan {
  std::vector<Along> along;
  int64_t cells = 1, spatial = 0;

  Plan(const Sizes& size, const Sizes& kernel, const Sizes& stride, const Sizes& before, const Sizes& dilation,
       const Sizes& places, int64_t border)
      : spatial(static_cast<int64_t>(size.size())) {
    const size_t n = size.size();
    if (n < 1 || n > 3 || kernel.size() != n || stride.size() != n || before.size() != n || dilation.size() != n ||
        places.size() != n || border < zeros || border > reflect)
      fail("filter_pool takes kernel_size, stride, padding, dilation and places for each of 1 to 3 spatial axes");
    for (size_t i = 0; i < 3 - n; ++i) along.emplace_back(Axis{}, int64_t{zeros});
    for (size_t i = 0; i < n; ++i) {
      const Axis axis{size[i], kernel[i], stride[i], before[i], 0, dilation[i], places[i]};
      constexpr int64_t limit = int64_t{1} << 30;
      if (size[i] < 1 || kernel[i] < 1 || stride[i] < 1 || before[i] < 0 || dilation[i] < 1 || places[i] < 1 ||
          size[i] > limit || kernel[i] > limit / dilation[i] || places[i] > limit / stride[i])
        fail("filter_pool was given sizes that do not fit along spatial axis " + std::to_string(i));
      along.emplace_back(axis, border);
      cells *= kernel[i];
    }
  }
};

void check_numbers(const Tensor& numbers, int64_t count, ScalarType dtype, const char* what) {
  const ScalarType wanted = dtype == ScalarType::Double ? dtype : ScalarType::Float;
  if (numbers.scalar_type() != wanted || numbers.numel() != count)
    fail(std::string("filter_pool was given ") + what + " of shape " + written(numbers) + "; it takes " +
         std::to_string(count) + " in the precision to compute in");
}

// Weights that are products of one for each row of the window and one for each column, up to rounding: Gaussian and
// binomial ones are. Rows are then summed before columns, where that is less work: writing and reading lines counts
// channels last, where it is not hidden behind the turning of lanes.
template <class A>
class Products {
 public:
  Products(const A* weights, const Axis (&axes)[3], bool channels_last) {
    const int64_t rows = axes[0].kernel * axes[1].kernel, columns = axes[2].kernel;
    if ((channels_last ? 2 : 1) * (axes[2].stride * rows + columns) > rows * columns) return;
    const int64_t chosen = cell_to_divide_by(weights, rows * columns);
    const A* row = weights + chosen / columns * columns;
    const A top = weights[chosen];
    if (!(std::abs(top) > 0) || !std::isfinite(top)) return;
    std::vector<A> numbers;
    for (int64_t r = 0; r < rows; ++r) {
      const A down = weights[r * columns + chosen % columns] / top;
      for (int64_t s = 0; s < columns; ++s) {
        const A wanted = weights[r * columns + s];
        if (!(std::abs(down * row[s] - wanted) <= 2 * std::numeric_limits<A>::epsilon() * std::abs(wanted))) return;
      }
      numbers.push_back(down);
    }
    numbers.insert(numbers.end(), row, row + columns);
    numbers_ = std::move(numbers);
    rows_ = rows;
  }

  // The smallest weight above 0 divides binomial ones without rounding; where weights range far, the largest does not
  // overflow.
  static int64_t cell_to_divide_by(const A* weights, int64_t count) {
    int64_t largest = 0, smallest = 0;
    for (int64_t i = 1; i < count; ++i) {
      const A size = std::abs(weights[i]), least = std::abs(weights[smallest]);
      if (size > std::abs(weights[largest])) largest = i;
      if (size > 0 && (size < least || least == 0)) smallest = i;
    }
    return std::abs(weights[largest]) < A{1 << 16} * std::abs(weights[smallest]) ? smallest : largest;
  }

  void tell(FilterJob& job) const {
    if (numbers_.empty()) return;
    job.down = numbers_.data();
    job.along = numbers_.data() + rows_;
  }

 private:
  std::vector<A> numbers_;
  int64_t rows_ = 0;
};

struct Call {
  FilterJob job;
  Tensor weights;
  std::optional<Tensor> factors;
  std::optional<Products<float>> products;
  std::optional<Products<double>> wide_products;

  Call(const Plan& plan, const Tensor& like, const Tensor& given, const std::optional<Tensor>& scale, bool pixels)
      : weights(made_compact(given, false)) {
    check_numbers(given, plan.cells, like.scalar_type(), "weights");
    int64_t places = 1;
    for (int i = 0; i < 3; ++i) {
      job.axis[i] = plan.along[i].view();
      places *= job.places(i);
    }
    job.weights = weights.const_data_ptr();
    const Axis axes[3] = {job.axis[0].axis, job.axis[1].axis, job.axis[2].axis};
    if (like.scalar_type() == ScalarType::Double) {
      wide_products.emplace(static_cast<const double*>(job.weights), axes, pixels).tell(job);
    } else {
      products.emplace(static_cast<const float*>(job.weights), axes, pixels).tell(job);
    }
    if (!scale) return;
    check_numbers(*scale, places, like.scalar_type(), "factors");
    factors = made_compact(*scale, false);
    job.factors = factors->const_data_ptr();
  }

  int64_t planes(bool channels_last) const { return channels_last ? job.batch : job.batch * job.channels; }
};

Tensor filter_pool(Tensor given, Tensor weights, std::optional<Tensor> factors, Sizes kernel_size, Sizes stride,
                   Sizes before, Sizes dilation, Sizes places, int64_t border) {
  const auto spatial = static_cast<int64_t>(kernel_size.size());
  check_rank(given, spatial, name);
  const Dtype dtype = float_dtype(given, "the input", name);
  const Plan plan(spatial_of(given, spatial), kernel_size, stride, before, dilation, places, border);
  const bool pixels = is_channels_last(given, spatial);
  Call call(plan, given, weights, factors, pixels);
  FilterJob& job = call.job;
  const int64_t unit_axis = pixels ? 1 : given.dim() - 1;
  const bool usable = given.stride(unit_axis) == 1 || given.size(unit_axis) == 1;
  const Tensor input = usable ? given : made_compact(given, pixels);
  const int64_t lead = input.dim() - spatial;
  job.batch = lead == 2 ? input.size(0) : 1;
  job.channels = input.size(lead - 1);
  read_strides(input, spatial, job.stride);
  Tensor pooled = compact(with_spatial(given, spatial, places), pixels, given.scalar_type());
  job.maps = const_cast<void*>(input.const_data_ptr());
  job.pooled = pooled.mutable_data_ptr();
  const FilterKernel kernel = (pixels ? table().sums_channels_last : table().sums_planar)[dtype];
  const int64_t row = job.places(2) * plan.cells;
  in_parallel(call.planes(pixels) * job.places(0) * job.places(1), pixels ? row * job.channels : row,
              [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  return pooled;
}

Tensor filter_pool_spread(Tensor given, Sizes input_size, Tensor weights, std::optional<Tensor> factors,
                          Sizes kernel_size, Sizes stride, Sizes before, Sizes dilation, int64_t border,
                          bool channels_last) {
  const auto spatial = static_cast<int64_t>(input_size.size());
  check_rank(given, spatial, name);
  const Dtype dtype = float_dtype(given, "the tensor to spread", name);
  const Plan plan(input_size, kernel_size, stride, before, dilation, spatial_of(given, spatial), border);
  const int64_t lead = given.dim() - spatial;
  const bool pixels = channels_last && lead == 2 && spatial > 1;
  Call call(plan, given, weights, factors, pixels);
  FilterJob& job = call.job;
  const Tensor pooled = made_compact(given, pixels);
  job.batch = lead == 2 ? pooled.size(0) : 1;
  job.channels = pooled.size(lead - 1);
  Tensor maps = compact(with_spatial(given, spatial, input_size), pixels, given.scalar_type());
  job.maps = maps.mutable_data_ptr();
  job.pooled = const_cast<void*>(pooled.const_data_ptr());
  const FilterKernel kernel = (pixels ? table().spread_channels_last : table().spread_planar)[dtype];
  const int64_t row = job.size(2) * plan.cells;
  in_parallel(call.planes(pixels) * job.size(0) * job.size(1), pixels ? row * job.channels : row,
              [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
  return maps;
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("filter_pool", TORCH_BOX(&switchgrad::filter_pool));
  m.impl("filter_pool_spread", TORCH_BOX(&switchgrad::filter_pool_spread));
}
