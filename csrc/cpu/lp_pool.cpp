// Lp pooling on the CPU: checks, allocation, threads, registration; and the pieces of the maps that stay in the caches
// while their powers are taken and added up and the roots are drawn.
#include <algorithm>

#include "cpu/bins.h"
#include "cpu/isa.h"
#include "cpu/numbers.h"
#include "cpu/scratch.h"
#include "lp_pool/job.h"

namespace switchgrad {

SWITCHGRAD_TABLE(LpPoolTable, lp_pool_table)

namespace {

constexpr int64_t most_numbers = 20'000;  // of a piece, unless one row has more: a part of a second-level cache

const LpPoolTable& table() { return kernels<LpPoolTable>(SWITCHGRAD_OF_EACH_ISA(lp_pool_table)); }
const AveragePoolTable& sums_table() { return kernels<AveragePoolTable>(SWITCHGRAD_OF_EACH_ISA(avg_pool_table)); }

enum Side { cells, places };

struct Range {
  int64_t begin = 0, end = 0;
};

// The cells in windows `range`, and the windows over cells `range`.
Range cells_of(const Bins& bins, Range range) {
  Range found{bins.size, 0};
  for (int64_t p = range.begin; p < range.end; ++p) {
    if (bins.first[p] >= bins.last[p]) continue;
    found.begin = std::min(found.begin, bins.start[p] + bins.first[p] * bins.dilation);
    found.end = std::max(found.end, bins.start[p] + (bins.last[p] - 1) * bins.dilation + 1);
  }
  return found.begin < found.end ? found : Range{};
}
Range places_over(const Bins& bins, Range range) {
  return {bins.cover_begin[range.begin], bins.cover_end[range.end - 1]};
}

// Units (planes, or images channels last) from `unit` on, whole or, where it is one, some of its rows.
struct Piece {
  int64_t unit, count;
  Range rows[2];
};

// Compact maps of cells and of places. Rows are those along the first axis that has several.
class Maps {
 public:
  Maps(const Tensor& like, const Plan& plan, bool channels_last) : job_(plan.job()), channels_last_(channels_last) {
    const int64_t lead = like.dim() - plan.spatial, channels = like.size(lead - 1);
    const int64_t batch = lead == 2 ? like.size(0) : 1;
    job_.batch = units_ = channels_last ? batch : batch * channels;
    job_.channels = channels_last ? channels : 1;
    axis_ = job_.bins[0].size > 1 || job_.bins[0].places > 1 ? 0 : 1;
    job_.stride[4] = row_[cells] = row_[places] = job_.channels;
    job_.stride[1] = 1;
    for (int i = 2; i > axis_; --i) {
      job_.stride[1 + i] = row_[cells] *= job_.bins[i].size;
      row_[places] *= job_.bins[i].places;
    }
    job_.stride[0] = unit(cells);
    if (axis_ == 1) job_.stride[2] = unit(cells);
  }

  // Calls body(piece) for pieces whose rows of `side` make up the maps.
  template <class F>
  void in_pieces(Side side, const F& body) const {
    const int64_t rows = this->rows(side), numbers = unit(cells) + unit(places);
    if (numbers <= most_numbers) {
      const int64_t together = most_numbers / numbers;
      return in_parallel((units_ + together - 1) / together, together * numbers, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          body(piece(i * together, std::min(together, units_ - i * together), side, {0, rows}));
      });
    }
    const int64_t height = std::max<int64_t>(1, most_numbers * rows / numbers), bands = (rows + height - 1) / height;
    in_parallel(units_ * bands, numbers / bands, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t top = i % bands * height;
        body(piece(i / bands, 1, side, {top, std::min(rows, top + height)}));
      }
    });
  }

  // Where a piece begins, and how many numbers it has.
  int64_t first(const Piece& piece, Side side) const {
    return piece.unit * unit(side) + piece.rows[side].begin * row_[side];
  }
  int64_t numbers(const Piece& piece, Side side) const {
    const Range rows = piece.rows[side];
    return (piece.count - 1) * unit(side) + (rows.end - rows.begin) * row_[side];
  }

  // Sums the cells of a piece for its places, or shares out its places to its cells. `from` and `to` hold the piece
  // alone, as numbers that are added up.
  template <class Sum>
  void run(AverageKernel kernel, Side written, const Piece& piece, const Sum* from, Sum* to) const {
    const Side read = written == cells ? places : cells;
    const Range rows = piece.rows[written];
    AverageJob job = job_;
    job.batch = piece.count;
    job.from = from - piece.rows[read].begin * row_[read];  // where row 0 would be
    job.to = to - rows.begin * row_[written];
    const Bins& last = job.bins[2];
    const int64_t an_item = channels_last_ ? job.channels : written == cells ? last.size : last.places;
    const int64_t whole_units = (piece.count - 1) * unit(written);
    kernel(job, rows.begin * row_[written] / an_item, (whole_units + rows.end * row_[written]) / an_item);
  }

 private:
  const Bins& along() const { return job_.bins[axis_]; }
  int64_t rows(Side side) const { return side == cells ? along().size : along().places; }
  int64_t unit(Side side) const { return rows(side) * row_[side]; }
  Piece piece(int64_t unit, int64_t count, Side side, Range rows) const {
    if (side == cells) return {unit, count, {rows, places_over(along(), rows)}};
    return {unit, count, {count > 1 ? Range{0, along().size} : cells_of(along(), rows), rows}};
  }

  AverageJob job_;
  bool channels_last_;
  int axis_;
  int64_t units_;
  int64_t row_[2];
};

