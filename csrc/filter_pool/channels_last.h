// Sums of windows and their adjoint where channels are neighbours in memory: a pixel lies in lanes.
//
// As in planar.h, weights that are products are summed over rows first, into lines of whole pixels, else at once. The
// former pays in larger windows only: here windows need no turning of lanes, and a line is as long as a row of pixels.
#pragma once

#include "filter_pool/lines.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class T>
class PixelSums : FilterRows<T> {
  using Base = FilterRows<T>;
  using Base::across_;
  using Base::factors_;
  using Base::job_;
  using Base::weights_;
  using typename Base::A;

 public:
  explicit PixelSums(const FilterJob& job)
      : Base(job),
        channels_(job.channels),
        width_(across_.axis.size),
        count_(across_.axis.places),
        kernel_(across_.axis.kernel) {}

  void rows(int64_t begin, int64_t end) const {
    const Plan plan = this->plan_of_sums(1);
    Terms<T> terms(plan.parts() * kernel_);
    Terms<A> columns(kernel_);
    Lines<Raw<T>, A> seen(plan.parts());
    Scratch<A> line(this->products() ? width_ * channels_ : 0);
    plan.each_block(begin, end, job_.places(0), [&](const Plan::Block& block) {
      const Raw<T>* picture = static_cast<const Raw<T>*>(job_.maps) + block.map * job_.stride[0];
      auto* to = static_cast<Raw<T>*>(job_.pooled) + block.begin * count_ * channels_;
      const A* factors = factors_ ? factors_ + block.first * count_ : nullptr;
      seen.count = 0;
      plan.each_row(block, 0, [&](int64_t tap, int64_t slot) {
        const A* weights = this->products() ? this->down_ + tap : weights_ + tap * kernel_;
        seen.add(picture + plan.from(block, slot), weights);
      });
      if (this->products()) {
        sum_rows(seen, terms, line.get());
        sum_pixels<A>(columns, channels_, factors, to, [&](int64_t q) { column(line.get(), q, columns); });
      } else {
        sum_pixels<T>(terms, job_.stride[4], factors, to, [&](int64_t q) { window(seen, q, terms); });
      }
    });
  }

 private:
  // Whether all cells of the windows at q lie in the input: then windows at q and at q + 1 differ by a shift.
  bool whole(int64_t q) const {
    const int64_t start = across_.axis.start(q);
    return start >= 0 && start + across_.axis.span() <= width_;
  }

  template <class From, class F>
  void sum_pixels(const Terms<From>& terms, int64_t pixel, const A* factors, Raw<T>* to, F&& collect) const {
    int64_t collected = -1;
    for (int64_t q = 0; q < count_; ++q) {
      const bool moves = whole(q);
      if (!moves || collected < 0) {
        collect(q);
        collected = moves ? q : -1;
      }
      const int64_t shift = moves ? (q - collected) * across_.axis.stride * pixel : 0;
      combine<From, T>(terms, shift, channels_, factors ? factors + q : nullptr, to + q * channels_);
    }
  }

  void window(const Lines<Raw<T>, A>& rows, int64_t q, Terms<T>& terms) const {
    terms.count = 0;
    for (int64_t k = 0; k < rows.count; ++k)
      seen_at(q, [&](int64_t s, int64_t w) { terms.add(rows.run[k] + w * job_.stride[4], rows.weights[k][s]); });
  }
  void column(const A* line, int64_t q, Terms<A>& terms) const {
    terms.count = 0;
    seen_at(q, [&](int64_t s, int64_t w) { terms.add(line + w * channels_, this->along_[s]); });
  }
  // Calls body(window cell, w) for the columns of the windows at q.
  template <class F>
  void seen_at(int64_t q, F&& body) const {
    for (int64_t s = 0; s < kernel_; ++s) {
      const int64_t w = across_.source[q * across_.axis.stride + s * across_.axis.dilation];
      if (w >= 0) body(s, w);
    }
  }

  void sum_rows(const Lines<Raw<T>, A>& rows, Terms<T>& terms, A* line) const {
    terms.count = 0;
    for (int64_t k = 0; k < rows.count; ++k) terms.add(rows.run[k], *rows.weights[k]);
    if (job_.stride[4] == channels_) return combine<T, A>(terms, 0, width_ * channels_, nullptr, line);
    for (int64_t w = 0; w < width_; ++w)
      combine<T, A>(terms, w * job_.stride[4], channels_, nullptr, line + w * channels_);
  }

  const int64_t channels_, width_, count_, kernel_;
};

template <class T>
class PixelSpread : FilterRows<T> {
  using Base = FilterRows<T>;
  using Base::across_;
  using Base::factors_;
  using Base::job_;
  using Base::weights_;
  using typename Base::A;

