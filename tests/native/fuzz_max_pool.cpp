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
#include "fuzz/codes.h"
#include "fuzz/maps.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
#include "fuzz/windows.h"
#include "max_pool/index.h"
#include "max_pool/job.h"

namespace switchgrad {
SWITCHGRAD_TABLE(MaxScatterTable, max_scatter_table)
}

namespace fuzz {
namespace {

using switchgrad::MaxPoolTable;
using switchgrad::MaxScatterTable;
using switchgrad::PoolJob;
using switchgrad::RouteJob;

struct Tables {
  const MaxPoolTable& pool;
  const MaxScatterTable& scatter;
};
template <const MaxPoolTable& (*Pool)(), const MaxScatterTable& (*Scatter)()>
const Tables& both() {
  static const Tables tables{Pool(), Scatter()};
  return tables;
}

#define SWITCHGRAD_SERVER(isa) {#isa, &both<switchgrad::isa::max_pool_table, switchgrad::isa::max_scatter_table>},
constexpr Server<Tables> servers[] = {SWITCHGRAD_SERVERS};

const MaxPoolTable* the_table = nullptr;
const MaxScatterTable* the_scatter = nullptr;

// ---- geometry ----------------------------------------------------------------------------------------------------

struct {
  Window window;
  Maps maps;
} current;

void show() {
  current.maps.tell();
  for (const Axis& a : current.window.axis) tell_axis(a);
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
  return settle_all(window.axis, 3) && window.output_cells() * window.cells() < 3'000'000 &&
         window.output_cells() < 20'000;
}

// ---- forward and backward ----------------------------------------------------------------------------------------

template <class T>
class Fuzz {
 public:
  Fuzz(switchgrad::Dtype dtype, const Window& window)
      : window_(window),
        maps_(any_maps(dtype, chance(50), 4, chance(3) ? 1100 : 150)),
        pooled_count_(maps_.planes() * window.output_cells()),
        codes_(0, pooled_count_, window.cells()) {}