const char* at(const Tensor& t, int64_t number) {
  return static_cast<const char*>(t.const_data_ptr()) + number * t.element_size();
}
char* at(Tensor& t, int64_t number) { return static_cast<char*>(t.mutable_data_ptr()) + number * t.element_size(); }

// A piece's numbers as they are added up: in the tensor that gets the result, where it holds such numbers, else apart.
template <class Sum>
class Sums {
 public:
  Sums(Tensor& t, int64_t first, int64_t count)
      : apart_(t.element_size() == sizeof(Sum) ? 0 : count * sizeof(Sum)),
        sums_(static_cast<Sum*>(t.element_size() == sizeof(Sum) ? static_cast<void*>(at(t, first)) : apart_.get())) {}
  Sum* get() const { return sums_; }

 private:
  CallScratch apart_;
  Sum* sums_;
};

template <class Sum>
void write_norms(const Tensor& input, Tensor& values, const Maps& maps, bool channels_last, double p, Dtype dtype) {
  const LpPoolTable& maps_of_numbers = table();
  const Dtype sums = sizeof(Sum) == 8 ? F64 : F32;
  const AverageKernel add = (channels_last ? sums_table().pool_channels_last : sums_table().pool_planar)[sums];
  const Exponent power(p), root(1 / p);
  maps.in_pieces(places, [&](const Piece& piece) {
    const int64_t read = maps.numbers(piece, cells), written = maps.numbers(piece, places);
    const CallScratch powers(read * sizeof(Sum));
    maps_of_numbers.powers[dtype](at(input, maps.first(piece, cells)), powers.get(), read, power);
    const Sums<Sum> totals(values, maps.first(piece, places), written);
    maps.run(add, places, piece, static_cast<const Sum*>(powers.get()), totals.get());
    maps_of_numbers.roots[dtype](totals.get(), at(values, maps.first(piece, places)), written, root);
  });
}

template <class Sum>
void write_slopes(const Tensor& grad, const Tensor& input, const Tensor& values, Tensor& result, const Maps& maps,
                  bool channels_last, double p, Dtype dtype) {
  const LpPoolTable& maps_of_numbers = table();
  const Dtype sums = sizeof(Sum) == 8 ? F64 : F32;
  const AverageKernel share_out =
      (channels_last ? sums_table().spread_channels_last : sums_table().spread_planar)[sums];
  const Exponent of_norm(1 - p), of_cell(p - 1);
  maps.in_pieces(cells, [&](const Piece& piece) {
    const int64_t read = maps.numbers(piece, places), written = maps.numbers(piece, cells);
    const int64_t place = maps.first(piece, places), cell = maps.first(piece, cells);
    const CallScratch shares(read * sizeof(Sum));
    maps_of_numbers.shares[dtype](at(grad, place), at(values, place), shares.get(), read, of_norm);
    const Sums<Sum> totals(result, cell, written);
    maps.run(share_out, cells, piece, static_cast<const Sum*>(shares.get()), totals.get());
    maps_of_numbers.slopes[dtype](totals.get(), at(input, cell), at(result, cell), written, of_cell);
  });
}

// ---- what the dispatcher calls -----------------------------------------------------------------------------------

Plan plan_of(const Tensor& input, double p, const Geometry& geometry) {
  check_rank(input, geometry.dims(), "lp_pool");
  if (!(p > 0 && std::isfinite(p)))
    fail("norm_type is " + std::to_string(p) + "; the kernels of Lp pooling take finite numbers above 0");
  return Plan::over(geometry, spatial_of(input, geometry.dims()), false, 1);
}

Tensor lp_pool(const Tensor& given, double p, const Sizes& window) {
  const Plan plan = plan_of(given, p, window);
  const Dtype dtype = float_dtype(given, "the input", "Lp pooling");
  const bool channels_last = is_channels_last(given, plan.spatial);
  const Tensor input = made_compact(given, channels_last);
  Tensor values = compact(with_spatial(given, plan.spatial, plan.places), channels_last, given.scalar_type());
  const Maps maps(input, plan, channels_last);
  (dtype == F64 ? write_norms<double> : write_norms<float>)(input, values, maps, channels_last, p, dtype);
  return values;
}

Tensor lp_pool_spread(const Tensor& pooled, const Tensor& given, const Tensor& values, double p, const Sizes& window) {
  const Plan plan = plan_of(given, p, window);
  const Dtype dtype = float_dtype(given, "the input", "Lp pooling");
  const Sizes places = with_spatial(given, plan.spatial, plan.places);
  if (sizes_of(pooled) != places || sizes_of(values) != places || pooled.scalar_type() != given.scalar_type() ||
      values.scalar_type() != given.scalar_type())
    fail("the gradient has shape " + written(pooled) + " and the norms " + written(values) +
         ", which these windows over this input do not give; use what the pooling of this input gave, in its dtype");
  const bool channels_last = is_channels_last(given, plan.spatial);
  const Tensor grad = made_compact(pooled, channels_last), input = made_compact(given, channels_last);
  const Tensor norms = made_compact(values, channels_last);
  Tensor result = compact(sizes_of(given), channels_last, given.scalar_type());
  const Maps maps(input, plan, channels_last);
  const auto write = dtype == F64 ? write_slopes<double> : write_slopes<float>;
  write(grad, input, norms, result, maps, channels_last, p, dtype);
  return result;
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("lp_pool", TORCH_BOX(&switchgrad::lp_pool));
  m.impl("lp_pool_spread", TORCH_BOX(&switchgrad::lp_pool_spread));
}
