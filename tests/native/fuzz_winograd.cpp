// Fuzzes 3x3 and 5x5 convolution in Winograd's tiles without PyTorch or Python: random sizes, channels and strides in
// buffers of exactly the right size, against loops, under AddressSanitizer and UBSan. scripts/sanitize builds and runs
// it.
//
//   fuzz_winograd SECONDS [SEED]      for each of the instruction sets that SWITCHGRAD_SERVERS lists
//
// Numbers are small and whole: tiles of two are then exact, tiles of four near. A part of the cases has NaN and
// infinities among them: a kernel that does not say so must have met none. A part has any bits at all, where only
// memory is looked at. As in fuzz_max_pool.cpp, jobs are cut into chunks that run in any order, and guard pages stand
// beside half of the buffers.
#include "fuzz/memory.h"
#include "fuzz/products.h"
#include "fuzz/run.h"
#include "winograd/job.h"

namespace fuzz {
namespace {

using switchgrad::Pixels;
using switchgrad::WinogradKernels;
using switchgrad::WinogradTable;

#define SWITCHGRAD_SERVER(isa) {#isa, &switchgrad::isa::winograd_table},
constexpr Server<WinogradTable> servers[] = {SWITCHGRAD_SERVERS};

struct Geometry {
  int64_t batch = 1, channels = 1, filters = 1, size[2] = {}, pad[2] = {}, taps = 3, tile = 2;

  int64_t places(int axis) const { return size[axis] + 2 * pad[axis] - taps + 1; }
  int64_t tiles(int axis) const { return (places(axis) + tile - 1) / tile; }
  int64_t cells() const { return batch * places(0) * places(1); }
  int64_t all_taps() const { return taps * taps; }
  int64_t work() const { return all_taps() * cells() * channels * filters; }
} current;

void show() {
  std::printf("  batch %d, channels %d, filters %d, size %d x %d, padding %d x %d, %d taps, tiles of %d\n",
              static_cast<int>(current.batch), static_cast<int>(current.channels), static_cast<int>(current.filters),
              static_cast<int>(current.size[0]), static_cast<int>(current.size[1]), static_cast<int>(current.pad[0]),
              static_cast<int>(current.pad[1]), static_cast<int>(current.taps), static_cast<int>(current.tile));
}

int64_t any_channels() { return chance(50) ? between(1, 8) : chance(50) ? 16 * between(1, 5) : between(9, 70); }

bool any_geometry(Geometry& g) {
  g = Geometry{};
  g.batch = between(1, 3);
  g.channels = any_channels();
  g.filters = any_channels();
  g.taps = chance(50) ? 3 : 5;
  g.tile = 2 * between(1, 2);
  for (int i = 0; i < 2; ++i) {
    g.size[i] = chance(85) ? between(1, 12) : between(13, 40);
    g.pad[i] = between(0, g.taps - 1);
    if (g.places(i) < 1) return false;
  }
  return g.work() < 400'000;
}

// Pixels with their channels side by side, and gaps between columns, rows and images.
template <class E>
class Map {
 public:
  Map(int region, int64_t batch, int64_t rows, int64_t columns, int64_t channels, Kind kind)
      : pixels{nullptr, rows, columns, channels, {}}, span_(lay(batch)), buffer_(region, span_) {
    pixels.data = buffer_.get();
    for (int64_t i = 0; i < span_; ++i) buffer_[i] = any_real<E>(kind);
  }
  // 0 outside the map.
  E at(int64_t n, int64_t y, int64_t x, int64_t c) const {
    if (y < 0 || y >= pixels.rows || x < 0 || x >= pixels.columns) return 0;
    return buffer_[n * pixels.stride[0] + y * pixels.stride[1] + x * pixels.stride[2] + c];
  }
  bool intact() const { return buffer_.intact(); }

  Pixels pixels;

 private:
  int64_t lay(int64_t batch) {
    const auto gap = [] { return chance(70) ? 0 : between(1, 9); };
    pixels.stride[2] = pixels.channels + gap();
    pixels.stride[1] = pixels.columns * pixels.stride[2] + gap();
    pixels.stride[0] = pixels.rows * pixels.stride[1] + gap();
    return (batch - 1) * pixels.stride[0] + (pixels.rows - 1) * pixels.stride[1] +
           (pixels.columns - 1) * pixels.stride[2] + pixels.channels;
  }
  int64_t span_;
  Buffer<E> buffer_;
};

template <class E>
class Fuzz {
 public:
  Fuzz(const WinogradKernels& kernels, const Geometry& geometry)
      : kernels_(kernels),
        g_(geometry),
        kind_(any_kind()),
        input_(0, g_.batch, g_.size[0], g_.size[1], g_.channels, kind_),
        weight_(1, g_.filters * g_.channels * g_.all_taps()),
        bias_(2, g_.filters) {
    for (int64_t i = 0; i < g_.filters * g_.channels * g_.all_taps(); ++i) weight_[i] = any_real<E>(kind_);
    for (int64_t k = 0; k < g_.filters; ++k) bias_[k] = any_real<E>(kind_);
  }

