// Fuzzes max pooling over windows at given places as fuzz_max_pool.cpp does max pooling: any lists of windows, the same
// for all maps or one for each, dtypes, strides and layouts, against loops; codes may be spoiled before the backward.
#include "cpu/isa.h"
#include "fuzz/codes.h"
#include "fuzz/maps.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
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
  Maps maps;
} current;

void show() {
  current.maps.tell();
  for (const PlacedAxis& a : current.windows.axis)
    std::printf("  size %d, at most %d cells, %d places, %s\n", static_cast<int>(a.size), static_cast<int>(a.kernel),
                static_cast<int>(a.places), a.apart ? "each map its own" : "shared");
}

template <class T>
class Fuzz {
 public:
  explicit Fuzz(switchgrad::Dtype dtype) : shared_(chance(50)), maps_(any_maps(dtype, shared_ && chance(60), 6)) {
    const int64_t dims = between(1, 3), maps = shared_ ? 1 : maps_.planes();
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
    count_ = maps_.planes() * windows_.output_cells();
  }

  void run() {
    if (maps_.planes() * std::max(windows_.input_cells(), windows_.output_cells() * 20) > 400'000) return;
    current = {windows_, maps_};
    Codes codes(0, count_, windows_.cells());
    forward(codes);
    if (chance(10)) codes.spoil();
    backward(codes);
    if (!codes.intact()) complain("memory beside the codes");
  }

 private:
  // Calls body(n, c, where in the pooled map, each) where each(cell) calls cell(code, d, h, w) in row-major order.
  template <class F>
  void for_each_window(F&& body) const {
    const PlacedAxis &z = windows_.axis[0], &y = windows_.axis[1], &x = windows_.axis[2];
    const int64_t places = windows_.output_cells();
    maps_.each(places, [&](int64_t n, int64_t c, int64_t place) {
      const int64_t map = n * maps_.channels + c, q = map * x.apart + place % x.places;
      const int64_t p = map * y.apart + place / x.places % y.places;
      const int64_t od = map * z.apart + place / x.places / y.places;
      body(n, c, maps_.at(n, c, place, places), [&](auto&& cell) {
        for (int64_t d = z.begin[od]; d < z.end[od]; ++d)
          for (int64_t h = y.begin[p]; h < y.end[p]; ++h)
            for (int64_t w = x.begin[q]; w < x.end[q]; ++w)
              cell(((d - z.begin[od]) * y.kernel + h - y.begin[p]) * x.kernel + w - x.begin[q], d, h, w);
      });
    });
  }

  void forward(Codes& codes) {
    PlacedPoolJob job;
    job.windows = windows_;
    job.batch = maps_.batch;
    job.channels = maps_.channels;
    const PlacedAxis* axis = windows_.axis;
    const int64_t sizes[5] = {maps_.batch, maps_.channels, axis[0].size, axis[1].size, axis[2].size};
    const int64_t span = any_strides(sizes, maps_.channels_last, job.input_stride);
    Buffer<T> input(1, span), values(2, count_);
    const int kind = static_cast<int>(between(0, 3));
    for (int64_t i = 0; i < span; ++i) input[i] = any_number<T>(kind);
    job.input = input.get();
    job.values = values.get();
    job.codes = codes.get();
    const auto& kernels = maps_.channels_last ? the_table->pool_channels_last : the_table->pool_planar;
    in_chunks(
        kernels[maps_.dtype][codes.width], job,
        maps_.channels_last ? maps_.batch * windows_.output_cells() : maps_.planes() * axis[0].places * axis[1].places);
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
      if (codes[here] != winner) complain("codes");
    });
    if (!values.intact() || !input.intact()) complain("memory beside the pooled map");
  }

  void backward(Codes& codes) {
    using Sum = SumOf<T>;
    PlacedRouteJob job;
    job.windows = windows_;
    job.batch = maps_.batch;
    job.channels = maps_.channels;
    const int64_t cells = windows_.input_cells();
    Buffer<T> pooled(3, count_), routed(4, maps_.planes() * cells);
    const int kind = is_real<T> && chance(30) ? 1 : 3;
    for (int64_t i = 0; i < count_; ++i) pooled[i] = any_number<T>(kind);
    job.pooled = pooled.get();
    job.codes = codes.get();
    job.routed = routed.get();
    const int64_t chunks = (maps_.channels + switchgrad::placed_chunk - 1) / switchgrad::placed_chunk;
    const auto& kernels = maps_.channels_last ? the_table->route_channels_last : the_table->route_planar;
    in_chunks(kernels[maps_.dtype][codes.width], job, maps_.channels_last ? maps_.batch * chunks : maps_.planes());
    std::vector<Sum> sums(static_cast<size_t>(maps_.planes() * cells), Sum{0});
    for_each_window([&](int64_t n, int64_t c, int64_t here, auto&& each) {
      each([&](int64_t code, int64_t d, int64_t h, int64_t w) {
        if (codes[here] != code) return;
        const PlacedAxis* axis = windows_.axis;
        Sum& sum = sums[maps_.at(n, c, (d * axis[1].size + h) * axis[2].size + w, cells)];
        sum = static_cast<Sum>(sum + order(pooled[here]));
      });
    });
    for (int64_t i = 0; i < maps_.planes() * cells; ++i)
      if (!same_sum(routed[i], written<T>(sums[i]))) complain("routed sums");
    if (!routed.intact() || !pooled.intact()) complain("memory beside the routed map");
  }

  bool shared_;
  Maps maps_;
  int64_t count_ = 0;
  PlacedWindows windows_;
  std::vector<int64_t> begin_[3], end_[3];
};

void fuzz_once(const PlacedPoolTable& table) {
  the_table = &table;
  with_any_dtype([](auto number, switchgrad::Dtype dtype) { Fuzz<decltype(number)>(dtype).run(); });
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
