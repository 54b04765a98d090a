// Fuzzes the kernels of weighted and blurred pooling as fuzz_max_pool.cpp does those of max pooling: any windows and
// borders, weights that are products of rows and columns and weights that are not, factors with zeros among them,
// dtypes, strides and layouts, against loops. Numbers are such that no sum is rounded, so that the order of additions
// does not matter; NaN and infinities are strewn in.
#include "cpu/isa.h"
#include "filter_pool/job.h"
#include "fuzz/maps.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
#include "fuzz/windows.h"

namespace switchgrad {
SWITCHGRAD_TABLE(FilterTable, filter_pool_table)
}

namespace fuzz {
namespace {

using switchgrad::FilterAxis;
using switchgrad::FilterJob;
using switchgrad::FilterTable;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::filter_pool_table},
constexpr Server<FilterTable> servers[] = {SWITCHGRAD_SERVERS};

const FilterTable* the_table = nullptr;

enum Border { empty, repeated, reflected };

// The windows along one axis, and on which cell of the input each padded cell lies.
struct Line {
  Axis axis;
  Border border = empty;
  std::vector<int32_t> source, first_back, back;

  void finish() {
    const int64_t reach = (axis.places - 1) * axis.stride + axis.span();
    for (int64_t t = 0; t < reach; ++t) source.push_back(static_cast<int32_t>(cell(t - axis.pad_begin)));
    first_back.push_back(0);
    for (int64_t at = 0; at < axis.size; ++at) {
      for (int64_t t = 0; t < reach; ++t)
        if (source[t] == at) back.push_back(static_cast<int32_t>(t));
      first_back.push_back(static_cast<int32_t>(back.size()));
    }
  }
  FilterAxis view() const {
    return {axis, static_cast<int64_t>(source.size()), source.data(), first_back.data(), back.data()};
  }

 private:
  int64_t cell(int64_t at) const {
    if (at >= 0 && at < axis.size) return at;
    if (border == empty) return -1;
    if (border == repeated) return at < 0 ? 0 : axis.size - 1;
    return at < 0 ? -at : 2 * (axis.size - 1) - at;
  }
};

struct {
  Line axis[3];
  Maps maps;
  bool products, scaled;
} current;

void show() {
  current.maps.tell();
  std::printf("%s, %s\n", current.products ? "products" : "any weights", current.scaled ? "factors" : "no factors");
  for (const Line& line : current.axis) {
    const Axis& a = line.axis;
    std::printf("  size %d, kernel %d, stride %d, before %d, dilation %d, places %d, border %d\n",
                static_cast<int>(a.size), static_cast<int>(a.kernel), static_cast<int>(a.stride),
                static_cast<int>(a.pad_begin), static_cast<int>(a.dilation), static_cast<int>(a.places), line.border);
  }
}

// False where the window does not fit, or what lies beyond cannot be reflected.
bool lay(Line& line, bool wide) {
  Axis& a = line.axis = any_axis(wide);
  if (chance(30)) a.stride = 2;
  try {
    settle(a, 0, chance(50));
  } catch (const std::runtime_error&) {
    return false;
  }
  if (chance(20)) a.places = between(1, a.places);  // the last cells may be nobody's
  line.border = static_cast<Border>(between(0, 2));
  const int64_t behind = (a.places - 1) * a.stride + a.span() - a.pad_begin - a.size;
  if (line.border == reflected && (a.pad_begin >= a.size || behind >= a.size)) return false;
  line.finish();
  return true;
}

template <class T>
class Fuzz {
  using A = SumOf<T>;

 public:
  explicit Fuzz(switchgrad::Dtype dtype) : maps_(any_maps(dtype, chance(50), 20)) {}

