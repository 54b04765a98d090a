// Fuzzes the average-pooling kernels as fuzz_max_pool.cpp does those of max pooling: any windows, bins as adaptive
// pooling has them, divisors, dtypes, strides and layouts, against loops. Numbers are such that no sum is rounded, so
// that the order of additions does not matter; NaN and infinities are strewn in.
#include "avg_pool/job.h"
#include "cpu/isa.h"
#include "fuzz/maps.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
#include "fuzz/windows.h"

namespace switchgrad {
SWITCHGRAD_TABLE(AveragePoolTable, avg_pool_table)
}

namespace fuzz {
namespace {

using switchgrad::AverageJob;
using switchgrad::AveragePoolTable;
using switchgrad::Bins;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::avg_pool_table},
constexpr Server<AveragePoolTable> servers[] = {SWITCHGRAD_SERVERS};

const AveragePoolTable* the_table = nullptr;

// The windows along one axis, each with its cells in the input, and which windows hold a cell.
struct Line {
  Bins bins;
  std::vector<int64_t> start, cells, first, last, cover_begin, cover_end;
  std::vector<double> factor;

  // The input cells of a window, in order.
  std::vector<int64_t> of(int64_t place) const {
    std::vector<int64_t> found;
    for (int64_t c = 0; c < cells[place]; ++c) {
      const int64_t at = start[place] + c * bins.dilation;
      if (at >= 0 && at < bins.size) found.push_back(at);
    }
    return found;
  }

  void finish() {
    bins.places = static_cast<int64_t>(start.size());
    bins.kernel = *std::max_element(cells.begin(), cells.end());
    for (int64_t p = 0; p < bins.places; ++p) {
      int64_t begin = 0;
      while (begin < cells[p] && start[p] + begin * bins.dilation < 0) ++begin;
      int64_t end = 0;
      while (end < cells[p] && start[p] + end * bins.dilation < bins.size) ++end;
      first.push_back(begin);
      last.push_back(end);
    }
    bins.most = 1;
    for (int64_t at = 0; at < bins.size; ++at) {
      int64_t begin = 0;
      while (begin < bins.places && start[begin] + (cells[begin] - 1) * bins.dilation < at) ++begin;
      int64_t end = begin;
      while (end < bins.places && start[end] <= at) ++end;
      cover_begin.push_back(begin);
      cover_end.push_back(end);
      bins.most = std::max(bins.most, end - begin);
    }
  }
  Bins view() const {
    Bins b = bins;
    b.start = start.data();
    b.cells = cells.data();
    b.first = first.data();
    b.last = last.data();
    b.cover_begin = cover_begin.data();
    b.cover_end = cover_end.data();
    b.factor = factor.data();
    return b;
  }
};

struct {
  Line axis[3];
  Maps maps;
  bool multiply;
} current;

void show() {
  current.maps.tell();
  std::printf("%s\n", current.multiply ? "multiplied" : "divided");
  for (const Line& line : current.axis) {
    std::printf("  size %d, dilation %d:", static_cast<int>(line.bins.size), static_cast<int>(line.bins.dilation));
    for (size_t p = 0; p < line.start.size() && p < 12; ++p)
      std::printf(" %d+%d", static_cast<int>(line.start[p]), static_cast<int>(line.cells[p]));
    std::printf(" (%d places)\n", static_cast<int>(line.bins.places));
  }
}

// False where the window does not fit.
bool lay(Line& line, bool wide) {
  Axis a = any_axis(wide);
  if (chance(15)) {  // one window over everything
    a = Axis{};
    a.size = a.kernel = a.stride = wide ? between(1, 60) : between(1, 9);
    if (chance(30)) a.pad_begin = between(0, a.size - 1);  // half of it beside the map
  } else if (chance(10)) {                                 // wide windows
    a.kernel = between(1, wide ? 50 : 5);
    a.stride = a.kernel;
  }
  if (chance(25)) {
    line.bins.size = a.size;
    const int64_t places = between(1, 12);
    line.bins.stride = a.size % places == 0 ? a.size / places : 0;
    for (int64_t p = 0; p < places; ++p) {
      line.start.push_back(p * a.size / places);
      line.cells.push_back(((p + 1) * a.size + places - 1) / places - line.start.back());
    }
  } else {
    try {
      settle(a, 0, chance(50));
    } catch (const std::runtime_error&) {
      return false;
    }
    line.bins.size = a.size;
    line.bins.stride = a.stride;
    line.bins.dilation = a.dilation;
    for (int64_t p = 0; p < a.places; ++p) {
      line.start.push_back(a.start(p));
      line.cells.push_back(a.kernel);
    }
  }
  line.finish();
  return true;
}

template <class T>
class Fuzz {
  using Sum = SumOf<T>;

 public:
  explicit Fuzz(switchgrad::Dtype dtype) : maps_(any_maps(dtype, chance(50), 20)) {}

