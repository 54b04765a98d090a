// Fuzzes fused convolution and max pooling without PyTorch or Python: random geometries, channels, strides and codes in
// buffers of exactly the right size, against loops, under AddressSanitizer and UBSan. scripts/sanitize builds and runs
// it.
//
//   fuzz_conv_pool SECONDS [SEED]      for each of the instruction sets that SWITCHGRAD_SERVERS lists
//
// Numbers are small and whole, so that every order of summation gives the same; a part of the cases has NaN and
// infinities among them, and a part has any bits at all, where only memory and codes are looked at. As in
// fuzz_max_pool.cpp, jobs are cut into chunks that run in any order, and guard pages stand beside half of the buffers.
#include "conv_pool/job.h"
#include "fuzz/maps.h"
#include "fuzz/memory.h"
#include "fuzz/products.h"
#include "fuzz/run.h"
#include "fuzz/windows.h"

namespace fuzz {
namespace {

using switchgrad::ConvPoolKernels;
using switchgrad::ConvPoolTable;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::conv_pool_table},
constexpr Server<ConvPoolTable> servers[] = {SWITCHGRAD_SERVERS};

// ---- geometry ----------------------------------------------------------------------------------------------------

struct Geometry {
  int64_t batch = 1, channels = 1, filters = 1;
  Axis conv[2], pool[2];

  int64_t conv_cells() const { return conv[0].places * conv[1].places; }
  int64_t pooled_cells() const { return pool[0].places * pool[1].places; }
  int64_t taps() const { return conv[0].kernel * conv[1].kernel; }
  int64_t work() const { return batch * conv_cells() * filters * taps() * channels; }
} current;

void show() {
  std::printf("  batch %d, channels %d, filters %d\n", static_cast<int>(current.batch),
              static_cast<int>(current.channels), static_cast<int>(current.filters));
  for (const Axis& a : {current.conv[0], current.conv[1], current.pool[0], current.pool[1]}) tell_axis(a);
}

int64_t any_channels() {
  if (chance(35)) return between(1, 4);
  if (chance(30)) return 16 * between(1, 3);
  return chance(70) ? between(5, 20) : between(21, 70);
}

void pad(Axis& a) {
  if (chance(50)) return;
  a.pad_begin = between(0, a.span() - 1);
  a.pad_end = chance(60) ? a.pad_begin : between(0, a.span() - 1);
}

Axis any_conv_axis() {
  Axis a;
  a.size = chance(80) ? between(1, 12) : between(13, 40);
  a.kernel = chance(50) ? 3 : chance(90) ? between(1, 7) : 11;
  a.stride = chance(65) ? 1 : between(1, 4);
  pad(a);
  return a;
}

Axis any_pool_axis() {
  Axis a;
  a.kernel = chance(50) ? 2 : between(1, 4);
  a.stride = chance(60) ? a.kernel : between(1, 4);
  a.dilation = chance(85) ? 1 : between(1, 3);
  if (chance(50)) pad(a);
  return a;
}

// Images so wide that their rows are done in several blocks.
void widen(Geometry& g) {
  g.channels = between(30, 80);
  g.filters = between(1, 3);
  g.batch = 1;
  g.conv[0].size = between(20, 40);
  g.conv[1].size = between(50, 90);
  for (Axis& a : g.conv) a.kernel = between(1, 2), a.pad_begin = a.pad_end = between(0, a.kernel - 1);
  g.conv[1].stride = between(2, 3);
}

// False where a window does not fit, or the work is too much.
bool any_geometry(Geometry& g) {
  g = Geometry{};
  g.batch = between(1, 3);
  g.channels = any_channels();
  g.filters = any_channels();
  for (Axis& a : g.conv) a = any_conv_axis();
  for (Axis& a : g.pool) a = any_pool_axis();
  const bool ceil_mode = chance(40);
  if (chance(30))  // squares have a kernel of their own
    for (Axis& a : g.pool) a = {1, 2, 2, 0, between(0, 1), 1, 1};
  if (chance(4)) widen(g);
  try {
    for (int i = 0; i < 2; ++i) {
      settle(g.conv[i], i, false);
      g.pool[i].size = g.conv[i].places;
      settle(g.pool[i], i, ceil_mode);
    }
  } catch (const std::runtime_error&) {
    return false;
  }
  return g.work() < 400'000 && g.pool[0].kernel * g.pool[1].kernel <= 254;
}

// ---- numbers -----------------------------------------------------------------------------------------------------

template <class E>
void fill(Buffer<E>& buffer, int64_t count, Kind kind) {
  for (int64_t i = 0; i < count; ++i) buffer[i] = any_real<E>(kind);
}

// Strides of an array of four axes, compact or with gaps, in any order; returns the elements spanned. With `repeats`
// some axes may have a stride of 0.
int64_t any_strides(const int64_t (&sizes)[4], int64_t (&stride)[4], bool gaps, bool repeats) {
  std::vector<int> inside_out = chance(50) ? std::vector<int>{1, 3, 2, 0} : std::vector<int>{3, 2, 1, 0};
  if (gaps && chance(20)) std::shuffle(inside_out.begin(), inside_out.end(), random_bits);
  const bool compact = !gaps || chance(50);
  return lay(sizes, inside_out, !compact, repeats && !compact, stride);
}

// ---- forward and backward ----------------------------------------------------------------------------------------

template <class E>
class Fuzz {
 public:
  Fuzz(const ConvPoolKernels& kernels, const Geometry& geometry)
      : kernels_(kernels),
        g_(geometry),
        kind_(any_kind()),
        input_span_(any_strides({g_.batch, g_.channels, g_.conv[0].size, g_.conv[1].size}, input_stride_, true, true)),
        weight_span_(
            any_strides({g_.filters, g_.channels, g_.conv[0].kernel, g_.conv[1].kernel}, bank_.stride, true, true)),
        pooled_count_(g_.batch * g_.pooled_cells() * g_.filters),
        input_(0, input_span_),
        weight_(1, weight_span_),
        codes_(2, pooled_count_) {
    fill(input_, input_span_, kind_);
    fill(weight_, weight_span_, kind_);
    bank_.weight = weight_.get();
  }

