// Which numbers each number of a result looks at, along one axis and row by row.
#pragma once

#include "filter_pool/lines.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Along one axis: the cells of the windows (sums), or the windows of the cells (the adjoint), and as which cell of the
// window. What reaches over the border is added up apart from the rest (in groups) before both are added.
class Looks {
 public:
  static Looks of_windows(const FilterAxis& along) {
    const Axis& axis = along.axis;
    return Looks(axis.places, 1, axis.size, [&](int64_t q, int64_t, auto&& body) {
      for (int64_t s = 0; s < axis.kernel; ++s) {
        const int64_t at = along.source[q * axis.stride + s * axis.dilation];
        if (at >= 0) body(s, at);
      }
    });
  }
  static Looks of_cells(const FilterAxis& along) {
    const Covers covers(along);
    return Looks(along.axis.size, 1, along.axis.places, [&](int64_t w, int64_t, auto&& body) {
      covers.at_input(w, [&](int64_t s, int64_t q) { body(s, q); });
    });
  }
  // Group 0: windows that look at the cell itself; the others: those that look at the padded cells it stands for.
  static Looks of_cells_in_groups(const FilterAxis& along) {
    const Covers covers(along);
    return Looks(along.axis.size, groups(along), along.axis.places, [&](int64_t w, int64_t group, auto&& body) {
      int64_t behind = 0;
      for (int64_t i = along.first_back[w]; i < along.first_back[w + 1]; ++i) {
        const bool itself = along.back[i] == along.axis.pad_begin + w;
        if (group == (itself ? 0 : ++behind))
          covers.at_padded(along.back[i], [&](int64_t s, int64_t q) { body(s, q); });
      }
    });
  }

  int64_t count() const { return count_; }
  int64_t groups() const { return groups_; }
  int64_t seen() const { return seen_; }  // how many numbers there are to look at
  int64_t most() const { return most_; }  // how many one number looks at in a group, at most

  int64_t looks(int64_t i, int64_t group = 0) const { return start(i, group + 1) - start(i, group); }
  int64_t cell(int64_t i, int64_t k, int64_t group = 0) const { return cell_[start(i, group) + k]; }
  int64_t at(int64_t i, int64_t k, int64_t group = 0) const { return at_[start(i, group) + k]; }

 private:
  template <class F>
  Looks(int64_t count, int64_t groups, int64_t seen, F&& each)
      : count_(count),
        groups_(groups),
        seen_(seen),
        first_(count * groups + 1),
        cell_(entries(each)),
        at_(first_[count * groups]) {
    int64_t entry = 0;
    for (int64_t i = 0; i < count * groups; ++i)
      each(i / groups, i % groups, [&](int64_t cell, int64_t at) {
        cell_[entry] = cell;
        at_[entry++] = at;
      });
  }
  template <class F>
  int64_t entries(F&& each) {
    int64_t total = 0;
    for (int64_t i = 0; i < count_ * groups_; ++i) {
      first_[i] = total;
      each(i / groups_, i % groups_, [&](int64_t, int64_t) { ++total; });
      if (total - first_[i] > most_) most_ = total - first_[i];
    }
    first_[count_ * groups_] = total;
    return total;
  }
  int64_t start(int64_t i, int64_t group) const { return first_[i * groups_ + group]; }

  static int64_t groups(const FilterAxis& along) {
    int64_t most = 1;
    for (int64_t w = 0; w < along.axis.size; ++w) {
      const int64_t cells = along.first_back[w + 1] - along.first_back[w];
      const int64_t itself = along.axis.pad_begin + w < along.reach;
      if (cells - itself + 1 > most) most = cells - itself + 1;
    }
    return most;
  }

  const int64_t count_, groups_, seen_;
  int64_t most_ = 0;
  Scratch<int64_t> first_, cell_, at_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
