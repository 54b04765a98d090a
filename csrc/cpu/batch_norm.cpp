// Batch normalisation with a ReLU, and with max pooling, on the CPU: checks, allocation, threads, registration.
#include <cmath>
#include <memory>
#include <tuple>

#include "cpu/isa.h"
#include "cpu/numbers.h"
#include "cpu/windows.h"

namespace switchgrad {
namespace {

constexpr const char* family = "batch normalisation";

const BatchNormTable& table() { return kernels<BatchNormTable>(SWITCHGRAD_OF_EACH_ISA(batch_norm_table)); }

// What every call has: the input compact in its layout, and the job over it.
struct Normalisation {
  Tensor input;
  Dtype dtype;
  bool channels_last;
  NormJob job;
  Numbers mean, scale, bias;

  // Without a window a plane is a column of cells.
  Normalisation(const Tensor& given, const Geometry* geometry)
      : input(given), dtype(float_dtype(given, "the input", family)), channels_last(false) {
    const int64_t spatial = given.dim() - 2;
    if (spatial < 0 || (geometry && (spatial != 2 || geometry->dims() != 2)))
      fail("batch normalisation takes an input of shape " + std::string(geometry ? "(N, C, H, W)" : "(N, C, ...)") +
           "; this one has shape " + written(given));
    if (given.size(1) == 0) fail("the input has 0 channels (shape " + written(given) + "); it needs at least 1");
    // A batch of vectors is a picture whose pixels are the batch.
    channels_last = spatial == 0 || is_channels_last(given, spatial);
    input = made_compact(given, spatial > 0 && channels_last);
    job.batch = given.size(0);
    job.channels = given.size(1);
    job.channels_last = channels_last;
    if (geometry) {
      job.window = geometry->over({given.size(2), given.size(3)});
    } else {
      for (int64_t i = 2; i < given.dim(); ++i) job.window.axis[1].size *= given.size(i);
    }
    job.input = input.const_data_ptr();
  }

  int64_t cells() const { return job.batch * job.window.input_cells(); }
  int64_t cells_a_piece(const Split& split) const { return split.volumes_a_piece * split.rows_a_piece * job.row(); }

  void run(const NormKernel (&kernel)[float_count], const Split& split) {
    if (cells() == 0) return;
    const NormKernel chosen = kernel[dtype];
    in_parallel(split.count(), cells_a_piece(split), [&](int64_t begin, int64_t end) { chosen(job, begin, end); });
  }

  // Two sums for each channel, added up over the pieces in their order.
  Numbers total(const NormKernel (&kernel)[float_count]) {
    const Split split = job.split();
    const int64_t pairs = job.channels_last ? split.count() * job.channels : split.volumes * split.bands;
    const std::unique_ptr<double[]> partial(new double[static_cast<size_t>(2 * pairs)]);  // not filled with zeros
    Numbers sums(static_cast<size_t>(2 * job.channels));
    job.partial = partial.get();
    run(kernel, split);
    if (cells() == 0) return sums;
    const double* next = partial.get();
    const int64_t bands = job.channels_last ? 1 : split.bands;
    for (int64_t round = 0; round < pairs; round += bands * job.channels)
      for (int64_t c = 0; c < job.channels; ++c)
        for (int64_t band = 0; band < bands; ++band, next += 2) {
          sums[2 * c] += next[0];
          sums[2 * c + 1] += next[1];
        }
    return sums;
  }

  // Mean and biased variance of every channel, from the input.
  Numbers measured() {
    if (cells() < 2)
      fail("training batch normalisation needs 2 or more values for each channel; this input of shape " +
           written(input) + " has " + std::to_string(cells()) + ", so give a larger batch or use eval()");
    const auto channels = static_cast<size_t>(job.channels);
    Numbers shift(channels), found(2 * channels);
    job.partial = shift.data();
    table().first[dtype](job, 0, job.channels);
    job.mean = shift.data();
    const Numbers sums = total(table().statistics);
    const auto count = static_cast<double>(cells());
    for (size_t c = 0; c < channels; ++c) {
      const double away = sums[2 * c] / count, variance = sums[2 * c + 1] / count - away * away;
      found[c] = shift[c] + away;
      found[channels + c] = variance < 0 ? 0 : variance;  // rounding; NaN stays
    }
    return found;
  }

