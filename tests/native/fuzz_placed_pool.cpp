// Fuzzes max pooling over windows at given places as fuzz_max_pool.cpp does max pooling: any lists of windows, the same
// for all maps or one for each, dtypes, strides and layouts, against loops; codes may be spoiled before the backward.
#include "cpu/isa.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
#include "fuzz/windows.h"
#include "placed_pool/job.h"

namespace switchgrad {
SWITCHGRAD_TABLE(PlacedPoolTable, placed_pool_table)
}

namespace fuzz {
namespace {

using switchgrad::PlacedAxis;
using switchgrad::PlacedPoolJob;
using switchgrad::PlacedPoolTable;
using switchgrad::PlacedRouteJob;
using switchgrad::PlacedWindows;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::placed_pool_table},
constexpr Server<PlacedPoolTable> servers[] = {SWITCHGRAD_SERVERS};

const PlacedPoolTable* the_table = nullptr;

struct {
  PlacedWindows windows;
  int64_t batch, channels, dtype;
  const char* how;
} current;

void tell() {
  tell_seed();
  std::printf("%s, dtype %d, batch %d, channels %d\n", current.how, static_cast<int>(current.dtype),
              static_cast<int>(current.batch), static_cast<int>(current.channels));
  for (const PlacedAxis& a : current.windows.axis)
    std::printf("  size %d, at most %d cells, %d places, %s\n", static_cast<int>(a.size), static_cast<int>(a.kernel),
                static_cast<int>(a.places), a.apart ? "each map its own" : "shared");
  std::fflush(stdout);
}

[[noreturn]] void complain(const char* what) {
  std::printf("MISMATCH: %s\n", what);
  tell();
  std::_Exit(1);
}

template <class T>
class Fuzz {
 public:
  explicit Fuzz(switchgrad::Dtype dtype)
      : dtype_(dtype),
        shared_(chance(50)),
        channels_last_(shared_ && chance(60)),
        batch_(between(1, 3)),
        channels_(channels_last_ && chance(60) ? between(1, 150) : between(1, 6)) {
    const int64_t dims = between(1, 3), maps = shared_ ? 1 : batch_ * channels_;
    const bool large = chance(4), boxes = chance(30);
    windows_.are_boxes = boxes;
    for (int64_t i = 0; i < 3; ++i) {
      PlacedAxis& axis = windows_.axis[i];
      if (i >= 3 - dims) {
        axis.size = i == 2 ? between(1, large ? 700 : 70) : between(1, 9);
        axis.kernel = between(1, std::min<int64_t>(axis.size, large && i == 2 ? 300 : 6));
        axis.places = between(1, 8);
      }
      axis.apart = shared_ ? 0 : axis.places;
      for (int64_t p = 0; p < maps * axis.places; ++p) {
        begin_[i].push_back(between(0, boxes ? axis.size - axis.kernel : axis.size - 1));
        const int64_t most = std::min(axis.kernel, axis.size - begin_[i].back());
        end_[i].push_back(begin_[i].back() + (boxes ? most : between(1, most)));
      }
      axis.begin = begin_[i].data();
      axis.end = end_[i].data();
    }
    width_ = switchgrad::code_width(windows_.cells());
    count_ = batch_ * channels_ * windows_.output_cells();
  }