  void run() {
    for (int i = 0; i < 3; ++i) {
      const Axis& a = current.axis[i].axis;
      job_.axis[i] = current.axis[i].view();
      cells_ *= a.size;
      places_ *= a.places;
      taps_ *= a.kernel;
    }
    if (maps_.planes() * std::max(cells_, places_) > 200'000) return;
    current.maps = maps_;
    job_.batch = maps_.batch;
    job_.channels = maps_.channels;
    const int64_t columns = current.axis[2].axis.kernel, rows = taps_ / columns;
    Buffer<A> down(5, rows), along(6, columns), weights(7, taps_), factors(8, places_);
    for (int64_t i = 0; i < rows; ++i) down[i] = any_weight();
    for (int64_t i = 0; i < columns; ++i) along[i] = any_weight();
    for (int64_t i = 0; i < taps_; ++i)
      weights[i] = current.products ? down[i / columns] * along[i % columns] : any_weight();
    for (int64_t i = 0; i < places_; ++i) factors[i] = chance(20) ? A{0} : chance(50) ? A{0.5} : A{2};
    job_.weights = weights.get();
    job_.down = current.products ? down.get() : nullptr;
    job_.along = current.products ? along.get() : nullptr;
    job_.factors = current.scaled ? factors.get() : nullptr;
    weights_ = &weights;
    factors_ = &factors;
    forward();
    backward();
    if (!down.intact() || !along.intact() || !weights.intact() || !factors.intact()) complain("memory beside the job");
  }

 private:
  static A any_weight() { return static_cast<A>(between(-2, 4)) / 2; }
  double scaled(double sum, int64_t place) const {
    if (!current.scaled) return sum;
    return (*factors_)[place] == 0 ? 0 : sum * (*factors_)[place];
  }
  // Calls body(weight, d, h, w) for the cells of the window at a place that lie in the input or on one of its cells.
  template <class F>
  void for_each_cell(int64_t place, F&& body) const {
    const Line &z = current.axis[0], &y = current.axis[1], &x = current.axis[2];
    const int64_t q = place % x.axis.places, p = place / x.axis.places % y.axis.places;
    const int64_t od = place / x.axis.places / y.axis.places;
    int64_t tap = 0;
    for (int64_t a = 0; a < z.axis.kernel; ++a)
      for (int64_t r = 0; r < y.axis.kernel; ++r)
        for (int64_t s = 0; s < x.axis.kernel; ++s, ++tap) {
          const int64_t d = z.source[od * z.axis.stride + a * z.axis.dilation];
          const int64_t h = y.source[p * y.axis.stride + r * y.axis.dilation];
          const int64_t w = x.source[q * x.axis.stride + s * x.axis.dilation];
          if (d >= 0 && h >= 0 && w >= 0) body((*weights_)[tap], d, h, w);
        }
  }

  void forward() {
    const Line* a = current.axis;
    const int64_t sizes[5] = {maps_.batch, maps_.channels, a[0].axis.size, a[1].axis.size, a[2].axis.size};
    const int64_t span = any_strides(sizes, maps_.channels_last, job_.stride);
    Buffer<T> input(1, span), pooled(2, maps_.planes() * places_);
    for (int64_t i = 0; i < span; ++i) input[i] = any_summand<T>();
    job_.maps = input.get();
    job_.pooled = pooled.get();
    in_chunks(maps_.channels_last ? the_table->sums_channels_last[maps_.dtype] : the_table->sums_planar[maps_.dtype],
              job_, (maps_.channels_last ? maps_.batch : maps_.planes()) * a[0].axis.places * a[1].axis.places);
    maps_.each(places_, [&](int64_t n, int64_t c, int64_t place) {
      double sum = 0;
      for_each_cell(place, [&](A weight, int64_t d, int64_t h, int64_t w) {
        const int64_t* s = job_.stride;
        sum += weight * static_cast<double>(order(input[n * s[0] + c * s[1] + d * s[2] + h * s[3] + w * s[4]]));
      });
      if (!same_sum(pooled[maps_.at(n, c, place, places_)], written<T>(scaled(sum, place)))) complain("sums");
    });
    if (!pooled.intact() || !input.intact()) complain("memory beside the sums");
  }

  void backward() {
    const Line* a = current.axis;
    Buffer<T> pooled(3, maps_.planes() * places_), maps(4, maps_.planes() * cells_);
    for (int64_t i = 0; i < maps_.planes() * places_; ++i) pooled[i] = any_summand<T>();
    std::vector<double> sums(static_cast<size_t>(maps_.planes() * cells_), 0.0);
    maps_.each(places_, [&](int64_t n, int64_t c, int64_t place) {
      const double grad = scaled(static_cast<double>(order(pooled[maps_.at(n, c, place, places_)])), place);
      for_each_cell(place, [&](A weight, int64_t d, int64_t h, int64_t w) {
        sums[maps_.at(n, c, (d * a[1].axis.size + h) * a[2].axis.size + w, cells_)] += weight * grad;
      });
    });
    FilterJob job = job_;
    job.pooled = pooled.get();
    job.maps = maps.get();
    in_chunks(
        maps_.channels_last ? the_table->spread_channels_last[maps_.dtype] : the_table->spread_planar[maps_.dtype], job,
        (maps_.channels_last ? maps_.batch : maps_.planes()) * a[0].axis.size * a[1].axis.size);
    for (int64_t i = 0; i < maps_.planes() * cells_; ++i)
      if (!same_sum(maps[i], written<T>(sums[i]))) complain("shares");
    if (!maps.intact() || !pooled.intact()) complain("memory beside the shares");
  }

  Maps maps_;
  int64_t cells_ = 1, places_ = 1, taps_ = 1;
  const Buffer<A>* weights_ = nullptr;
  const Buffer<A>* factors_ = nullptr;
  FilterJob job_;
};

void fuzz_once(const FilterTable& table) {
  the_table = &table;
  const int64_t dims = between(1, 3);
  const bool wide = chance(70);
  for (int64_t i = 0; i < 3; ++i) {
    current.axis[i] = Line{};
    if (i < 3 - dims) {
      current.axis[i].finish();
    } else if (!lay(current.axis[i], i == 2 && wide)) {
      return;
    }
  }
  current.products = chance(50);
  current.scaled = chance(50);
  with_any_float([](auto number, switchgrad::Dtype dtype) { Fuzz<decltype(number)>(dtype).run(); });
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
