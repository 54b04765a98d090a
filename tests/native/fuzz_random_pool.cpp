// Fuzzes stochastic pooling and max-pooling dropout without PyTorch or Python: random geometries, seeds, dtypes,
// strides and layouts in buffers of exactly the right size, against loops that draw each word by itself, under
// AddressSanitizer and UBSan. scripts/sanitize builds and runs it.
//
//   fuzz_random_pool SECONDS [SEED]      for each of the instruction sets that SWITCHGRAD_SERVERS lists
//
// As in fuzz_max_pool.cpp, jobs are cut into chunks that run in any order, and guard pages stand beside half of the
// buffers. Values and switches must be those of the loops, bit for bit, but for the payload of a NaN.
#include "cpu/isa.h"
#include "fuzz/codes.h"
#include "fuzz/maps.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
#include "fuzz/windows.h"
#include "random_pool/job.h"

namespace switchgrad {
SWITCHGRAD_TABLE(RandomPoolTable, random_pool_table)
}

namespace fuzz {
namespace {

using switchgrad::RandomPoolTable;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::random_pool_table},
constexpr Server<RandomPoolTable> servers[] = {SWITCHGRAD_SERVERS};

struct {
  Window window;
  Maps maps;
  bool drops;
} current;

void show() {
  current.maps.tell();
  std::printf("%s\n", current.drops ? "dropout" : "stochastic");
  for (const Axis& a : current.window.axis) tell_axis(a);
}

// False where the window does not fit, or is too much work.
bool any_window(Window& window) {
  window = Window{};
  const int64_t dims = between(1, 3);
  const bool wide = chance(60);
  for (int64_t i = 3 - dims; i < 3; ++i) window.axis[i] = any_axis(i == 2 && wide);
  if (chance(4)) window.axis[2] = {between(250, 600), between(100, 300), between(1, 90), between(0, 99), 0, 1, 1};
  return settle_all(window.axis, 3) && window.output_cells() * window.cells() < 60'000;
}

// The word of a place: Threefry-2x32-20, once more.
uint32_t word(uint64_t seed, uint64_t place) {
  const uint64_t counter = place / 32 * 16 + place % 16;
  uint32_t keys[3] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), 0};
  keys[2] = 0x1bd11bda ^ keys[0] ^ keys[1];
  uint32_t x = static_cast<uint32_t>(counter) + keys[0], y = static_cast<uint32_t>(counter >> 32) + keys[1];
  constexpr int turns[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  for (uint32_t round = 0; round < 20; ++round) {
    const int turn = turns[round % 8];
    x += y;
    y = (y << turn | y >> (32 - turn)) ^ x;
    if (round % 4 != 3) continue;
    const uint32_t step = round / 4 + 1;
    x += keys[step % 3];
    y += keys[(step + 1) % 3] + step;
  }
  return place % 32 < 16 ? x : y;
}

template <class T>
class Fuzz {
 public:
  using A = std::conditional_t<std::is_same_v<T, double>, double, float>;

  Fuzz(switchgrad::Dtype dtype, const Window& window)
      : window_(window), drops_(chance(50)), maps_(any_maps(dtype, chance(50), 4, 70)) {}

  void run(const RandomPoolTable& table) {
    const int64_t count = maps_.planes() * window_.output_cells();
    if (count * window_.cells() > 60'000 || maps_.planes() * window_.input_cells() > 60'000) return;
    current = {window_, maps_, drops_};
    switchgrad::RandomPoolJob job;
    job.pool.window = window_;
    job.pool.batch = maps_.batch;
    job.pool.channels = maps_.channels;
    const Axis* axis = window_.axis;
    const int64_t sizes[5] = {maps_.batch, maps_.channels, axis[0].size, axis[1].size, axis[2].size};
    const int64_t span = any_strides(sizes, maps_.channels_last, job.pool.input_stride);
    Buffer<T> input(0, span), values(1, count);
    Codes codes(2, count, window_.cells());
    const int kind = static_cast<int>(between(0, 3));
    for (int64_t i = 0; i < span; ++i) input[i] = any_number<T>(chance(90) ? kind : 3);
    job.pool.input = input.get();
    job.pool.values = values.get();
    job.pool.codes = codes.get();
    job.seed = random_bits();
    job.threshold = chance(10) ? 0 : static_cast<uint32_t>(random_bits());
    const auto& planar = drops_ ? table.dropout_planar : table.stochastic_planar;
    const auto& channels_last = drops_ ? table.dropout_channels_last : table.stochastic_channels_last;
    in_chunks((maps_.channels_last ? channels_last : planar)[maps_.dtype], job,
              (maps_.channels_last ? maps_.batch : maps_.planes()) * axis[0].places * axis[1].places);
    if (!input.intact() || !values.intact() || !codes.intact()) complain("memory beside input, values or switches");
    compare(job, input, values, codes);
  }

