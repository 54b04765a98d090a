// Fuzzes pooling over boxes and suppression without PyTorch or Python: random bins, weights, winners, boxes, dtypes and
// strides in buffers of exactly the right size, against loops, under AddressSanitizer and UBSan. scripts/sanitize
// builds and runs it.
//
//   fuzz_regions SECONDS [SEED]      for each of the instruction sets that SWITCHGRAD_SERVERS lists
//
// Numbers are small and whole and weights are halves of such, so that every order of summation gives the same; a part
// of the maxima has any bits at all. As in fuzz_max_pool.cpp, jobs are cut into chunks that run in any order, and guard
// pages stand beside half of the buffers.
#include "cpu/isa.h"
#include "fuzz/maps.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
#include "regions/job.h"

namespace switchgrad {
SWITCHGRAD_TABLE(RegionTable, region_table)
}

namespace fuzz {
namespace {

using switchgrad::RegionJob;
using switchgrad::RegionTable;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::region_table},
constexpr Server<RegionTable> servers[] = {SWITCHGRAD_SERVERS};

RegionJob current;
int64_t current_boxes = 0;

void show() {
  std::printf("batch %d, channels %d, maps %d x %d, bins %d x %d, boxes %d, sensitive %d\n",
              static_cast<int>(current.batch), static_cast<int>(current.channels), static_cast<int>(current.height),
              static_cast<int>(current.width), static_cast<int>(current.places[0]), static_cast<int>(current.places[1]),
              static_cast<int>(current_boxes), current.sensitive);
}

// What each bin of each box holds along an axis: cells in rising order with weights, or a stretch of cells.
template <class A>
struct Bins {
  std::vector<int64_t> begin{0};
  std::vector<int32_t> cell, first, last;
  std::vector<A> weight;

  Bins(int64_t boxes, int64_t places, int64_t size) {
    for (int64_t i = 0; i < boxes * places; ++i) {
      const int64_t low = between(0, size), high = between(0, size);
      first.push_back(static_cast<int32_t>(low));
      last.push_back(static_cast<int32_t>(high));  // often below the first: a bin without a cell
      const int percent = static_cast<int>(between(0, 100));
      for (int64_t at = low; at < high; ++at)
        if (chance(percent)) {
          cell.push_back(static_cast<int32_t>(at));
          weight.push_back(static_cast<A>(between(0, 4)) / 2);
        }
      begin.push_back(static_cast<int64_t>(cell.size()));
    }
  }
};

template <class T>
class Fuzz {
 public:
  using A = std::conditional_t<std::is_same_v<T, double>, double, float>;

  explicit Fuzz(const RegionTable& table, switchgrad::Dtype dtype)
      : table_(table),
        dtype_(dtype),
        boxes_(between(0, 9)),
        height_(chance(80) ? between(1, 9) : between(10, 30)),
        width_(chance(80) ? between(1, 9) : between(10, 30)),
        rows_count_(between(1, 4)),
        columns_count_(between(1, 4)),
        rows_(boxes_, rows_count_, height_),
        columns_(boxes_, columns_count_, width_) {
    job_.batch = between(1, 3);
    job_.channels = chance(60) ? between(1, 6) : between(7, 40);
    job_.height = height_;
    job_.width = width_;
    job_.places[0] = rows_count_;
    job_.places[1] = columns_count_;
    job_.sensitive = chance(35);
    picture_.resize(boxes_);
    first_.assign(job_.batch + 1, 0);
    for (int64_t& n : picture_) n = between(0, job_.batch - 1);
    for (int64_t n = 0; n < job_.batch; ++n) {
      for (int64_t k = 0; k < boxes_; ++k)
        if (picture_[k] == n) order_.push_back(k);
      first_[n + 1] = static_cast<int64_t>(order_.size());
    }
    job_.first_box = first_.data();
    job_.box = order_.data();
    job_.weights[0] = {rows_.begin.data(), rows_.cell.data(), rows_.weight.data()};
    job_.weights[1] = {columns_.begin.data(), columns_.cell.data(), columns_.weight.data()};
    job_.bounds[0] = {rows_.first.data(), rows_.last.data()};
    job_.bounds[1] = {columns_.first.data(), columns_.last.data()};
  }

  void run() {
    current_boxes = boxes_;
    sums_and_spread();
    job_.sensitive = false;
    maxima();
  }

 private:
  int64_t map_channels() const { return job_.channels * (job_.sensitive ? job_.bins() : 1); }
  int64_t map_channel(int64_t c, int64_t p, int64_t q) const {
    return job_.sensitive ? (c * job_.places[0] + p) * job_.places[1] + q : c;
  }
  int64_t items() const { return job_.batch * job_.blocks() * (job_.sensitive ? job_.bins() : 1); }