  void run() {
    forward();
    if (chance(25)) spoil_codes();
    backward();
    if (!input_.intact() || !weight_.intact() || !codes_.intact()) complain("memory beside input, weight or codes");
  }

 private:
  void describe(switchgrad::ConvPoolJob& job) {
    job.batch = g_.batch;
    job.channels = g_.channels;
    job.filters = g_.filters;
    for (int i = 0; i < 2; ++i) job.conv[i] = g_.conv[i], job.pool[i] = g_.pool[i];
    for (int i = 0; i < 4; ++i) job.input_stride[i] = input_stride_[i];
    job.input = input_.get();
  }

  // What the padded input holds for tap (r, s) of convolution output (y, x), and whether that is inside the input.
  bool inside(int64_t y, int64_t x, int64_t r, int64_t s, int64_t& h, int64_t& w) const {
    h = g_.conv[0].start(y) + r;
    w = g_.conv[1].start(x) + s;
    return h >= 0 && h < g_.conv[0].size && w >= 0 && w < g_.conv[1].size;
  }
  E seen(int64_t n, int64_t c, int64_t y, int64_t x, int64_t r, int64_t s) const {
    int64_t h, w;
    if (!inside(y, x, r, s, h, w)) return 0;
    return input_[n * input_stride_[0] + c * input_stride_[1] + h * input_stride_[2] + w * input_stride_[3]];
  }
  E tap(int64_t k, int64_t c, int64_t r, int64_t s) const {
    const int64_t (&step)[4] = bank_.stride;
    return weight_[k * step[0] + c * step[1] + r * step[2] + s * step[3]];
  }
  // Calls body(c, r, s) for the taps of a filter.
  template <class F>
  void for_each_tap(F&& body) const {
    for (int64_t r = 0; r < g_.conv[0].kernel; ++r)
      for (int64_t s = 0; s < g_.conv[1].kernel; ++s)
        for (int64_t c = 0; c < g_.channels; ++c) body(c, r, s);
  }
  // Calls body(at, n, p, q, k) for each pooled cell.
  template <class F>
  void for_each_pooled(F&& body) const {
    int64_t at = 0;
    for (int64_t n = 0; n < g_.batch; ++n)
      for (int64_t p = 0; p < g_.pool[0].places; ++p)
        for (int64_t q = 0; q < g_.pool[1].places; ++q)
          for (int64_t k = 0; k < g_.filters; ++k) body(at++, n, p, q, k);
  }
  // Calls body(n, k, y, x) for each output of the convolution.
  template <class F>
  void for_each_output(F&& body) const {
    for (int64_t n = 0; n < g_.batch; ++n)
      for (int64_t k = 0; k < g_.filters; ++k)
        for (int64_t y = 0; y < g_.conv[0].places; ++y)
          for (int64_t x = 0; x < g_.conv[1].places; ++x) body(n, k, y, x);
  }
  // The convolution output that a code names; false where it names none.
  bool named(int64_t code, int64_t p, int64_t q, int64_t& y, int64_t& x) const {
    const int64_t columns = g_.pool[1].kernel;
    y = g_.pool[0].start(p) + code / columns * g_.pool[0].dilation;
    x = g_.pool[1].start(q) + code % columns * g_.pool[1].dilation;
    return code < g_.pool[0].kernel * columns && y >= 0 && y < g_.pool[0].size && x >= 0 && x < g_.pool[1].size;
  }

