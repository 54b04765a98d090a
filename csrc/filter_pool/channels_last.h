// Sums of windows and their adjoint where channels are neighbours in memory: a pixel lies in lanes.
//
// As in planar.h, weights that are products are summed over rows first, into lines of whole pixels, else at once. All
// sums are taken in the order of planar.h, so both layouts give the same bits.
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
        pooled_(across_.axis.places * channels_),
        line_((inside_ + width_ > across_.reach ? inside_ + width_ : across_.reach) * channels_),
        copied_(job.factors || !std::is_same_v<Raw<T>, A>),
        columns_(across_) {}

  void rows(int64_t begin, int64_t end) const {
    const int64_t most = rows_in_block(pooled_ * static_cast<int64_t>(sizeof(A)), job_.size(1));
    const Plan plan = this->plan_of_spread(most);
    Scratch<A> grads(copied_ ? plan.held() * pooled_ : 0), lines(this->products() ? plan.held() * line_ : 0);
    Scratch<A> parts(most_back() * channels_);
    Terms<A> terms((plan.parts() + 1) * across_.axis.kernel + most_back());
    Lines<A> seen(plan.parts());
    plan.each_block(begin, end, job_.size(0), [&](const Plan::Block& block) {
      const auto grad = [&](int64_t slot) {
        if constexpr (std::is_same_v<Raw<T>, A>)
          if (!copied_) return pooled_row(block.map, plan.from(block, slot));
        return static_cast<const A*>(grads.get() + slot * pooled_);
      };
      for (int64_t i = 0; i < plan.reads(block); ++i) {
        if (copied_) load_grads(block.map, plan.from(block, i), grads.get() + i * pooled_);
        if (this->products()) spread_line(grad(i), terms, lines.get() + i * line_);
      }
      for (int64_t i = 0; i < block.end - block.begin; ++i) {
        auto* to = static_cast<Raw<T>*>(job_.maps) + (block.begin + i) * width_ * channels_;
        terms.count = seen.count = 0;
        plan.each_row(block, i, [&](int64_t tap, int64_t slot) {
          if (this->products()) {
            terms.add(lines.get() + slot * line_ + inside_ * channels_, this->down_[tap]);
          } else {
            seen.add(grad(slot), weights_ + tap * across_.axis.kernel);
          }
        });
        if (this->products()) {
          combine<A, T>(terms, 0, width_ * channels_, nullptr, to);
        } else {
          spread_pixels(seen, terms, parts.get(), to);
        }
      }
    });
  }

 private:
  const Raw<T>* pooled_row(int64_t n, int64_t place) const {
    return static_cast<const Raw<T>*>(job_.pooled) + (n * this->place_rows() + place) * pooled_;
  }
  // A row of pooled numbers times their factors.
  void load_grads(int64_t n, int64_t place, A* to) const {
    Terms<T> one(1);
    one.add(pooled_row(n, place), A{1});
    if (!factors_) return combine<T, A>(one, 0, pooled_, nullptr, to);
    for (int64_t q = 0; q < across_.axis.places; ++q)
      combine<T, A>(one, q * channels_, channels_, factors_ + place * across_.axis.places + q, to + q * channels_);
  }
  // How many padded cells one input cell is, at most.
  int64_t most_back() const {
    int64_t most = 1;
    for (int64_t w = 0; w < width_; ++w)
      if (across_.first_back[w + 1] - across_.first_back[w] > most)
        most = across_.first_back[w + 1] - across_.first_back[w];
    return most;
  }

  // What padded cells get from a row of pooled pixels, those beyond the border added to where they are.
  void spread_line(const A* grads, Terms<A>& terms, A* line) const {
    for (int64_t i = across_.reach * channels_; i < line_; ++i) line[i] = 0;
    for (int64_t t = 0; t < across_.reach; ++t) {
      terms.count = 0;
      columns_.at_padded(t, [&](int64_t s, int64_t q) { terms.add(grads + q * channels_, this->along_[s]); });
      combine<A, A>(terms, 0, channels_, nullptr, line + t * channels_);
    }
    this->for_each_pad([&](int64_t t) {
      if (across_.source[t] < 0) return;
      A *to = line + (inside_ + across_.source[t]) * channels_, *from = line + t * channels_;
      for (int64_t c = 0; c < channels_; ++c) to[c] += from[c];
    });
  }

  void spread_pixels(const Lines<A>& seen, Terms<A>& terms, A* parts, Raw<T>* to) const {
    const auto collect = [&](int64_t t) {
      terms.count = 0;
      for (int64_t k = 0; k < seen.count; ++k)
        columns_.at_padded(t,
                           [&](int64_t s, int64_t q) { terms.add(seen.run[k] + q * channels_, seen.weights[k][s]); });
    };
    for (int64_t w = 0; w < width_; ++w) {
      const int64_t own = inside_ + w, first = across_.first_back[w], last = across_.first_back[w + 1];
      terms.count = 0;
      if (last - first < 2) {
        if (first < last) collect(across_.back[first]);
        combine<A, T>(terms, 0, channels_, nullptr, to + w * channels_);
        continue;
      }
      int64_t count = 0;
      const auto take = [&](int64_t t) {
        collect(t);
        combine<A, A>(terms, 0, channels_, nullptr, parts + count++ * channels_);
      };
      if (own < across_.reach) take(own);
      for (int64_t i = first; i < last; ++i)
        if (across_.back[i] != own) take(across_.back[i]);
      terms.count = 0;
      for (int64_t i = 0; i < count; ++i) terms.add(parts + i * channels_, A{1});
      combine<A, T>(terms, 0, channels_, nullptr, to + w * channels_);
    }
  }

  const int64_t channels_, width_, inside_, pooled_, line_;
  const bool copied_;
  const Covers columns_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