  void run() {
    int64_t seen = maps_.planes();
    for (int i = 0; i < 3; ++i) {
      job_.bins[i] = current.axis[i].view();
      cells_ *= job_.bins[i].size;
      places_ *= job_.bins[i].places;
      seen *= job_.bins[i].places * job_.bins[i].kernel;
    }
    if (maps_.planes() * std::max(cells_, places_) > 400'000) return;
    if (seen > (chance(5) ? 10'000'000 : 500'000)) return;  // many small cases find more than a few large ones
    job_.multiply = current.multiply;
    job_.past_caches = chance(30);
    current.maps = maps_;
    job_.batch = maps_.batch;
    job_.channels = maps_.channels;
    forward();
    backward();
  }

 private:
  // Calls body(n, c, windows of three axes, place).
  template <class F>
  void for_each_window(F&& body) const {
    const Bins &y = job_.bins[1], &x = job_.bins[2];
    maps_.each(places_, [&](int64_t n, int64_t c, int64_t place) {
      body(n, c, place / x.places / y.places, place / x.places % y.places, place % x.places, place);
    });
  }
  Sum scaled(double sum, int64_t od, int64_t p, int64_t q) const {
    const auto factor = static_cast<Sum>(job_.bins[0].factor[od] * job_.bins[1].factor[p] * job_.bins[2].factor[q]);
    return current.multiply ? static_cast<Sum>(sum) * factor : static_cast<Sum>(sum) / factor;
  }
  template <class F>
  static void for_cells(const std::vector<int64_t>& d, const std::vector<int64_t>& h, const std::vector<int64_t>& w,
                        F&& body) {
    for (const int64_t i : d)
      for (const int64_t j : h)
        for (const int64_t k : w) body(i, j, k);
  }

  void forward() {
    const Bins* b = job_.bins;
    const int64_t sizes[5] = {maps_.batch, maps_.channels, b[0].size, b[1].size, b[2].size};
    const int64_t span = any_strides(sizes, maps_.channels_last, job_.stride);
    Buffer<T> input(1, span), values(2, maps_.planes() * places_);
    for (int64_t i = 0; i < span; ++i) input[i] = any_summand<T>();
    job_.from = input.get();
    job_.to = values.get();
    in_chunks(maps_.channels_last ? the_table->pool_channels_last[maps_.dtype] : the_table->pool_planar[maps_.dtype],
              job_, maps_.channels_last ? maps_.batch * places_ : maps_.planes() * places_ / b[2].places);
    for_each_window([&](int64_t n, int64_t c, int64_t od, int64_t p, int64_t q, int64_t place) {
      double sum = 0;
      for_cells(current.axis[0].of(od), current.axis[1].of(p), current.axis[2].of(q),
                [&](int64_t d, int64_t h, int64_t w) {
                  const int64_t* s = job_.stride;
                  sum += order(input[n * s[0] + c * s[1] + d * s[2] + h * s[3] + w * s[4]]);
                });
      if (!same_sum(values[maps_.at(n, c, place, places_)], written<T>(scaled(sum, od, p, q)))) complain("averages");
    });
    if (!values.intact() || !input.intact()) complain("memory beside the averages");
  }

  void backward() {
    const Bins* b = job_.bins;
    AverageJob job = job_;
    Buffer<T> pooled(3, maps_.planes() * places_), shares(4, maps_.planes() * cells_);
    for (int64_t i = 0; i < maps_.planes() * places_; ++i) pooled[i] = any_summand<T>();
    std::vector<double> sums(static_cast<size_t>(maps_.planes() * cells_), 0.0);
    for_each_window([&](int64_t n, int64_t c, int64_t od, int64_t p, int64_t q, int64_t place) {
      const Sum share = scaled(order(pooled[maps_.at(n, c, place, places_)]), od, p, q);
      for_cells(current.axis[0].of(od), current.axis[1].of(p), current.axis[2].of(q),
                [&](int64_t d, int64_t h, int64_t w) {
                  sums[maps_.at(n, c, (d * b[1].size + h) * b[2].size + w, cells_)] += share;
                });
    });
    job.from = pooled.get();
    job.to = shares.get();
    int64_t items = maps_.batch * cells_;
    if (!maps_.channels_last) {  // every plane counts as an image
      job.batch = maps_.planes();
      job.channels = 1;
      items = job.batch * cells_ / b[2].size;
    }
    in_chunks(
        maps_.channels_last ? the_table->spread_channels_last[maps_.dtype] : the_table->spread_planar[maps_.dtype], job,
        items);
    for (int64_t i = 0; i < maps_.planes() * cells_; ++i)
      if (!same_sum(shares[i], written<T>(static_cast<Sum>(sums[i])))) complain("shares");
    if (!shares.intact() || !pooled.intact()) complain("memory beside the shares");
  }

  Maps maps_;
  int64_t cells_ = 1, places_ = 1;
  AverageJob job_;
};

void fuzz_once(const AveragePoolTable& table) {
  the_table = &table;
  const int64_t dims = between(1, 3);
  const bool wide = chance(70);
  for (int64_t i = 0; i < 3; ++i) {
    current.axis[i] = Line{};
    Line& line = current.axis[i];
    if (i < 3 - dims) {
      line.start = {0};
      line.cells = {1};
      line.finish();
    } else if (!lay(line, i == 2 && wide)) {
      return;
    }
  }
  current.multiply = chance(50);
  for (Line& line : current.axis) {  // windows with as many cells in the input have the same divisor
    const int64_t key = between(0, 1 << 20);
    for (int64_t p = 0; p < line.bins.places; ++p) {
      const bool two = (key >> (std::max<int64_t>(line.last[p] - line.first[p], 0) % 20) & 1) != 0;
      line.factor.push_back(!two ? 1 : current.multiply ? 0.5 : 2);
    }
  }
  with_any_float([](auto number, switchgrad::Dtype dtype) { Fuzz<decltype(number)>(dtype).run(); });
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