 private:
  struct Cell {
    int64_t code, at, place;  // in the window, in the input's memory, row-major in its map
  };

  void compare(const switchgrad::RandomPoolJob& job, const Buffer<T>& input, const Buffer<T>& values,
               const Codes& codes) const {
    const Axis &y = window_.axis[1], &x = window_.axis[2];
    const int64_t places = window_.output_cells();
    std::vector<Cell> cells;
    maps_.each(places, [&](int64_t n, int64_t c, int64_t place) {
      cells.clear();
      cells_of(window_, place, [&](int64_t code, int64_t d, int64_t h, int64_t w) {
        const int64_t* s = job.pool.input_stride;
        cells.push_back({code, n * s[0] + c * s[1] + d * s[2] + h * s[3] + w * s[4], (d * y.size + h) * x.size + w});
      });
      const int64_t plane = n * maps_.channels + c, to = maps_.at(n, c, place, places);
      const Cell* won = drops_ ? left(job, input, cells, plane) : drawn(job, input, cells, plane * places + place);
      if (codes[to] != (won ? won->code : codes.none())) complain("switches");
      const T wanted = won ? input[won->at] : T{};
      if (!same(values[to], wanted) && !(is_nan(wanted) && is_nan(values[to]))) complain("values");
    });
  }

  static bool is_nan(T x) { return order(x) != order(x); }

  static A wide(T x) { return static_cast<A>(order(x)); }

  const Cell* largest(const Buffer<T>& input, const std::vector<Cell>& cells) const {
    const Cell* best = nullptr;
    for (const Cell& cell : cells) {
      const A here = wide(input[cell.at]);
      if (!best || here > wide(input[best->at]) || here != here) best = &cell;
    }
    return best;
  }

  const Cell* drawn(const switchgrad::RandomPoolJob& job, const Buffer<T>& input, const std::vector<Cell>& cells,
                    int64_t place) const {
    const Cell* best = largest(input, cells);
    if (!best || !std::isfinite(wide(input[best->at]))) return best;
    const A top = wide(input[best->at]);
    int exponent = 0;
    std::frexp(top, &exponent);
    constexpr int least = std::numeric_limits<A>::min_exponent - 1, most = std::numeric_limits<A>::max_exponent - 1;
    const A scale = std::ldexp(A{1}, std::clamp(1 - exponent, least, most));
    const auto weight = [&](const Cell& cell) {
      const A here = wide(input[cell.at]);
      return top > 0 ? (here > 0 ? here : 0) * scale : static_cast<A>(here > -std::numeric_limits<A>::infinity());
    };
    const uint32_t bits = word(job.seed, static_cast<uint64_t>(place));
    const A u = sizeof(A) == 8 ? static_cast<A>(bits * 0x1p-32) : static_cast<A>((bits >> 8) * 0x1p-24);
    A total = 0, running = 0;
    for (const Cell& cell : cells) total += weight(cell);
    const A limit = u * total;
    for (const Cell& cell : cells) {
      running += weight(cell);
      if (running > limit) return &cell;
    }
    return best;
  }

  const Cell* left(const switchgrad::RandomPoolJob& job, const Buffer<T>& input, const std::vector<Cell>& cells,
                   int64_t plane) const {
    const Cell* best = nullptr;
    A top = 0;
    bool kept = false;
    for (const Cell& cell : cells) {
      const bool keep =
          word(job.seed, static_cast<uint64_t>(plane * window_.input_cells() + cell.place)) >= job.threshold;
      const A here = keep ? wide(input[cell.at]) : 0;
      if (best && !(here > top) && here == here) continue;
      best = &cell;
      top = here;
      kept = keep;
    }
    return kept ? best : nullptr;
  }

  Window window_;
  bool drops_;
  Maps maps_;
};

void fuzz_once(const RandomPoolTable& table) {
  Window window;
  if (!any_window(window)) return;
  with_any_float([&](auto number, switchgrad::Dtype dtype) { Fuzz<decltype(number)>(dtype, window).run(table); });
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
