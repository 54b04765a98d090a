// Fuzzes stochastic pooling and max-pooling dropout without PyTorch or Python: random geometries, seeds, dtypes,
// strides and layouts in buffers of exactly the right size, against loops that draw each word by itself, under
// AddressSanitizer and UBSan. scripts/sanitize builds and runs it.
//
//   fuzz_random_pool SECONDS [SEED]      for each of the instruction sets that SWITCHGRAD_SERVERS lists
//
// As in fuzz_max_pool.cpp, jobs are cut into chunks that run in any order, and guard pages stand beside half of the
// buffers. Values and switches must be those of the loops, bit for bit, but for the payload of a NaN.
#include "cpu/isa.h"
#include "fuzz/memory.h"
#include "fuzz/run.h"
#include "random_pool/job.h"

namespace switchgrad {
SWITCHGRAD_TABLE(RandomPoolTable, random_pool_table)
}

namespace fuzz {
namespace {

using switchgrad::Axis;
using switchgrad::RandomPoolTable;
using switchgrad::Window;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::random_pool_table},
constexpr Server<RandomPoolTable> servers[] = {SWITCHGRAD_SERVERS};

struct {
  Window window;
  int64_t batch = 1, channels = 1;
  const char* how = "";
} current;

void tell() {
  tell_seed();
  std::printf("%s, batch %d, channels %d\n", current.how, static_cast<int>(current.batch),
              static_cast<int>(current.channels));
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

Axis any_axis(bool wide) {
  Axis a;
  a.size = wide ? between(1, 150) : between(1, 7);
  a.kernel = chance(40) ? 2 : between(1, 4);
  a.stride = chance(50) ? a.kernel : between(1, 5);
  a.dilation = chance(70) ? 1 : between(1, 4);
  if (chance(50)) {
    a.pad_begin = between(0, a.span() - 1);
    a.pad_end = chance(50) ? a.pad_begin : between(0, a.span() - 1);
  }
  return a;
}

// False where the window does not fit, or is too much work.
bool any_window(Window& window) {
  window = Window{};
  const int64_t dims = between(1, 3);
  const bool wide = chance(60);
  for (int64_t i = 3 - dims; i < 3; ++i) window.axis[i] = any_axis(i == 2 && wide);
  if (chance(4)) window.axis[2] = {between(250, 600), between(100, 300), between(1, 90), between(0, 99), 0, 1, 1};
  try {
    for (int i = 0; i < 3; ++i) settle(window.axis[i], i, chance(50));
  } catch (const std::runtime_error&) {
    return false;
  }
  return window.output_cells() * window.cells() < 60'000;
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

  Fuzz(const Window& window, bool drops)
      : window_(window),
        drops_(drops),
        channels_last_(chance(50)),
        channels_(channels_last_ && chance(50) ? between(1, 70) : between(1, 4)),
        batch_(between(1, 3)),
        width_(switchgrad::code_width(window.cells())) {}

  void run(switchgrad::RandomPoolKernel planar, switchgrad::RandomPoolKernel channels_last) {
    const int64_t planes = batch_ * channels_, count = planes * window_.output_cells();
    if (count * window_.cells() > 60'000 || planes * window_.input_cells() > 60'000) return;
    current = {window_, batch_, channels_, drops_ ? "dropout" : "stochastic"};
    switchgrad::RandomPoolJob job;
    job.pool.window = window_;
    job.pool.batch = batch_;
    job.pool.channels = channels_;
    const int64_t span = any_strides(job.pool.input_stride);
    Buffer<T> input(0, span), values(1, count);
    Buffer<char> codes(2, count << width_);
    const int kind = static_cast<int>(between(0, 3));
    for (int64_t i = 0; i < span; ++i) input[i] = any_number<T>(chance(90) ? kind : 3);
    job.pool.input = input.get();
    job.pool.values = values.get();
    job.pool.codes = codes.get();
    job.seed = random_bits();
    job.threshold = chance(10) ? 0 : static_cast<uint32_t>(random_bits());
    const Axis* axis = window_.axis;
    const int64_t rows = batch_ * axis[0].places * axis[1].places;
    in_chunks(channels_last_ ? channels_last : planar, job, channels_last_ ? rows : rows * channels_);
    if (!input.intact() || !values.intact() || !codes.intact()) complain("memory beside input, values or switches");
    compare(job, input, values, codes);
  }

 private:
  int64_t any_strides(int64_t (&stride)[5]) const {
    const int64_t sizes[5] = {batch_, channels_, window_.axis[0].size, window_.axis[1].size, window_.axis[2].size};
    const std::vector<int> inside_out =
        channels_last_ ? std::vector<int>{1, 4, 3, 2, 0} : std::vector<int>{4, 3, 2, 1, 0};
    const bool compact = chance(50);
    int64_t step = 1, span = 1;
    for (size_t i = 0; i < 5; ++i) {
      const int axis = inside_out[i];
      stride[axis] = i > 0 && !compact && chance(10) ? 0 : step;
      span += (sizes[axis] - 1) * stride[axis];
      step = std::max(step, stride[axis] * sizes[axis]) + (compact || chance(60) ? 0 : between(1, 9));
    }
    return span;
  }

  struct Cell {
    int64_t code, at, place;  // in the window, in the input's memory, row-major in its map
  };

  void compare(const switchgrad::RandomPoolJob& job, const Buffer<T>& input, const Buffer<T>& values,
               const Buffer<char>& codes) const {
    const Axis &z = window_.axis[0], &y = window_.axis[1], &x = window_.axis[2];
    std::vector<Cell> cells;
    for (int64_t n = 0; n < batch_; ++n)
      for (int64_t c = 0; c < channels_; ++c)
        for (int64_t place = 0; place < window_.output_cells(); ++place) {
          const int64_t od = place / x.places / y.places, p = place / x.places % y.places, q = place % x.places;
          cells.clear();
          int64_t code = 0;
          for (int64_t a = 0; a < z.kernel; ++a)
            for (int64_t r = 0; r < y.kernel; ++r)
              for (int64_t s = 0; s < x.kernel; ++s, ++code) {
                const int64_t d = z.start(od) + a * z.dilation, h = y.start(p) + r * y.dilation,
                              w = x.start(q) + s * x.dilation;
                if (d < 0 || d >= z.size || h < 0 || h >= y.size || w < 0 || w >= x.size) continue;
                const int64_t* stride = job.pool.input_stride;
                cells.push_back({code, n * stride[0] + c * stride[1] + d * stride[2] + h * stride[3] + w * stride[4],
                                 (d * y.size + h) * x.size + w});
              }
          const int64_t plane = n * channels_ + c;
          const Cell* won = drops_ ? left(job, input, cells, plane)
                                   : drawn(job, input, cells, plane * window_.output_cells() + place);
          const int64_t to = channels_last_ ? (n * window_.output_cells() + place) * channels_ + c
                                            : plane * window_.output_cells() + place;
          if (code_at(codes, to) != (won ? won->code : width_ == switchgrad::Code8 ? 255 : -1)) complain("switches");
          const T wanted = won ? input[won->at] : T{};
          if (!same(values[to], wanted) && !(is_nan(wanted) && is_nan(values[to]))) complain("values");
        }
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

  int64_t code_at(const Buffer<char>& codes, int64_t i) const {
    const char* from = &codes[i << width_];
    if (width_ == switchgrad::Code8) return *reinterpret_cast<const uint8_t*>(from);
    if (width_ == switchgrad::Code16) return *reinterpret_cast<const int16_t*>(from);
    return *reinterpret_cast<const int32_t*>(from);
  }

  Window window_;
  bool drops_, channels_last_;
  int64_t channels_, batch_;
  switchgrad::CodeWidth width_;
};

template <class T>
void fuzz_dtype(const RandomPoolTable& table, switchgrad::Dtype dtype, const Window& window) {
  if (chance(50)) {
    Fuzz<T>(window, true).run(table.dropout_planar[dtype], table.dropout_channels_last[dtype]);
  } else {
    Fuzz<T>(window, false).run(table.stochastic_planar[dtype], table.stochastic_channels_last[dtype]);
  }
}

void fuzz_once(const RandomPoolTable& table) {
  Window window;
  if (!any_window(window)) return;
  switch (between(0, 3)) {
    case 0: return fuzz_dtype<double>(table, switchgrad::F64, window);
    case 1: return fuzz_dtype<Half>(table, switchgrad::F16, window);
    case 2: return fuzz_dtype<Brain>(table, switchgrad::BF16, window);
    default: return fuzz_dtype<float>(table, switchgrad::F32, window);
  }
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::tell, fuzz::fuzz_once); }
