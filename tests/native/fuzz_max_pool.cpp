// Fuzzes the max-pooling kernels without PyTorch or Python: random geometries, dtypes, strides and layouts in buffers
// of exactly the right size, against loops, under AddressSanitizer and UBSan. scripts/sanitize builds and runs it.
//
//   fuzz_max_pool SECONDS [SEED]      for each of the instruction sets that SWITCHGRAD_SERVERS lists
//
// Every job is cut into random chunks that run in random order, as threads would: a kernel that writes beyond its
// chunk spoils one that is done already. Half of the buffers lie against pages that nobody may touch, because
// AddressSanitizer does not see masked vector loads and stores.
#include "common/table.h"
#include "cpu/isa.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
#include "fuzz/windows.h"
#include "max_pool/index.h"

namespace fuzz {
namespace {

using switchgrad::MaxPoolTable;
using switchgrad::PoolJob;
using switchgrad::RouteJob;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::max_pool_table},
constexpr Server<MaxPoolTable> servers[] = {SWITCHGRAD_SERVERS};

const MaxPoolTable* the_table = nullptr;

// ---- geometry ----------------------------------------------------------------------------------------------------

// What is being tried, for the report of a failure, be it ours or the sanitisers'.
struct {
  Window window;
  int64_t batch, channels, dtype;
  const char* how;
} current;

void tell() {
  tell_seed();
  std::printf("%s, dtype %d, batch %d, channels %d\n", current.how, static_cast<int>(current.dtype),
              static_cast<int>(current.batch), static_cast<int>(current.channels));
  for (const Axis& a : current.window.axis)
    std::printf("  size %d, kernel %d, stride %d, padding %d + %d, dilation %d: %d places\n", static_cast<int>(a.size),
                static_cast<int>(a.kernel), static_cast<int>(a.stride), static_cast<int>(a.pad_begin),
                static_cast<int>(a.pad_end), static_cast<int>(a.dilation), static_cast<int>(a.places));
  std::fflush(stdout);
}

[[noreturn]] void complain(const char* what) {
  std::printf("MISMATCH: %s\n", what);
  tell();
  std::_Exit(1);
}

// False where the window does not fit.
bool any_window(Window& window) {
  window = Window{};
  const int64_t dims = between(1, 3);
  const bool wide = chance(70);
  for (int64_t i = 3 - dims; i < 3; ++i) window.axis[i] = any_axis(i == 2 && wide);
  if (chance(25)) {  // two columns, two apart, have kernels of their own
    Axis& a = window.axis[2];
    a.kernel = a.stride = 2;
    a.dilation = 1;
    a.pad_begin = 0;
    a.pad_end = between(0, 1);
  }
  if (chance(8)) {  // the whole map
    for (Axis& a : window.axis) a = {a.size, a.size, between(1, 3), 0, 0, 1, 1};
  } else if (chance(4)) {  // windows wider than a byte can tell
    Axis& a = window.axis[2];
    a.size = between(250, 700);
    a.kernel = between(100, 300);
    a.dilation = 1;
    a.pad_begin = between(0, a.kernel - 1);
    a.stride = between(1, 90);
  } else if (chance(1)) {  // and wider than 16 bits can
    window = Window{};
    window.axis[2] = {between(32000, 40000), between(32760, 33500), between(500, 3000), 900, between(0, 900), 1, 1};
  }
  try {
    for (int i = 0; i < 3; ++i) settle(window.axis[i], i, chance(50));
  } catch (const std::runtime_error&) {
    return false;
  }
  return window.output_cells() * window.cells() < 3'000'000 && window.output_cells() < 20'000;
}

// ---- forward and backward ----------------------------------------------------------------------------------------

template <class T>
class Fuzz {
 public:
  Fuzz(switchgrad::Dtype dtype, const Window& window)
      : dtype_(dtype),
        window_(window),
        channels_last_(chance(50)),
        channels_(channels_last_ && chance(50) ? between(1, 150) : between(1, 4)),
        batch_(between(1, 3)),
        pooled_count_(batch_ * channels_ * window.output_cells()),
        width_(switchgrad::code_width(window.cells())),
        codes_(0, pooled_count_ << width_) {}