  void forward() {
    switchgrad::ConvPoolForwardJob job;
    describe(job);
    job.relu = chance(60);
    Buffer<E> bias(3, g_.filters), packed(4, kernels_.packed_size(job)), values(5, pooled_count_);
    fill(bias, g_.filters, kind_);
    const bool biased = chance(60), keep = chance(90);
    kernels_.pack(job, bank_, biased ? bias.get() : nullptr, packed.get());
    job.weight = packed.get();
    job.values = values.get();
    job.codes = keep ? codes_.get() : nullptr;
    in_chunks(kernels_.forward, job, g_.batch * g_.pool[0].places);
    if (!packed.intact() || !values.intact() || !bias.intact()) complain("memory beside values, bias or packed taps");
    if (kind_ != any_bits) {
      outputs_.assign(g_.batch * g_.filters * g_.conv_cells(), E{});
      convolve(bias, biased);
    }
    for_each_pooled([&](int64_t at, int64_t n, int64_t p, int64_t q, int64_t k) {
      if (kind_ == any_bits) {
        int64_t y, x;
        if (keep && codes_[at] != 255 && !named(codes_[at], p, q, y, x)) complain("a code that names nothing");
        if (!keep) codes_[at] = static_cast<uint8_t>(random_bits());
        return;
      }
      uint8_t code;
      const E best = winner(n, p, q, k, job.relu, code);
      if (!same_sum(values[at], best)) complain("values");
      if (keep && codes_[at] != code) complain("codes");
      codes_[at] = code;
    });
  }

  E& output(int64_t n, int64_t k, int64_t y, int64_t x) {
    return outputs_[((n * g_.filters + k) * g_.conv[0].places + y) * g_.conv[1].places + x];
  }
  void convolve(const Buffer<E>& bias, bool biased) {
    for (int64_t n = 0; n < g_.batch; ++n)
      for (int64_t k = 0; k < g_.filters; ++k)
        for (int64_t y = 0; y < g_.conv[0].places; ++y)
          for (int64_t x = 0; x < g_.conv[1].places; ++x) {
            E sum = biased ? bias[k] : 0;
            for_each_tap([&](int64_t c, int64_t r, int64_t s) { sum += seen(n, c, y, x, r, s) * tap(k, c, r, s); });
            output(n, k, y, x) = sum;
          }
  }
  E winner(int64_t n, int64_t p, int64_t q, int64_t k, bool relu, uint8_t& code) {
    E best = lowest<E>();
    code = 255;
    for (int64_t cell = 0; cell < g_.pool[0].kernel * g_.pool[1].kernel; ++cell) {
      int64_t y, x;
      if (!named(cell, p, q, y, x)) continue;
      const E here = output(n, k, y, x);
      if (code != 255 && !(here > best) && here == here) continue;
      best = here;
      code = static_cast<uint8_t>(cell);
    }
    if (!relu || code == 255 || !(best <= 0)) return best;
    code = 255;
    return 0;
  }

  // Codes of another pooling, or of a damaged file: they must be harmless. To the bias counts what names any cell of
  // the window, also one beyond the convolution's output: its gradient needs no geometry.
  void spoil_codes() {
    for (int64_t i = 0; i < pooled_count_; ++i)
      if (chance(50)) codes_[i] = static_cast<uint8_t>(random_bits());
  }