  // From statistics (means, then biased variances), weight and bias to the numbers of z = (x - mean) * scale + bias.
  void set(const Numbers& statistics, const Optional& weight, const Optional& given_bias, double eps) {
    const auto channels = static_cast<size_t>(job.channels);
    mean.assign(statistics.begin(), statistics.begin() + job.channels);
    scale = numbers_of(weight, job.channels, 1, "the weight", family);
    bias = numbers_of(given_bias, job.channels, 0, "the bias", family);
    for (size_t c = 0; c < channels; ++c) scale[c] /= std::sqrt(statistics[channels + c] + eps);
    job.mean = mean.data();
    job.scale = scale.data();
    job.bias = bias.data();
  }
};

// Means and biased variances: of the input in training, else those that are kept.
Numbers statistics_for(Normalisation& norm, const Optional& mean, const Optional& var, bool training) {
  if (training) return norm.measured();
  if (!mean || !var) fail("batch normalisation in evaluation needs running_mean and running_var; give both");
  Numbers both = numbers_of(mean, norm.job.channels, 0, "running_mean", family);
  const Numbers variances = numbers_of(var, norm.job.channels, 1, "running_var", family);
  both.insert(both.end(), variances.begin(), variances.end());
  return both;
}

struct Affine {
  const Optional& weight;
  const Optional& bias;
  const Optional& running_mean;
  const Optional& running_var;
  bool training;
  double eps;
};

std::tuple<Tensor, Tensor> forward(const Tensor& given, const Affine& affine) {
  Normalisation norm(given, nullptr);
  const Numbers statistics = statistics_for(norm, affine.running_mean, affine.running_var, affine.training);
  norm.set(statistics, affine.weight, affine.bias, affine.eps);
  Tensor output = compact(sizes_of(given), norm.channels_last && given.dim() > 2, given.scalar_type());
  norm.job.output = output.mutable_data_ptr();
  norm.run(table().apply, norm.job.split());
  return {output, tensor_of(statistics, {2, norm.job.channels}, ScalarType::Double)};
}

std::tuple<Tensor, Tensor, Tensor> pooled(const Tensor& given, const Affine& affine, const Geometry& geometry,
                                          bool keep_codes) {
  Normalisation norm(given, &geometry);
  const Numbers statistics = statistics_for(norm, affine.running_mean, affine.running_var, affine.training);
  norm.set(statistics, affine.weight, affine.bias, affine.eps);
  NormJob& job = norm.job;
  const Sizes sizes = with_spatial(given, 2, places_of(job.window, 2));
  Tensor values = compact(sizes, norm.channels_last, given.scalar_type());
  Tensor codes = keep_codes ? compact(sizes, norm.channels_last, geometry.code_type(job.window)) : Tensor();
  job.output = values.mutable_data_ptr();
  job.output_codes = keep_codes ? codes.mutable_data_ptr() : nullptr;
  const ReluMaxPoolTable& pooling = kernels<ReluMaxPoolTable>(SWITCHGRAD_OF_EACH_ISA(relu_max_pool_table));
  const CodeWidth width = code_width(job.window.cells());
  job.pool = norm.channels_last ? pooling.channels_last[norm.dtype][width] : pooling.planar[norm.dtype][width];
  norm.run(table().pool, job.split_places());
  return {values, codes, tensor_of(statistics, {2, job.channels}, ScalarType::Double)};
}

// From the sums of dz and of dz * (x - mean) to the gradients of weight and bias and to the terms of the input's:
// dx = scale * (dz - mean of dz - (x - mean) * sum / (var + eps) / cells), the last two in training only.
std::tuple<Tensor, Tensor, Tensor> backward(Normalisation& norm, const Tensor& statistics, const Optional& weight,
                                            const Optional& bias, bool training, double eps, const Geometry* geometry) {
  NormJob& job = norm.job;
  const auto channels = static_cast<size_t>(job.channels);
  if (statistics.scalar_type() != ScalarType::Double || statistics.dim() != 2 || statistics.size(0) != 2 ||
      statistics.size(1) != job.channels)
    fail("the statistics have shape " + written(statistics) + "; use those that the forward gave");
  const Tensor kept = made_compact(statistics, false);
  const auto* from = static_cast<const double*>(kept.const_data_ptr());
  const Numbers both(from, from + 2 * channels);
  norm.set(both, weight, bias, eps);
  const Numbers sums = norm.total(geometry ? table().pooled_sums : table().sums);
  Numbers of_weight(channels), of_bias(channels), slope(channels), offset(channels);
  const auto count = static_cast<double>(norm.cells());
  for (size_t c = 0; c < channels; ++c) {
    const double spread = both[channels + c] + eps;
    of_bias[c] = sums[2 * c];
    of_weight[c] = sums[2 * c + 1] / std::sqrt(spread);
    if (!training) continue;
    offset[c] = -norm.scale[c] * sums[2 * c] / count;
    slope[c] = -norm.scale[c] * sums[2 * c + 1] / spread / count;
  }
  job.slope = slope.data();
  job.offset = offset.data();
  Tensor dx = compact(sizes_of(norm.input), norm.channels_last && norm.input.dim() > 2, norm.input.scalar_type());
  job.output = dx.mutable_data_ptr();
  norm.run(geometry ? table().pooled_gradient : table().gradient, job.split());
  const auto wide = norm.dtype == F64 ? ScalarType::Double : ScalarType::Float;
  return {dx, tensor_of(of_weight, {job.channels}, weight ? weight->scalar_type() : wide),
          tensor_of(of_bias, {job.channels}, bias ? bias->scalar_type() : wide)};
}

Tensor beside(const Tensor& t, const Sizes& sizes, ScalarType dtype, const Normalisation& norm, const char* what) {
  if (sizes_of(t) != sizes || t.scalar_type() != dtype)
    fail(std::string(what) + " has shape " + written(t) + " and dtype " + torch::headeronly::toString(t.scalar_type()) +
         ", which this input does not give; use what the forward gave");
  return made_compact(t, norm.channels_last && t.dim() > 2);
}

// A running statistic moves by `momentum` to the batch's.
void move(Tensor& running, const double* to, double momentum, double correction, const char* what) {
  const Dtype dtype = float_dtype(running, what, family);
  const int64_t stride = running.dim() == 1 ? running.stride(0) : 0;
  const auto step = [&](auto* at, int64_t channels) {
    using Number = std::remove_pointer_t<decltype(at)>;
    for (int64_t c = 0; c < channels; ++c, at += stride)
      *at = static_cast<Number>((1 - momentum) * static_cast<double>(*at) + momentum * correction * to[c]);
  };
  void* data = running.mutable_data_ptr();
  if (dtype == F64) {
    step(static_cast<double*>(data), running.size(0));
  } else if (dtype == F32) {
    step(static_cast<float*>(data), running.size(0));
  } else {
    fail(std::string(what) + " has dtype " + torch::headeronly::toString(running.scalar_type()) +
         "; running statistics move in float64 or float32");
  }
}

// ---- what the dispatcher calls -----------------------------------------------------------------------------------

std::tuple<Tensor, Tensor> batch_norm_relu(const Tensor& input, const Optional& weight, const Optional& bias,
                                           const Optional& running_mean, const Optional& running_var, bool training,
                                           double eps) {
  return forward(input, {weight, bias, running_mean, running_var, training, eps});
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_relu_max_pool(const Tensor& input, const Optional& weight,
                                                            const Optional& bias, const Optional& running_mean,
                                                            const Optional& running_var, bool training, double eps,
                                                            const Sizes& window) {
  return pooled(input, {weight, bias, running_mean, running_var, training, eps}, window, true);
}

std::tuple<Tensor, Tensor> batch_norm_relu_max_pool_values(const Tensor& input, const Optional& weight,
                                                           const Optional& bias, const Optional& running_mean,
                                                           const Optional& running_var, bool training, double eps,
                                                           const Sizes& window) {
  auto [values, codes, statistics] =
      pooled(input, {weight, bias, running_mean, running_var, training, eps}, window, false);
  return {values, statistics};
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_relu_backward(const Tensor& grad, const Tensor& input,
                                                            const Optional& weight, const Optional& bias,
                                                            const Tensor& statistics, bool training, double eps) {
  Normalisation norm(input, nullptr);
  const Tensor sent = beside(grad, sizes_of(input), input.scalar_type(), norm, "the gradient");
  norm.job.grad = sent.const_data_ptr();
  return backward(norm, statistics, weight, bias, training, eps, nullptr);
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_relu_max_pool_backward(const Tensor& grad, const Tensor& input,
                                                                     const Tensor& codes, const Optional& weight,
                                                                     const Optional& bias, const Tensor& statistics,
                                                                     bool training, double eps, const Sizes& window) {
  const Geometry geometry(window);
  Normalisation norm(input, &geometry);
  NormJob& job = norm.job;
  const Sizes sizes = with_spatial(input, 2, places_of(job.window, 2));
  const Tensor sent = beside(grad, sizes, input.scalar_type(), norm, "the gradient");
  const Tensor winners = beside(codes, sizes, geometry.code_type(job.window), norm, "the tensor of switches");
  job.grad = sent.const_data_ptr();
  job.codes = winners.const_data_ptr();
  const MaxPoolTable& pooling = kernels<MaxPoolTable>(SWITCHGRAD_OF_EACH_ISA(max_pool_table));
  const CodeWidth width = code_width(job.window.cells());
  job.route =
      norm.channels_last ? pooling.route_channels_last[norm.dtype][width] : pooling.route_planar[norm.dtype][width];
  return backward(norm, statistics, weight, bias, training, eps, &geometry);
}

void batch_norm_move(Tensor running_mean, Tensor running_var, const Tensor& statistics, double momentum,
                     int64_t count) {
  if (statistics.dim() != 2 || statistics.size(0) != 2 || statistics.scalar_type() != ScalarType::Double ||
      sizes_of(running_mean) != Sizes{statistics.size(1)} || sizes_of(running_var) != sizes_of(running_mean))
    fail("running statistics of shapes " + written(running_mean) + " and " + written(running_var) +
         " do not go with statistics of shape " + written(statistics) + "; use those that the forward gave");
  const Tensor kept = made_compact(statistics, false);
  const auto* to = static_cast<const double*>(kept.const_data_ptr());
  const auto cells = static_cast<double>(count);
  move(running_mean, to, momentum, 1, "running_mean");
  move(running_var, to + statistics.size(1), momentum, cells / (cells - 1), "running_var");
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("batch_norm_relu", TORCH_BOX(&switchgrad::batch_norm_relu));
  m.impl("batch_norm_relu_backward", TORCH_BOX(&switchgrad::batch_norm_relu_backward));
  m.impl("batch_norm_move", TORCH_BOX(&switchgrad::batch_norm_move));
  m.impl("batch_norm_relu_max_pool", TORCH_BOX(&switchgrad::batch_norm_relu_max_pool));
  m.impl("batch_norm_relu_max_pool_values", TORCH_BOX(&switchgrad::batch_norm_relu_max_pool_values));
  m.impl("batch_norm_relu_max_pool_backward", TORCH_BOX(&switchgrad::batch_norm_relu_max_pool_backward));
}
