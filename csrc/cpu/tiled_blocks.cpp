// Fused blocks in Winograd's tiles. Two-by-two windows are pooled as their tile comes out; for other windows the
// outputs of some pictures lie in memory, few enough to stay in the caches. A convolution with steps is done as one
// without (cpu/deep.h). The way back follows the winners instead: it then has fewer products still.
#include "cpu/tiled_blocks.h"

#include <algorithm>
#include <optional>

#include "cpu/deep.h"
#include "cpu/tiles.h"

namespace switchgrad {
namespace {

// How a block is done: tiles of `tile` x `tile` outputs and `taps` x `taps` taps; 0: not in tiles.
struct Plan {
  int64_t tile = 0, taps = 3;
  bool deep = false;    // by deep pixels
  bool halved = false;  // windows two by two, two apart: pooled within a tile
};

bool is_halved(const Axis (&pool)[2]) {
  for (const Axis& axis : pool)
    if (!axis.pairs() || 2 * axis.places > axis.size) return false;
  return true;
}

// The time of a plan in products of the plain sum over all taps, as it was measured: a product; a transformed number on
// its way in or out; a transformed weight; an output that is written and pooled later; an input number that is brought
// into another layout, or into deep pixels. Lanes that a vector of filters leaves empty cost as much as others.
int64_t cost_of(const ConvPoolJob& job, const Plan& plan, bool channels_last) {
  constexpr int64_t of_weight = 60, of_output = 20, of_relayout = 12, of_deep = 36, lanes = 16;
  const int64_t of_term = plan.tile == 4 ? 14 : 8;
  const int64_t input = job.batch * job.channels * job.conv[0].size * job.conv[1].size;
  const int64_t channels = (plan.deep ? steps_of(job) : 1) * job.channels;
  const int64_t filters = (job.filters + lanes - 1) / lanes * lanes;
  int64_t tiles = job.batch;
  for (const Axis& axis : job.pool) tiles *= ((plan.halved ? 2 * axis.places : used(axis)) + plan.tile - 1) / plan.tile;
  const int64_t patch = plan.tile + plan.taps - 1;
  const int64_t of_tiles = tiles * (channels * filters + of_term * (channels + filters));
  return patch * patch * (of_tiles + of_weight * channels * filters) +
         (plan.halved ? 0 : of_output * job.filters * tiles * plan.tile * plan.tile) +
         (channels_last ? 0 : of_relayout * input) + (plan.deep ? of_deep * input : 0);
}

int64_t cost_of_plain_sum(const ConvPoolJob& job) {
  constexpr int64_t lanes = 16;
  const int64_t outputs = job.batch * used(job.pool[0]) * used(job.pool[1]);
  return outputs * job.taps() * job.channels * ((job.filters + lanes - 1) / lanes * lanes);
}

Plan plan_of(const ConvPoolJob& job, bool channels_last) {
  constexpr int64_t fewest = 16;  // channels: with fewer, vectors are mostly empty
  Plan plan;
  const int64_t taps = std::max(deep_taps(job.conv[0]), deep_taps(job.conv[1]));
  plan.taps = taps <= 3 ? 3 : 5;
  plan.deep = steps_of(job) > 1;
  plan.halved = !plan.deep && is_halved(job.pool);
  if (taps > 5 || taps == 1 || (plan.deep ? steps_of(job) : 1) * job.channels < fewest || job.filters < fewest)
    return {};
  for (const Axis& pool : job.pool)
    if (pool.dilation > 1) return {};  // may have windows without cells
  Plan of_two = plan, of_four = plan;
  of_two.tile = 2;
  of_four.tile = 4;
  const int64_t dense = cost_of_plain_sum(job), two = cost_of(job, of_two, channels_last);
  // Tiles of four round more, so they must be worth it.
  if (10 * cost_of(job, of_four, channels_last) < 8 * std::min(two, dense)) return of_four;
  return two < dense ? of_two : Plan{};
}

void set_tiles(WinogradJob& tiles, int64_t tile) {
  for (int i = 0; i < 2; ++i) tiles.tiles[i] = (tiles.places[i] + tile - 1) / tile;
}

bool pool_within_tiles(const ConvPoolForwardJob& job, const Plan& plan, WinogradForwardJob& tiles,
                       const WinogradKernels& kernels) {
  for (int i = 0; i < 2; ++i) tiles.places[i] = 2 * job.pool[i].places;
  set_tiles(tiles, plan.tile);
  return all_in_parallel(tiles.all_tiles(), tiles.input.channels * job.filters,
                         [&](int64_t begin, int64_t end) { return kernels.pool(tiles, job, begin, end); });
}

// The pooling of the outputs of `count` pictures from `first` on.
void pool_outputs(const ConvPoolForwardJob& job, const WinogradForwardJob& tiles, Dtype dtype, int64_t first,
                  int64_t count) {
  const size_t width = dtype == F64 ? 8 : 4;
  const PoolKernel pool =
      job.relu ? kernels<ReluMaxPoolTable>(SWITCHGRAD_OF_EACH_ISA(relu_max_pool_table)).channels_last[dtype][Code8]
               : kernels<MaxPoolTable>(SWITCHGRAD_OF_EACH_ISA(max_pool_table)).pool_channels_last[dtype][Code8];
  const int64_t row = tiles.places[1] * job.filters, pixels = job.pool[0].places * job.pool[1].places;
  const int64_t before = first * pixels * job.filters;
  const PoolJob pooling{{{{}, job.pool[0], job.pool[1]}},
                        count,
                        job.filters,
                        {tiles.places[0] * row, 1, 0, row, job.filters},
                        tiles.output,
                        static_cast<char*>(job.values) + static_cast<size_t>(before) * width,
                        job.codes + before};
  in_parallel(count * pixels, job.filters * job.pool[0].kernel * job.pool[1].kernel,
              [&](int64_t begin, int64_t end) { pool(pooling, begin, end); });
}

// Pictures that are done together: their outputs and deep pixels should stay in the caches.
int64_t pictures_together(const ConvPoolJob& job, int64_t numbers, int64_t width) {
  constexpr int64_t room = 4 << 20;
  return std::clamp<int64_t>(room / (numbers * width), 1, std::max<int64_t>(job.batch, 1));
}

bool pool_after_tiles(const ConvPoolForwardJob& job, const Plan& plan, WinogradForwardJob& tiles,
                      const WinogradKernels& kernels, const Tensor& pixels) {
  const int64_t taps[2] = {plan.taps, plan.taps};
  for (int i = 0; i < 2; ++i) tiles.places[i] = used(job.pool[i]);
  set_tiles(tiles, plan.tile);
  const int64_t outputs = tiles.places[0] * tiles.places[1] * job.filters;
  const int64_t deep_numbers = plan.deep ? DeepMap::size(job, taps) : 0;
  const int64_t together = pictures_together(job, outputs + deep_numbers, pixels.element_size());
  const CallScratch memory = scratch(together * outputs, pixels);
  tiles.output = memory.get();
  std::optional<DeepMap> map;
  if (plan.deep) {
    map.emplace(job, taps, pixels, together);
    tiles.input = map->pixels();
    tiles.pad[0] = tiles.pad[1] = 0;
  }
  const auto* given = static_cast<const char*>(pixels.const_data_ptr());
  for (int64_t first = 0; first < job.batch; first += together) {
    tiles.batch = std::min(together, job.batch - first);
    if (map)
      map->read(first, tiles.batch);
    else
      tiles.input.data = given + first * pixels.stride(0) * static_cast<int64_t>(pixels.element_size());
    if (!convolve_tiles(tiles, kernels)) return false;
    pool_outputs(job, tiles, dtype_of(pixels, "the input"), first, tiles.batch);
  }
  return true;
}

// The filters compact, with as many taps as the tiles take.
Tensor filters_of(const ConvPoolJob& job, const Plan& plan, const Tensor& weight) {
  const bool fits = !plan.deep && job.conv[0].kernel == plan.taps && job.conv[1].kernel == plan.taps;
  return fits ? relaid(weight, false) : deep_filters(job, {plan.taps, plan.taps}, weight);
}

}  // namespace

bool pool_in_tiles(const ConvPoolForwardJob& job, const Tensor& input, const Tensor& weight, const void* bias) {
  const Plan plan = plan_of(job, is_channels_last(input, 2));
  if (plan.tile == 0) return false;
  const Tensor pixels = relaid(input, true), filters = filters_of(job, plan, weight);
  WinogradForwardJob tiles;
  tiles.batch = job.batch;
  tiles.filters = job.filters;
  tiles.input = pixels_of(pixels);
  tiles.input.channels = filters.size(1);
  tiles.bias = bias;
  for (int i = 0; i < 2; ++i) tiles.pad[i] = job.conv[i].pad_begin;
  const WinogradKernels& kernels = tile_kernels(pixels, plan.taps, plan.tile);
  const PackedTaps packed(tiles, kernels, taps_of(filters), pixels);
  return plan.halved ? pool_within_tiles(job, plan, tiles, kernels)
                     : pool_after_tiles(job, plan, tiles, kernels, pixels);
}

}  // namespace switchgrad