  void run() {
    if (batch_ * channels_ * std::max(windows_.input_cells(), windows_.output_cells() * 20) > 400'000) return;
    current = {windows_, batch_, channels_, dtype_, channels_last_ ? "channels last" : "planar"};
    Buffer<char> codes(0, count_ << width_);
    forward(codes);
    if (chance(10))
      for (int64_t i = 0; i < count_ << width_; ++i)
        if (chance(50)) codes[i] = static_cast<char>(random_bits());
    backward(codes);
    if (!codes.intact()) complain("memory beside the codes");
  }

 private:
  int64_t code(const Buffer<char>& codes, int64_t i) const {
    const char* from = &codes[i << width_];
    if (width_ == switchgrad::Code8) return *reinterpret_cast<const uint8_t*>(from);
    if (width_ == switchgrad::Code16) return *reinterpret_cast<const int16_t*>(from);
    return *reinterpret_cast<const int32_t*>(from);
  }
  int64_t at(int64_t n, int64_t c, int64_t place, int64_t places) const {
    return channels_last_ ? (n * places + place) * channels_ + c : (n * channels_ + c) * places + place;
  }
  // Calls body(n, c, where in the pooled map, each) where each(cell) calls cell(code, d, h, w) in row-major order.
  template <class F>
  void for_each_window(F&& body) const {
    const PlacedAxis &z = windows_.axis[0], &y = windows_.axis[1], &x = windows_.axis[2];
    for (int64_t n = 0; n < batch_; ++n)
      for (int64_t c = 0; c < channels_; ++c)
        for (int64_t place = 0; place < windows_.output_cells(); ++place) {
          const int64_t map = n * channels_ + c, q = map * x.apart + place % x.places;
          const int64_t p = map * y.apart + place / x.places % y.places;
          const int64_t od = map * z.apart + place / x.places / y.places;
          body(n, c, at(n, c, place, windows_.output_cells()), [&](auto&& cell) {
            for (int64_t d = z.begin[od]; d < z.end[od]; ++d)
              for (int64_t h = y.begin[p]; h < y.end[p]; ++h)
                for (int64_t w = x.begin[q]; w < x.end[q]; ++w)
                  cell(((d - z.begin[od]) * y.kernel + h - y.begin[p]) * x.kernel + w - x.begin[q], d, h, w);
          });
        }
  }

  void forward(Buffer<char>& codes) {
    PlacedPoolJob job;
    job.windows = windows_;
    job.batch = batch_;
    job.channels = channels_;
    const PlacedAxis* axis = windows_.axis;
    const int64_t sizes[5] = {batch_, channels_, axis[0].size, axis[1].size, axis[2].size};
    const int64_t span = any_strides(sizes, channels_last_, job.input_stride);
    Buffer<T> input(1, span), values(2, count_);
    const int kind = static_cast<int>(between(0, 3));
    for (int64_t i = 0; i < span; ++i) input[i] = any_number<T>(kind);
    job.input = input.get();
    job.values = values.get();
    job.codes = codes.get();
    in_chunks(channels_last_ ? the_table->pool_channels_last[dtype_][width_] : the_table->pool_planar[dtype_][width_],
              job, batch_ * (channels_last_ ? windows_.output_cells() : channels_ * axis[0].places * axis[1].places));
    for_each_window([&](int64_t n, int64_t c, int64_t here, auto&& each) {
      T best = lowest<T>();
      int64_t winner = -1;
      each([&](int64_t code, int64_t d, int64_t h, int64_t w) {
        const int64_t* s = job.input_stride;
        const T x = input[n * s[0] + c * s[1] + d * s[2] + h * s[3] + w * s[4]];
        if (winner >= 0 && !(order(x) > order(best)) && order(x) == order(x)) return;
        best = x;
        winner = code;
      });
      if (!same(values[here], best)) complain("values");
      if (code(codes, here) != winner) complain("codes");
    });
    if (!values.intact() || !input.intact()) complain("memory beside the pooled map");
  }

  void backward(const Buffer<char>& codes) {
    using Sum = std::conditional_t<is_half<T>, float, T>;
    PlacedRouteJob job;
    job.windows = windows_;
    job.batch = batch_;
    job.channels = channels_;
    const int64_t cells = windows_.input_cells();
    Buffer<T> pooled(3, count_), routed(4, batch_ * channels_ * cells);
    const int kind = is_real<T> && chance(30) ? 1 : 3;
    for (int64_t i = 0; i < count_; ++i) pooled[i] = any_number<T>(kind);
    job.pooled = pooled.get();
    job.codes = &codes[0];
    job.routed = routed.get();
    const int64_t chunks = (channels_ + switchgrad::placed_chunk - 1) / switchgrad::placed_chunk;
    in_chunks(channels_last_ ? the_table->route_channels_last[dtype_][width_] : the_table->route_planar[dtype_][width_],
              job, batch_ * (channels_last_ ? chunks : channels_));
    std::vector<Sum> sums(static_cast<size_t>(batch_ * channels_ * cells), Sum{0});
    for_each_window([&](int64_t n, int64_t c, int64_t here, auto&& each) {
      each([&](int64_t code, int64_t d, int64_t h, int64_t w) {
        if (this->code(codes, here) != code) return;
        const PlacedAxis* axis = windows_.axis;
        Sum& sum = sums[at(n, c, (d * axis[1].size + h) * axis[2].size + w, cells)];
        sum = static_cast<Sum>(sum + order(pooled[here]));
      });
    });
    for (int64_t i = 0; i < batch_ * channels_ * cells; ++i) {
      T wanted;
      if constexpr (is_half<T>) {
        wanted = rounded<T>(sums[i]);
      } else {
        wanted = sums[i];
      }
      if (!same_sum(routed[i], wanted)) complain("routed sums");
    }
    if (!routed.intact() || !pooled.intact()) complain("memory beside the routed map");
  }

  switchgrad::Dtype dtype_;
  bool shared_, channels_last_;
  int64_t batch_, channels_, count_ = 0;
  PlacedWindows windows_;
  std::vector<int64_t> begin_[3], end_[3];
  int width_ = 0;
};

template <class T>
void fuzz(switchgrad::Dtype dtype) {
  Fuzz<T>(dtype).run();
}

void fuzz_once(const PlacedPoolTable& table) {
  the_table = &table;
  switch (between(0, 8)) {
    case switchgrad::F64: return fuzz<double>(switchgrad::F64);
    case switchgrad::F32: return fuzz<float>(switchgrad::F32);
    case switchgrad::F16: return fuzz<Half>(switchgrad::F16);
    case switchgrad::BF16: return fuzz<Brain>(switchgrad::BF16);
    case switchgrad::U8: return fuzz<uint8_t>(switchgrad::U8);
    case switchgrad::I8: return fuzz<int8_t>(switchgrad::I8);
    case switchgrad::I16: return fuzz<int16_t>(switchgrad::I16);
    case switchgrad::I32: return fuzz<int32_t>(switchgrad::I32);
    default: return fuzz<int64_t>(switchgrad::I64);
  }
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::tell, fuzz::fuzz_once); }