  // Compact strides of four axes, planar or channels last; returns the elements.
  static int64_t lay_compact(const int64_t (&sizes)[4], int64_t (&stride)[4]) {
    return lay(sizes, chance(50) ? std::vector<int>{3, 2, 1, 0} : std::vector<int>{1, 3, 2, 0}, false, false, stride);
  }
  int64_t lay_maps() {
    const int64_t sizes[4] = {job_.batch, map_channels(), height_, width_};
    return lay_compact(sizes, job_.map_stride);
  }
  int64_t lay_pooled() {
    const int64_t sizes[4] = {boxes_, job_.channels, job_.places[0], job_.places[1]};
    return lay_compact(sizes, job_.pooled_stride);
  }
  int64_t map_at(int64_t n, int64_t c, int64_t h, int64_t w) const {
    const int64_t* s = job_.map_stride;
    return n * s[0] + c * s[1] + h * s[2] + w * s[3];
  }
  // Calls body(k, c, p, q, where in pooled) for the pooled cells, box after box.
  template <class F>
  void for_each_pooled(F&& body) const {
    const int64_t* s = job_.pooled_stride;
    for (int64_t k = 0; k < boxes_; ++k)
      for (int64_t c = 0; c < job_.channels; ++c)
        for (int64_t p = 0; p < job_.places[0]; ++p)
          for (int64_t q = 0; q < job_.places[1]; ++q) body(k, c, p, q, k * s[0] + c * s[1] + p * s[2] + q * s[3]);
  }
  // Calls body(h, w, weight) for what bin (p, q) of box k adds up.
  template <class F>
  void for_each_weight(int64_t k, int64_t p, int64_t q, F&& body) const {
    const int64_t row = k * job_.places[0] + p, column = k * job_.places[1] + q;
    for (int64_t i = rows_.begin[row]; i < rows_.begin[row + 1]; ++i)
      for (int64_t j = columns_.begin[column]; j < columns_.begin[column + 1]; ++j)
        body(rows_.cell[i], columns_.cell[j], rows_.weight[i] * columns_.weight[j]);
  }

  static T small() { return written<T>(between(-4, 4)); }
  static bool equal(T got, A wanted) { return same_sum(got, written<T>(wanted)); }

  void sums_and_spread() {
    const int64_t map_count = lay_maps(), pooled_count = lay_pooled();
    Buffer<T> maps(0, map_count), pooled(1, pooled_count);
    for (int64_t i = 0; i < map_count; ++i) maps[i] = small();
    job_.maps = maps.get();
    job_.pooled = pooled.get();
    current = job_;
    in_chunks(table_.sums[dtype_], job_, items());
    for_each_pooled([&](int64_t k, int64_t c, int64_t p, int64_t q, int64_t at) {
      A sum = 0;
      for_each_weight(k, p, q, [&](int64_t h, int64_t w, A weight) {
        sum += weight * static_cast<A>(order(maps[map_at(picture_[k], map_channel(c, p, q), h, w)]));
      });
      if (!equal(pooled[at], sum)) complain("sums");
    });
    for (int64_t i = 0; i < pooled_count; ++i) pooled[i] = small();
    std::vector<A> wanted(map_count);
    for_each_pooled([&](int64_t k, int64_t c, int64_t p, int64_t q, int64_t at) {
      for_each_weight(k, p, q, [&](int64_t h, int64_t w, A weight) {
        wanted[map_at(picture_[k], map_channel(c, p, q), h, w)] += weight * static_cast<A>(order(pooled[at]));
      });
    });
    in_chunks(table_.spread[dtype_], job_, items());
    for (int64_t i = 0; i < map_count; ++i)
      if (!equal(maps[i], wanted[i])) complain("the adjoint of sums");
    if (!maps.intact() || !pooled.intact()) complain("memory beside maps or sums");
  }

  void maxima() {
    const int64_t map_count = lay_maps(), pooled_count = lay_pooled();
    Buffer<T> maps(0, map_count), pooled(1, pooled_count);
    Buffer<int32_t> winners(2, pooled_count);
    const int kind = static_cast<int>(between(0, 3));
    for (int64_t i = 0; i < map_count; ++i) maps[i] = any_number<T>(kind);
    job_.maps = maps.get();
    job_.pooled = pooled.get();
    job_.winners = winners.get();
    current = job_;
    in_chunks(table_.maxima[dtype_], job_, items());
    for_each_pooled([&](int64_t k, int64_t c, int64_t p, int64_t q, int64_t at) {
      const int64_t row = k * job_.places[0] + p, column = k * job_.places[1] + q;
      int64_t winner = -1;
      A best = 0;
      for (int64_t h = rows_.first[row]; h < rows_.last[row]; ++h)
        for (int64_t w = columns_.first[column]; w < columns_.last[column]; ++w) {
          const A here = static_cast<A>(order(maps[map_at(picture_[k], c, h, w)]));
          if (winner >= 0 && !(here > best) && here == here) continue;
          winner = h * width_ + w;
          best = here;
        }
      if (winners[at] != winner) complain("winners");
      if (!equal(pooled[at], best)) complain("maxima");
    });
    if (chance(40))  // winners of another pooling, or of a damaged file: they must be harmless
      for (int64_t i = 0; i < pooled_count; ++i)
        if (chance(50)) winners[i] = static_cast<int32_t>(random_bits());
    by_winners(maps, pooled, winners, map_count, pooled_count);
  }