  void run() {
    const int64_t seen = maps_.planes() * window_.output_cells() * window_.cells();
    if (maps_.planes() * std::max(window_.input_cells(), window_.output_cells()) > 400'000) return;
    if (seen > (chance(5) ? 20'000'000 : 1'000'000)) return;  // many small cases find more than a few large ones
    current = {window_, maps_};
    forward();
    if (chance(10)) codes_.spoil();
    backward();
    addresses();
  }

 private:
  // The kernel for these maps and codes.
  template <class Kernel>
  Kernel of(const Kernel (&planar)[switchgrad::dtype_count][switchgrad::code_count],
            const Kernel (&channels_last)[switchgrad::dtype_count][switchgrad::code_count]) const {
    return (maps_.channels_last ? channels_last : planar)[maps_.dtype][codes_.width];
  }
  // Calls body(n, c, place, where in the pooled map).
  template <class F>
  void for_each_pooled(F&& body) const {
    const int64_t places = window_.output_cells();
    maps_.each(places, [&](int64_t n, int64_t c, int64_t place) { body(n, c, place, maps_.at(n, c, place, places)); });
  }

  void forward() {
    PoolJob job;
    job.window = window_;
    job.batch = maps_.batch;
    job.channels = maps_.channels;
    const Axis* axis = window_.axis;
    const int64_t sizes[5] = {maps_.batch, maps_.channels, axis[0].size, axis[1].size, axis[2].size};
    const int64_t span = any_strides(sizes, maps_.channels_last, job.input_stride);
    Buffer<T> input(1, span), values(2, pooled_count_);
    const int kind = static_cast<int>(between(0, 3));
    for (int64_t i = 0; i < span; ++i) input[i] = any_number<T>(kind);
    const bool keep = chance(85);
    job.input = input.get();
    job.values = values.get();
    job.codes = keep ? codes_.get() : nullptr;
    in_chunks(
        of(the_table->pool_planar, the_table->pool_channels_last), job,
        maps_.channels_last ? maps_.batch * window_.output_cells() : maps_.planes() * axis[0].places * axis[1].places);
    for_each_pooled([&](int64_t n, int64_t c, int64_t place, int64_t here) {
      T best = lowest<T>();
      int64_t winner = -1;
      cells_of(window_, place, [&](int64_t code, int64_t d, int64_t h, int64_t w) {
        const int64_t* s = job.input_stride;
        const T x = input[n * s[0] + c * s[1] + d * s[2] + h * s[3] + w * s[4]];
        if (winner >= 0 && !(order(x) > order(best)) && order(x) == order(x)) return;
        best = x;
        winner = code;
      });
      if (!same(values[here], best)) complain("values");
      if (winner < 0) winner = codes_.none();
      if (keep && codes_[here] != winner) complain("codes");
      codes_.set(here, winner);
    });
    if (!values.intact() || !codes_.intact() || !input.intact()) complain("memory beside the pooled map");
  }

  void backward() {
    using Sum = SumOf<T>;
    RouteJob job;
    job.window = window_;
    job.batch = maps_.batch;
    job.channels = maps_.channels;
    const int64_t routed_count = maps_.planes() * window_.input_cells();
    Buffer<T> pooled(3, pooled_count_), routed(4, routed_count), scattered(5, routed_count);
    const int kind = is_real<T> && chance(30) ? 1 : 3;
    for (int64_t i = 0; i < pooled_count_; ++i) pooled[i] = any_number<T>(kind);
    job.pooled = pooled.get();
    job.codes = codes_.get();
    job.routed = routed.get();
    const Axis* axis = window_.axis;
    in_chunks(of(the_table->route_planar, the_table->route_channels_last), job,
              maps_.channels_last ? maps_.batch * window_.input_cells() : maps_.planes() * axis[0].size * axis[1].size);
    const bool scatters = !maps_.channels_last || codes_.width == switchgrad::Code8;
    job.routed = scattered.get();
    if (!maps_.channels_last) {
      in_chunks(the_table->scatter_planar[maps_.dtype][codes_.width], job, maps_.planes());
    } else if (scatters) {
      const int64_t chunk = switchgrad::scatter_chunk, chunks = (maps_.channels + chunk - 1) / chunk;
      in_chunks(the_scatter->channels_last[maps_.dtype], job, maps_.batch * chunks);
    }
    std::vector<Sum> sums(routed_count, Sum{0});
    for_each_pooled([&](int64_t n, int64_t c, int64_t place, int64_t here) {
      cells_of(window_, place, [&](int64_t code, int64_t d, int64_t h, int64_t w) {
        if (codes_[here] != code) return;
        Sum& sum = sums[maps_.at(n, c, (d * axis[1].size + h) * axis[2].size + w, window_.input_cells())];
        sum = static_cast<Sum>(sum + order(pooled[here]));
      });
    });
    for (int64_t i = 0; i < routed_count; ++i) {
      const T wanted = written<T>(sums[i]);
      if (!same_sum(routed[i], wanted)) complain("routed sums");
      if (scatters && !same_sum(scattered[i], wanted)) complain("scattered sums");
    }
    if (!routed.intact() || !scattered.intact() || !codes_.intact() || !pooled.intact())
      complain("memory beside the routed map");
  }

  // Flat indices by switch: inside the input, or known to be foreign.
  void addresses() const {
    const Axis* axis = window_.axis;
    const switchgrad::Winners winners{window_, {axis[1].size * axis[2].size, axis[2].size, 1}};
    for_each_pooled([&](int64_t, int64_t, int64_t place, int64_t here) {
      int64_t wanted = codes_[here] == codes_.none() ? -1 : -2;
      cells_of(window_, place, [&](int64_t code, int64_t d, int64_t h, int64_t w) {
        if (wanted == -2 && code == codes_[here]) wanted = (d * axis[1].size + h) * axis[2].size + w;
      });
      if (winners.offset(place, codes_[here], codes_.none()) != wanted) complain("flat indices");
    });
  }

  Window window_;
  Maps maps_;
  int64_t pooled_count_;
  Codes codes_;
};

void fuzz_once(const Tables& tables) {
  the_table = &tables.pool;
  the_scatter = &tables.scatter;
  Window window;
  if (!any_window(window)) return;
  with_any_dtype([&](auto number, switchgrad::Dtype dtype) { Fuzz<decltype(number)>(dtype, window).run(); });
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