  void run() {
    if (batch_ * channels_ * std::max(window_.input_cells(), window_.output_cells()) > 400'000) return;
    current = {window_, batch_, channels_, dtype_, channels_last_ ? "channels last" : "planar"};
    forward();
    if (chance(10)) spoil_codes();
    backward();
    addresses();
  }

 private:
  int64_t code(int64_t i) const {
    const char* from = &codes_[i << width_];
    if (width_ == switchgrad::Code8) return *reinterpret_cast<const uint8_t*>(from);
    if (width_ == switchgrad::Code16) return *reinterpret_cast<const int16_t*>(from);
    return *reinterpret_cast<const int32_t*>(from);
  }
  int64_t none() const { return width_ == switchgrad::Code8 ? 255 : -1; }

  // Where a cell of a compact tensor lies.
  int64_t at(int64_t n, int64_t c, int64_t place, int64_t places) const {
    return channels_last_ ? (n * places + place) * channels_ + c : (n * channels_ + c) * places + place;
  }
  template <class F>
  void for_each_pooled(F&& body) const {
    const Axis &z = window_.axis[0], &y = window_.axis[1], &x = window_.axis[2];
    for (int64_t n = 0; n < batch_; ++n)
      for (int64_t c = 0; c < channels_; ++c) {
        int64_t place = 0;
        for (int64_t od = 0; od < z.places; ++od)
          for (int64_t p = 0; p < y.places; ++p)
            for (int64_t q = 0; q < x.places; ++q, ++place)
              body(n, c, od, p, q, place, at(n, c, place, window_.output_cells()));
      }
  }

  void forward() {
    PoolJob job;
    job.window = window_;
    job.batch = batch_;
    job.channels = channels_;
    const int64_t sizes[5] = {batch_, channels_, window_.axis[0].size, window_.axis[1].size, window_.axis[2].size};
    const int64_t span = any_strides(sizes, channels_last_, job.input_stride);
    Buffer<T> input(1, span), values(2, pooled_count_);
    const int kind = static_cast<int>(between(0, 3));
    for (int64_t i = 0; i < span; ++i) input[i] = any_number<T>(kind);
    const bool keep = chance(85);
    job.input = input.get();
    job.values = values.get();
    job.codes = keep ? codes_.get() : nullptr;
    const Axis* axis = window_.axis;
    in_chunks(channels_last_ ? the_table->pool_channels_last[dtype_][width_] : the_table->pool_planar[dtype_][width_],
              job,
              channels_last_ ? batch_ * window_.output_cells() : batch_ * channels_ * axis[0].places * axis[1].places);
    for_each_pooled([&](int64_t n, int64_t c, int64_t od, int64_t p, int64_t q, int64_t, int64_t here) {
      T best = lowest<T>();
      int64_t winner = -1;
      cells_of(window_, od, p, q, [&](int64_t code, int64_t d, int64_t h, int64_t w) {
        const int64_t* s = job.input_stride;
        const T x = input[n * s[0] + c * s[1] + d * s[2] + h * s[3] + w * s[4]];
        if (winner >= 0 && !(order(x) > order(best)) && order(x) == order(x)) return;
        best = x;
        winner = code;
      });
      if (!same(values[here], best)) complain("values");
      if (winner < 0) winner = none();
      if (keep && code(here) != winner) complain("codes");
      std::memcpy(&codes_[here << width_], &winner, size_t{1} << width_);
    });
    if (!values.intact() || !codes_.intact() || !input.intact()) complain("memory beside the pooled map");
  }

  // Codes of another pooling, or of a damaged file: they must be harmless.
  void spoil_codes() {
    for (int64_t i = 0; i < pooled_count_ << width_; ++i)
      if (chance(50)) codes_[i] = static_cast<char>(random_bits());
  }

  void backward() {
    using Sum = std::conditional_t<is_half<T>, float, T>;
    RouteJob job;
    job.window = window_;
    job.batch = batch_;
    job.channels = channels_;
    const int64_t routed_count = batch_ * channels_ * window_.input_cells();
    Buffer<T> pooled(3, pooled_count_), routed(4, routed_count), scattered(5, routed_count);
    const int kind = is_real<T> && chance(30) ? 1 : 3;
    for (int64_t i = 0; i < pooled_count_; ++i) pooled[i] = any_number<T>(kind);
    job.pooled = pooled.get();
    job.codes = codes_.get();
    job.routed = routed.get();
    const Axis* axis = window_.axis;
    in_chunks(channels_last_ ? the_table->route_channels_last[dtype_][width_] : the_table->route_planar[dtype_][width_],
              job, channels_last_ ? batch_ * window_.input_cells() : batch_ * channels_ * axis[0].size * axis[1].size);
    if (!channels_last_) {
      job.routed = scattered.get();
      in_chunks(the_table->scatter_planar[dtype_][width_], job, batch_ * channels_);
    }
    std::vector<Sum> sums(routed_count, Sum{0});
    for_each_pooled([&](int64_t n, int64_t c, int64_t od, int64_t p, int64_t q, int64_t, int64_t here) {
      cells_of(window_, od, p, q, [&](int64_t code, int64_t d, int64_t h, int64_t w) {
        if (this->code(here) != code) return;
        Sum& sum = sums[at(n, c, (d * axis[1].size + h) * axis[2].size + w, window_.input_cells())];
        sum = static_cast<Sum>(sum + order(pooled[here]));
      });
    });
    for (int64_t i = 0; i < routed_count; ++i) {
      T wanted;
      if constexpr (is_half<T>) {
        wanted = rounded<T>(sums[i]);
      } else {
        wanted = sums[i];
      }
      if (!same_sum(routed[i], wanted)) complain("routed sums");
      if (!channels_last_ && !same_sum(scattered[i], wanted)) complain("scattered sums");
    }
    if (!routed.intact() || !scattered.intact() || !codes_.intact() || !pooled.intact())
      complain("memory beside the routed map");
  }

  // Flat indices by switch: inside the input, or known to be foreign.
  void addresses() const {
    const Axis* axis = window_.axis;
    const switchgrad::Winners winners{window_, {axis[1].size * axis[2].size, axis[2].size, 1}};
    for_each_pooled([&](int64_t, int64_t, int64_t od, int64_t p, int64_t q, int64_t place, int64_t here) {
      int64_t wanted = code(here) == none() ? -1 : -2;
      cells_of(window_, od, p, q, [&](int64_t code, int64_t d, int64_t h, int64_t w) {
        if (wanted == -2 && code == this->code(here)) wanted = (d * axis[1].size + h) * axis[2].size + w;
      });
      if (winners.offset(place, code(here), none()) != wanted) complain("flat indices");
    });
  }

  switchgrad::Dtype dtype_;
  Window window_;
  bool channels_last_;
  int64_t channels_, batch_, pooled_count_;
  int width_;
  Buffer<char> codes_;
};

template <class T>
void fuzz(switchgrad::Dtype dtype, const Window& window) {
  Fuzz<T>(dtype, window).run();
}

void fuzz_once(const MaxPoolTable& table) {
  the_table = &table;
  Window window;
  if (!any_window(window)) return;
  switch (between(0, 8)) {
    case switchgrad::F64: return fuzz<double>(switchgrad::F64, window);
    case switchgrad::F32: return fuzz<float>(switchgrad::F32, window);
    case switchgrad::F16: return fuzz<Half>(switchgrad::F16, window);
    case switchgrad::BF16: return fuzz<Brain>(switchgrad::BF16, window);
    case switchgrad::U8: return fuzz<uint8_t>(switchgrad::U8, window);
    case switchgrad::I8: return fuzz<int8_t>(switchgrad::I8, window);
    case switchgrad::I16: return fuzz<int16_t>(switchgrad::I16, window);
    case switchgrad::I32: return fuzz<int32_t>(switchgrad::I32, window);
    default: return fuzz<int64_t>(switchgrad::I64, window);
  }
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::tell, fuzz::fuzz_once); }