  void backward() {
    const int64_t weight_count = g_.filters * g_.channels * g_.taps();
    const int64_t input_count = g_.batch * g_.channels * g_.conv[0].size * g_.conv[1].size;
    switchgrad::ConvPoolBackwardJob job;
    describe(job);
    any_strides({g_.filters, g_.channels, g_.conv[0].kernel, g_.conv[1].kernel}, job.weight_stride, false, false);
    any_strides({g_.batch, g_.channels, g_.conv[0].size, g_.conv[1].size}, job.grad_stride, false, false);
    Buffer<E> grad(3, pooled_count_), packed(4, kernels_.packed_filters_size(job)), weight_grad(5, weight_count),
        bias_grad(6, g_.filters), input_grad(7, input_count), sums(8, kernels_.weight_sums_size(job));
    fill(grad, pooled_count_, kind_);
    job.grad = grad.get();
    job.codes = codes_.get();
    job.weight_grad = weight_grad.get();
    job.bias_grad = chance(60) ? bias_grad.get() : nullptr;
    job.weight_sums = sums.get();
    in_chunks(kernels_.weight_gradient, job, kernels_.weight_parts(job) * g_.filters);
    in_chunks(kernels_.finish_weights, job, g_.filters);
    kernels_.pack_filters(job, bank_, packed.get());
    job.weight = packed.get();
    job.input_grad = input_grad.get();
    in_chunks(kernels_.input_gradient, job, kernels_.input_blocks(job));
    for (const Buffer<E>* buffer : {&grad, &packed, &weight_grad, &bias_grad, &input_grad, &sums})
      if (!buffer->intact()) complain("memory beside the gradients");
    if (kind_ != any_bits) compare_gradients(job, grad, weight_grad, bias_grad, input_grad);
  }

  void compare_gradients(const switchgrad::ConvPoolBackwardJob& job, const Buffer<E>& grad,
                         const Buffer<E>& weight_grad, const Buffer<E>& bias_grad, const Buffer<E>& input_grad) const {
    std::vector<E> of_weight(g_.filters * g_.channels * g_.taps()), of_bias(g_.filters),
        of_input(g_.batch * g_.channels * g_.conv[0].size * g_.conv[1].size);
    // An output that several windows named has the sum of what they send; a sum of 0 sends nothing.
    std::vector<E> sums(g_.batch * g_.filters * g_.conv_cells());
    const auto sum_of = [&](int64_t n, int64_t k, int64_t y, int64_t x) -> E& {
      return sums[((n * g_.filters + k) * g_.conv[0].places + y) * g_.conv[1].places + x];
    };
    for_each_pooled([&](int64_t at, int64_t n, int64_t p, int64_t q, int64_t k) {
      int64_t y, x;
      if (codes_[at] < g_.pool[0].kernel * g_.pool[1].kernel) of_bias[k] += grad[at];
      if (named(codes_[at], p, q, y, x)) sum_of(n, k, y, x) += grad[at];
    });
    for_each_output([&](int64_t n, int64_t k, int64_t y, int64_t x) {
      int64_t h, w;
      const E sent = sum_of(n, k, y, x);
      if (sent == 0) return;
      for_each_tap([&](int64_t c, int64_t r, int64_t s) {
        of_weight[k * job.weight_stride[0] + c * job.weight_stride[1] + r * job.weight_stride[2] +
                  s * job.weight_stride[3]] += sent * seen(n, c, y, x, r, s);
        if (inside(y, x, r, s, h, w))
          of_input[n * job.grad_stride[0] + c * job.grad_stride[1] + h * job.grad_stride[2] + w * job.grad_stride[3]] +=
              sent * tap(k, c, r, s);
      });
    });
    const auto compare = [](const std::vector<E>& wanted, const Buffer<E>& got, const char* what) {
      for (size_t i = 0; i < wanted.size(); ++i)
        if (!same_sum(got[static_cast<int64_t>(i)], wanted[i])) complain(what);
    };
    compare(of_weight, weight_grad, "the weights' gradient");
    if (job.bias_grad) compare(of_bias, bias_grad, "the bias' gradient");
    compare(of_input, input_grad, "the input's gradient");
  }

  const ConvPoolKernels& kernels_;
  Geometry g_;
  Kind kind_;
  int64_t input_stride_[4];
  switchgrad::FilterBank bank_;
  int64_t input_span_, weight_span_, pooled_count_;
  Buffer<E> input_, weight_;
  Buffer<uint8_t> codes_;
  std::vector<E> outputs_;
};

void fuzz_once(const ConvPoolTable& table) {
  if (!any_geometry(current)) return;
  if (chance(65)) return Fuzz<float>(table.of_float, current).run();
  Fuzz<double>(table.of_double, current).run();
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
