// How rows are cut into blocks whose numbers look at no more than the vectors that are picked out of.
#pragma once

#include "filter_pool/looks.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <int N>
class PickedCut {
 public:
  enum Form { one, two, rows };  // vectors of a row, or two rows of a vector

  // `rows`: how many rows one number looks at; `paired`: whether two rows may go together.
  PickedCut(const Looks& across, int64_t rows, bool paired) : across_(across) {
    const int64_t single = blocks(N), twice = blocks(2 * N), looks = across.most();
    form_ = paired && 2 * across.count() <= N && across.seen() <= N                               ? Form::rows
            : twice == 0 || (single > 0 && single * (rows + looks) <= twice * (2 * rows + looks)) ? one
                                                                                                  : two;
    blocks_ = form_ == two ? twice : single;
  }

  Form form() const { return form_; }
  int64_t blocks() const { return blocks_; }
  // Whether this is worth it: blocks of a few lanes leave the rest of a vector idle.
  bool serves() const {
    constexpr int64_t most_blocks = 1024;
    return blocks_ > 0 && blocks_ <= most_blocks && across_.most() <= N && across_.groups() <= 4 &&
           (blocks_ == 1 || 4 * blocks_ <= across_.count());
  }

  // Calls body(first number, how many, first of the row that they look at), for each block.
  template <class F>
  void each(F&& body) const {
    cut(form_ == two ? 2 * N : N, body);
  }

 private:
  // How many blocks there are if what one looks at spans so much; 0: a single number looks farther.
  int64_t blocks(int64_t span) const {
    int64_t found = 0;
    return cut(span, [&](int64_t, int64_t, int64_t) { ++found; }) ? found : 0;
  }
  template <class F>
  bool cut(int64_t span, F&& body) const {
    for (int64_t i = 0; i < across_.count();) {
      int64_t low = across_.seen(), high = -1, next = i;
      for (; next < across_.count() && next - i < N; ++next) {
        int64_t least = low, most = high;
        for (int64_t g = 0; g < across_.groups(); ++g)
          for (int64_t k = 0; k < across_.looks(next, g); ++k) {
            const int64_t at = across_.at(next, k, g);
            if (at < least) least = at;
            if (at > most) most = at;
          }
        if (most - least >= span) break;
        low = least, high = most;
      }
      if (next == i) return false;
      const int64_t last = across_.seen() > span ? across_.seen() - span : 0;
      body(i, next - i, low < last ? low : last);
      i = next;
    }
    return true;
  }

  const Looks& across_;
  Form form_;
  int64_t blocks_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