  void run() {
    turned_ = chance(40);
    forward();
    if (chance(50)) pool();
    if (chance(50)) weight_gradient();
    if (!input_.intact() || !weight_.intact() || !bias_.intact()) complain("memory beside input, weight or bias");
  }

 private:
  // Turned, the same memory holds the filters of the way back: channels and filters change places.
  E tap(int64_t k, int64_t c, int64_t r, int64_t s) const {
    const int64_t all = g_.all_taps(), tap = g_.taps * r + s;
    return turned_ ? weight_[(c * g_.filters + k) * all + all - 1 - tap] : weight_[(k * g_.channels + c) * all + tap];
  }

  void describe(switchgrad::WinogradJob& job) const {
    job.batch = g_.batch;
    job.filters = g_.filters;
    job.input = input_.pixels;
    for (int i = 0; i < 2; ++i) {
      job.pad[i] = g_.pad[i];
      job.places[i] = g_.places(i);
      job.tiles[i] = g_.tiles(i);
    }
  }

  void pack(switchgrad::WinogradForwardJob& job, Buffer<E>& packed) {
    const int64_t all = g_.all_taps();
    switchgrad::TapBank bank{weight_.get(), all * g_.channels, all, false};
    if (turned_) bank = {weight_.get() + all - 1, all, all * g_.filters, true};
    in_chunks([&](const auto& j, int64_t a, int64_t b) { kernels_.pack(j, bank, packed.get(), a, b); }, job,
              kernels_.pack_items(job));
    if (!packed.intact()) complain("memory beside the packed taps");
    job.packed = packed.get();
    job.bias = biased_ ? bias_.get() : nullptr;
  }

  E output(int64_t n, int64_t y, int64_t x, int64_t k) const {
    E sum = biased_ ? bias_[k] : 0;
    for (int64_t c = 0; c < g_.channels; ++c)
      for (int64_t r = 0; r < g_.taps; ++r)
        for (int64_t s = 0; s < g_.taps; ++s)
          sum += input_.at(n, y + r - g_.pad[0], x + s - g_.pad[1], c) * tap(k, c, r, s);
    return sum;
  }

  bool exact() const { return g_.tile == 2 && g_.taps == 3; }

  // The others round; what they add up to is at most 16 times as many terms as the numbers are large.
  bool near(E got, E wanted) const {
    if (exact()) return same_sum(got, wanted);
    const E scale = static_cast<E>(16 * g_.all_taps() * (g_.channels + g_.cells()));
    return std::abs(got - wanted) <= scale * 64 * std::numeric_limits<E>::epsilon();
  }

  void forward() {
    switchgrad::WinogradForwardJob job;
    describe(job);
    biased_ = chance(60);
    job.relu = chance(40);
    Buffer<E> packed(4, kernels_.packed_size(job)), values(5, g_.cells() * g_.filters);
    pack(job, packed);
    job.output = values.get();
    bool sound = true;
    in_chunks([&](const auto& j, int64_t a, int64_t b) { sound = kernels_.forward(j, a, b) && sound; }, job,
              job.all_tiles());
    if (!values.intact()) complain("memory beside the values");
    if (kind_ == whole && !sound) complain("finite numbers are called infinite");
    if (kind_ == any_bits || !sound) return;
    int64_t at = 0;
    for (int64_t n = 0; n < g_.batch; ++n)
      for (int64_t y = 0; y < g_.places(0); ++y)
        for (int64_t x = 0; x < g_.places(1); ++x)
          for (int64_t k = 0; k < g_.filters; ++k, ++at) {
            const E wanted = output(n, y, x, k);
            if (!near(values[at], job.relu && !(wanted > 0) ? 0 : wanted)) complain("values");
          }
  }

  void pool() {
    const int64_t rows = g_.places(0) / 2, columns = g_.places(1) / 2;
    if (rows == 0 || columns == 0) return;
    switchgrad::WinogradForwardJob job;
    describe(job);
    biased_ = chance(60);
    const int64_t pooled_places[2] = {rows, columns};
    switchgrad::ConvPoolForwardJob pooled;
    for (int i = 0; i < 2; ++i) {
      job.places[i] = 2 * pooled_places[i];
      job.tiles[i] = (job.places[i] + g_.tile - 1) / g_.tile;
      pooled.pool[i] = {g_.places(i), 2, 2, 0, 0, 1, pooled_places[i]};
    }
    const int64_t count = g_.batch * rows * columns * g_.filters;
    Buffer<E> packed(4, kernels_.packed_size(job)), values(5, count);
    Buffer<uint8_t> codes(6, count);
    pack(job, packed);
    pooled.batch = g_.batch;
    pooled.filters = g_.filters;
    pooled.relu = chance(60);
    pooled.values = values.get();
    pooled.codes = codes.get();
    bool sound = true;
    in_chunks([&](const auto& j, int64_t a, int64_t b) { sound = kernels_.pool(j, pooled, a, b) && sound; }, job,
              job.all_tiles());
    if (!values.intact() || !codes.intact()) complain("memory beside pooled values or codes");
    if (kind_ == whole && !sound) complain("finite numbers are called infinite, pooled");
    if (kind_ == any_bits || !sound) return;
    int64_t at = 0;
    for (int64_t n = 0; n < g_.batch; ++n)
      for (int64_t p = 0; p < rows; ++p)
        for (int64_t q = 0; q < columns; ++q)
          for (int64_t k = 0; k < g_.filters; ++k, ++at) compare(pooled.relu, n, p, q, k, values[at], codes[at]);
  }