  void by_winners(Buffer<T>& maps, Buffer<T>& pooled, const Buffer<int32_t>& winners, int64_t map_count,
                  int64_t pooled_count) {
    const auto place = [&](int64_t at) {
      return winners[at] >= 0 && winners[at] < height_ * width_ ? int64_t{winners[at]} : int64_t{-1};
    };
    in_chunks(table_.gather[dtype_], job_, job_.batch * job_.channels);
    for_each_pooled([&](int64_t k, int64_t c, int64_t, int64_t, int64_t at) {
      const int64_t where = place(at);
      if (!same(pooled[at], where < 0 ? T{} : maps[map_at(picture_[k], c, where / width_, where % width_)]))
        complain("gathered");
    });
    for (int64_t i = 0; i < pooled_count; ++i) pooled[i] = small();
    std::vector<A> wanted(map_count);
    for_each_pooled([&](int64_t k, int64_t c, int64_t, int64_t, int64_t at) {
      if (const int64_t where = place(at); where >= 0)
        wanted[map_at(picture_[k], c, where / width_, where % width_)] += static_cast<A>(order(pooled[at]));
    });
    in_chunks(table_.route[dtype_], job_, job_.batch * job_.channels);
    for (int64_t i = 0; i < map_count; ++i)
      if (!equal(maps[i], wanted[i])) complain("routed");
    if (!maps.intact() || !pooled.intact() || !winners.intact()) complain("memory beside maps, maxima or winners");
  }

  const RegionTable& table_;
  switchgrad::Dtype dtype_;
  RegionJob job_;
  int64_t boxes_, height_, width_, rows_count_, columns_count_;
  Bins<A> rows_, columns_;
  std::vector<int64_t> picture_, first_, order_;
};

template <class A>
void fuzz_suppression(switchgrad::SuppressionKernel kernel) {
  switchgrad::SuppressionJob job;
  job.count = between(1, 80);
  Buffer<A> corners(0, 4 * job.count), areas(1, job.count);
  Buffer<int64_t> classes(2, job.count);
  Buffer<uint8_t> gone(3, job.count);
  for (int64_t i = 0; i < 4 * job.count; ++i)
    corners[i] = chance(2) ? any_number<A>(1) : static_cast<A>(between(0, i < 2 * job.count ? 12 : 20));
  const auto corner = [&](int64_t side, int64_t i) { return corners[side * job.count + i]; };
  for (int64_t i = 0; i < job.count; ++i) {
    areas[i] = (corner(2, i) - corner(0, i)) * (corner(3, i) - corner(1, i));
    classes[i] = between(0, 2);
    gone[i] = 0;
  }
  for (int side = 0; side < 4; ++side) job.corner[side] = corners.get() + side * job.count;
  job.area = areas.get();
  job.classes = chance(50) ? classes.get() : nullptr;
  job.threshold = static_cast<double>(between(-1, 4)) / 4;
  job.gone = gone.get();
  const int64_t by = between(0, job.count - 1), begin = between(0, job.count), end = between(begin, job.count);
  kernel(job, by, begin, end);
  for (int64_t i = 0; i < job.count; ++i) {
    const A left = std::max(corner(0, by), corner(0, i)), right = std::min(corner(2, by), corner(2, i));
    const A top = std::max(corner(1, by), corner(1, i)), bottom = std::min(corner(3, by), corner(3, i));
    const A inter = (right - left < 0 ? 0 : right - left) * (bottom - top < 0 ? 0 : bottom - top);
    const A both = areas[by] + areas[i] - inter;
    const bool over = (both == 0 ? 0 : inter / both) > static_cast<A>(job.threshold);
    const bool wanted = i >= begin && i < end && over && (!job.classes || classes[by] == classes[i]);
    if (gone[i] != wanted) complain("suppressed");
  }
  if (!corners.intact() || !areas.intact() || !gone.intact()) complain("memory beside the boxes");
}

void fuzz_once(const RegionTable& table) {
  switch (between(0, 5)) {
    case 0: return Fuzz<double>(table, switchgrad::F64).run();
    case 1: return Fuzz<Half>(table, switchgrad::F16).run();
    case 2: return Fuzz<Brain>(table, switchgrad::BF16).run();
    case 3:
      return chance(50) ? fuzz_suppression<float>(table.suppress_float)
                        : fuzz_suppression<double>(table.suppress_double);
    default: return Fuzz<float>(table, switchgrad::F32).run();
  }
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