 public:
  explicit PixelSpread(const FilterJob& job)
      : Base(job),
        channels_(job.channels),
        width_(across_.axis.size),
        inside_(across_.axis.pad_begin),
        line_((inside_ + width_ > across_.reach ? inside_ + width_ : across_.reach) * channels_),
        columns_(across_) {}

  void rows(int64_t begin, int64_t end) const {
    const int64_t most = rows_in_block(line_ * static_cast<int64_t>(sizeof(A)), job_.size(1));
    const Plan plan = this->plan_of_spread(most);
    Scratch<A> lines(this->products() ? plan.held() * line_ : 0), parts(most_back() * channels_);
    Scratch<Grads> seen(plan.parts());
    Terms<T> terms(plan.parts() * across_.axis.kernel);
    Terms<A> sums(plan.parts() > most_back() ? plan.parts() : most_back());
    plan.each_block(begin, end, job_.size(0), [&](const Plan::Block& block) {
      const auto grads = [&](int64_t slot, const A* weights) {
        const int64_t place = plan.from(block, slot), count = across_.axis.places;
        const auto* from = static_cast<const Raw<T>*>(job_.pooled);
        return Grads{from + (block.map * this->place_rows() + place) * count * channels_, weights,
                     factors_ ? factors_ + place * count : nullptr};
      };
      for (int64_t i = 0; this->products() && i < plan.reads(block); ++i)
        spread_line(grads(i, this->along_), terms, lines.get() + i * line_);
      for (int64_t i = 0; i < block.end - block.begin; ++i) {
        auto* to = static_cast<Raw<T>*>(job_.maps) + (block.begin + i) * width_ * channels_;
        int64_t count = sums.count = 0;
        plan.each_row(block, i, [&](int64_t tap, int64_t slot) {
          if (this->products()) {
            sums.add(lines.get() + slot * line_ + inside_ * channels_, this->down_[tap]);
          } else {
            seen[count++] = grads(slot, weights_ + tap * across_.axis.kernel);
          }
        });
        if (this->products()) {
          combine<A, T>(sums, 0, width_ * channels_, nullptr, to);
        } else {
          spread_pixels(seen.get(), count, terms, sums, parts.get(), to);
        }
      }
    });
  }

 private:
  // A row of pooled pixels, the weights of the row of the window that it is spread by, and its factors, if any.
  struct Grads {
    const Raw<T>* from;
    const A *weights, *factors;
  };

  // How many padded cells one input cell is, at most.
  int64_t most_back() const {
    int64_t most = 1;
    for (int64_t w = 0; w < width_; ++w)
      if (across_.first_back[w + 1] - across_.first_back[w] > most)
        most = across_.first_back[w + 1] - across_.first_back[w];
    return most;
  }

  // What padded cell t gets; places without a factor give nothing, whatever they hold.
  SWITCHGRAD_INLINE void collect(const Grads& grads, int64_t t, Terms<T>& terms) const {
    columns_.at_padded(t, [&](int64_t s, int64_t q) {
      const A factor = grads.factors ? grads.factors[q] : A{1};
      if (factor != 0) terms.add(grads.from + q * channels_, grads.weights[s] * factor);
    });
  }

  // What padded cells get from a row of pooled pixels, those beyond the border added to where they are.
  void spread_line(const Grads& grads, Terms<T>& terms, A* line) const {
    for (int64_t i = across_.reach * channels_; i < line_; ++i) line[i] = 0;
    for (int64_t t = 0; t < across_.reach; ++t) {
      terms.count = 0;
      collect(grads, t, terms);
      combine<T, A>(terms, 0, channels_, nullptr, line + t * channels_);
    }
    this->for_each_pad([&](int64_t t) {
      if (across_.source[t] < 0) return;
      A *to = line + (inside_ + across_.source[t]) * channels_, *from = line + t * channels_;
      for (int64_t c = 0; c < channels_; ++c) to[c] += from[c];
    });
  }

  void spread_pixels(const Grads* seen, int64_t rows, Terms<T>& terms, Terms<A>& sums, A* parts, Raw<T>* to) const {
    const auto take = [&](int64_t t) {
      terms.count = 0;
      for (int64_t k = 0; k < rows; ++k) collect(seen[k], t, terms);
    };
    for (int64_t w = 0; w < width_; ++w) {
      const int64_t first = across_.first_back[w], last = across_.first_back[w + 1];
      if (last - first < 2) {
        terms.count = 0;
        if (first < last) take(across_.back[first]);
        combine<T, T>(terms, 0, channels_, nullptr, to + w * channels_);
        continue;
      }
      sums.count = 0;
      for (int64_t i = first; i < last; ++i) {
        take(across_.back[i]);
        combine<T, A>(terms, 0, channels_, nullptr, parts + sums.count * channels_);
        sums.add(parts + sums.count * channels_, A{1});
      }
      combine<A, T>(sums, 0, channels_, nullptr, to + w * channels_);
    }
  }

  const int64_t channels_, width_, inside_, line_;
  const Covers columns_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