  void compare(bool relu, int64_t n, int64_t p, int64_t q, int64_t k, E value, uint8_t code) const {
    E best = -std::numeric_limits<E>::infinity();
    uint8_t winner = 255;
    for (uint8_t cell = 0; cell < 4; ++cell) {
      const E here = output(n, 2 * p + cell / 2, 2 * q + cell % 2, k);
      if (here > best) best = here, winner = cell;
    }
    if (relu && best <= 0) best = 0, winner = 255;
    if (!near(value, best)) complain("pooled values");
    if (exact() && code != winner) complain("codes");
    if (code != 255 && code > 3) complain("a code that names nothing");
  }

  void weight_gradient() {
    switchgrad::WinogradWeightJob job;
    describe(job);
    const Map<E> grad(3, g_.batch, g_.places(0), g_.places(1), g_.filters, kind_);
    job.grad = grad.pixels;
    int64_t sizes[3];
    const int64_t parts = kernels_.term_sizes(job, sizes), all = g_.all_taps(), count = g_.filters * g_.channels * all;
    Buffer<E> input_terms(4, sizes[0]), grad_terms(5, sizes[1]), sums(6, sizes[2]), found(7, count);
    job.input_terms = input_terms.get();
    job.grad_terms = grad_terms.get();
    job.sums = sums.get();
    job.weight_grad = found.get();
    const bool last = chance(50);  // the channels innermost, or the taps
    const int64_t compact[4] = {all * g_.channels, last ? 1 : all, g_.taps * (last ? g_.channels : 1),
                                last ? g_.channels : 1};
    for (int i = 0; i < 4; ++i) job.weight_stride[i] = compact[i];
    const int64_t tiles = kernels_.block_of_tiles(job);
    for (int64_t block = 0; block * tiles < job.all_tiles(); ++block) {
      const int64_t left = std::min(tiles, job.all_tiles() - block * tiles);
      in_chunks([&](const auto& j, int64_t a, int64_t b) { kernels_.transform(j, block, a, b); }, job, left);
      in_chunks([&](const auto& j, int64_t a, int64_t b) { kernels_.add(j, block, a, b); }, job, parts);
    }
    bool sound = true;
    in_chunks([&](const auto& j, int64_t a, int64_t b) { sound = kernels_.finish(j, a, b) && sound; }, job,
              g_.channels);
    for (const Buffer<E>* buffer : {&input_terms, &grad_terms, &sums, &found})
      if (!buffer->intact()) complain("memory beside the weights' gradient");
    if (!grad.intact()) complain("memory beside the gradient");
    if (kind_ == whole && !sound) complain("finite numbers are called infinite, going back");
    if (kind_ == any_bits || !sound) return;
    for (int64_t k = 0; k < g_.filters; ++k)
      for (int64_t c = 0; c < g_.channels; ++c)
        for (int64_t tap = 0; tap < all; ++tap) {
          E sum = 0;
          for (int64_t n = 0; n < g_.batch; ++n)
            for (int64_t y = 0; y < g_.places(0); ++y)
              for (int64_t x = 0; x < g_.places(1); ++x)
                sum +=
                    grad.at(n, y, x, k) * input_.at(n, y + tap / g_.taps - g_.pad[0], x + tap % g_.taps - g_.pad[1], c);
          const int64_t (&step)[4] = job.weight_stride;
          if (!near(found[k * step[0] + c * step[1] + tap / g_.taps * step[2] + tap % g_.taps * step[3]], sum))
            complain("the weights' gradient");
        }
  }

  const WinogradKernels& kernels_;
  Geometry g_;
  Kind kind_;
  Map<E> input_;
  Buffer<E> weight_, bias_;
  bool turned_ = false, biased_ = false;
};

void fuzz_once(const WinogradTable& table) {
  if (!any_geometry(current)) return;
  if (chance(65)) return Fuzz<float>(table.of_float[current.taps / 5][current.tile / 4], current).run();
  Fuzz<double>(table.of_double[current.taps / 5][current.tile / 4], current).run();
}

}  // namespace
}  // namespace fuzz

int main(int count, char** words) { return fuzz::run(count, words, fuzz::servers, fuzz::show, fuzz::fuzz_once); }
