// The adjoint of unpooling by flat indices: each value gets what it left in the output, that is the number at its index
// if no later value has the same index.
#pragma once

#include <cstring>
#include <vector>

#include "common/table.h"

namespace switchgrad {

// What one call picks from: planes of `size` cells, with indices of `places` values each.
struct PickJob {
  int64_t places[3] = {1, 1, 1};
  int64_t size[3] = {1, 1, 1};
  const void* from = nullptr;
  const int64_t* indices = nullptr;
  void* picked = nullptr;

  int64_t values() const { return places[0] * places[1] * places[2]; }
  int64_t cells() const { return size[0] * size[1] * size[2]; }
  // Boxes of cells side by side, one for each value, as large as they can be: here the indices of windows that share no
  // cell lie, and no two in one cell.
  int64_t box(int axis) const { return size[axis] / places[axis]; }
};

// Where the boxes of some neighbouring values begin, counted from the first: those of a plane where it is small, else
// those of a row; and which cells, counted from where its box begins, are in it. The same for all planes.
class Boxes {
 public:
  explicit Boxes(const PickJob& job)
      : serve_(job.box(0) > 0 && job.box(1) > 0 && job.box(2) > 0 && cell(job, last_row(job)) < most_cells),
        together_(job.values() <= 512 ? job.values() : job.places[2]) {
    if (!serve_) return;
    in_box_.resize(static_cast<size_t>(cell(job, last_row(job)) + job.box(2)));
    for (int64_t row = 0; row <= last_row(job); ++row)
      for (int64_t w = 0; w < job.box(2); ++w) in_box_[static_cast<size_t>(cell(job, row) + w)] = 1;
    for (int64_t i = 0; i < job.values(); ++i) {
      const int64_t begin = first_cell(job, i);
      if (i < together_) first_.push_back(begin);
      if (i % together_ == 0) begin_.push_back(begin);
    }
  }

  // Picks a plane whose indices all lie in their boxes. False: one does not.
  template <class Raw>
  bool pick(const Raw* from, const int64_t* index, Raw* picked) const {
    if (!serve_) return false;
    const int64_t count = together_, *first = first_.data();
    const uint8_t* in_box = in_box_.data();
    const uint64_t cells = in_box_.size();
    for (const int64_t begin : begin_) {
      for (int64_t q = 0; q < count; ++q) {
        const auto at = static_cast<uint64_t>(index[q] - begin - first[q]);
        if (at >= cells || in_box[at] == 0) return false;
        picked[q] = from[index[q]];
      }
      index += count;
      picked += count;
    }
    return true;
  }

 private:
  static constexpr int64_t most_cells = 1 << 14;  // of the table, which should stay in the nearest cache

  static int64_t last_row(const PickJob& job) { return job.box(0) * job.box(1) - 1; }
  // Where a row of a box begins, counted from the box.
  static int64_t cell(const PickJob& job, int64_t row) {
    return (row / job.box(1) * job.size[1] + row % job.box(1)) * job.size[2];
  }
  // Where in its plane the box of value i begins.
  static int64_t first_cell(const PickJob& job, int64_t i) {
    const int64_t row = i / job.places[2], d = row / job.places[1], h = row % job.places[1];
    return (d * job.box(0) * job.size[1] + h * job.box(1)) * job.size[2] + i % job.places[2] * job.box(2);
  }

  bool serve_;
  int64_t together_;
  std::vector<uint8_t> in_box_;
  std::vector<int64_t> first_, begin_;
};

// Any indices: from the last value to the first, so that the first to name a cell stays. `named` has a byte a cell.
template <class Raw>
void pick_last(const PickJob& job, const Raw* from, const int64_t* index, Raw* picked, std::vector<uint8_t>& named) {
  named.assign(static_cast<size_t>(job.cells()), 0);
  for (int64_t i = job.values() - 1; i >= 0; --i) {
    picked[i] = Raw{};
    if (static_cast<uint64_t>(index[i]) >= static_cast<uint64_t>(job.cells())) continue;
    const uint8_t is_named = named[static_cast<size_t>(index[i])];
    named[static_cast<size_t>(index[i])] = 1;
    const Raw value = from[index[i]];
    picked[i] = is_named ? Raw{} : value;
  }
}

// Planes begin .. end - 1.
template <class Raw>
void pick_planes(const PickJob& job, int64_t begin, int64_t end) {
  const Boxes boxes(job);
  std::vector<uint8_t> named;
  for (int64_t plane = begin; plane < end; ++plane) {
    const auto* from = static_cast<const Raw*>(job.from) + plane * job.cells();
    const int64_t* index = job.indices + plane * job.values();
    auto* picked = static_cast<Raw*>(job.picked) + plane * job.values();
    if (!boxes.pick(from, index, picked)) pick_last(job, from, index, picked, named);
  }
}

}  // namespace switchgrad
