// The best cells of wide windows over neighbouring channels: some pixels at a time, as they lie in memory, into a line
// of the best so far.
#pragma once

#include "max_pool/best.h"
#include "max_pool/held.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Whether a comparison holds in some lane.
template <class M>
SWITCHGRAD_INLINE bool any_lane(M mask) {
  if constexpr (std::is_integral_v<M>) {
    return mask != 0;
  } else {
    uint64_t words[(sizeof(M) + 7) / 8] = {}, any = 0;
    std::memcpy(words, &mask, sizeof(M));
    for (const uint64_t word : words) any |= word;
    return any != 0;
  }
}

// How the best so far meets the next: by the whole rule.
struct AnyMeeting {
  template <class Best>
  SWITCHGRAD_INLINE void operator()(Best& best, const Best& next) const {
    best.meet(next);
  }
  template <class V>
  SWITCHGRAD_INLINE void all(V) {}
  template <class Best>
  SWITCHGRAD_INLINE void end(const Best&) {}
  void join(AnyMeeting) {}
  bool is_right() const { return true; }
};

// The same as long as no NaN comes, with half the comparisons. NaN stays in the sum of all that came, and so does what
// becomes of infinities of both signs, a false alarm; 16-bit floats are compared as integers, of which NaN is the
// largest, so one of them is still there in the end.
template <class T, class Code, int N>
class NumberMeeting {
  using Raw = typename Kinds<T, Code>::Raw;
  static constexpr bool is_real = std::is_floating_point_v<Raw>;
  static constexpr bool is_half = !std::is_same_v<Raw, typename Element<T>::Sum>;

 public:
  template <class Best>
  SWITCHGRAD_INLINE void operator()(Best& best, const Best& next) const {
    const auto wins = next.key > best.key;
    best.value = select(wins, next.value, best.value);
    best.key = select(wins, next.key, best.key);
    best.code = select(wins, next.code, best.code);
  }
  template <class V>
  SWITCHGRAD_INLINE void all(V sum) {
    if constexpr (std::is_same_v<V, Vec<Raw, N>> && is_real) {
      sum_ = sum_ + sum;
    } else if constexpr (is_real) {  // of fewer lanes, at the end of a line
      is_odd_ |= any_lane(sum != sum);
    }
  }
  template <class Best>
  SWITCHGRAD_INLINE void end(const Best& best) {
    if constexpr (is_half) is_odd_ |= any_lane(Element<T>::beats(best.key, best.key));
  }
  SWITCHGRAD_INLINE void join(const NumberMeeting& other) { is_odd_ |= !other.is_right(); }
  SWITCHGRAD_INLINE bool is_right() const { return !is_odd_ && !any_lane(sum_ != sum_); }

 private:
  Vec<Raw, N> sum_{};
  bool is_odd_ = false;
};

// Some pixels into a line of the best so far. (Its own function, for the registers.)
template <class T, class Code, int N, int Rows, class Meeting, class Raw, class Lane>
__attribute__((noinline)) void meet_rows(const Raw* first, const int64_t* where, const Lane* offset, int64_t count,
                                         bool is_first, Raw* values, Lane* codes, Meeting& given) {
  const Raw* rows[Rows];
  Lane code[Rows];
  for (int i = 0; i < Rows; ++i) {
    rows[i] = held_pointer(first + where[i]);
    code[i] = offset[i];
  }
  Meeting meeting;
  cascade<N>(0, count, [&](auto n, int64_t at, auto cover) {
    constexpr int M = decltype(n)::value;
    const auto candidate = [&](int i) {
      return Best<T, Code, M>::of(held(load<Vec<Raw, M>>(rows[i] + at, cover)), broadcast<Lane, M>(code[i]));
    };
    auto winner = candidate(0);
    auto sum = winner.value;
    if (!is_first) {
      const auto next = winner;
      winner = Best<T, Code, M>::of(held(load<Vec<Raw, M>>(values + at, cover)), load<Vec<Lane, M>>(codes + at, cover));
      meeting(winner, next);
    }
#pragma GCC unroll 4
    for (int i = 1; i < Rows; ++i) {
      const auto next = candidate(i);
      sum = static_cast<Vec<Raw, M>>(sum + next.value);
      meeting(winner, next);
    }
    meeting.all(sum);
    store(values + at, winner.value, cover);
    store(codes + at, winner.code, cover);
  });
  given.join(meeting);
}

// Windows of many pixels: four at a time, as they lie in memory, into a line of the best so far.
template <class T, class Code, int N>
class BestLine {
 public:
  using Raw = typename Kinds<T, Code>::Raw;
  using Lane = typename Kinds<T, Code>::Lane;

  static bool serves(int64_t pixels, int64_t channels) { return pixels >= 16 && channels >= 4 * N; }

  explicit BestLine(int64_t channels)
      : chunk_(channels < nearby ? channels : nearby), values_(chunk_), codes_(chunk_) {}

  template <class Pixels>
  void pool(const Raw* first, const Pixels& pixels, int64_t channels, const OutputRow<T, Code>& to) const {
    for (int64_t c = 0; c < channels; c += chunk_) {
      const int64_t count = channels - c < chunk_ ? channels - c : chunk_;
      OutputRow<T, Code> here = to;
      here.values += c;
      if (to.codes) here.codes += c;
      if (!pool_by<NumberMeeting<T, Code, N>>(first + c, pixels, count, here))
        pool_by<AnyMeeting>(first + c, pixels, count, here);
    }
  }

 private:
  static constexpr int64_t nearby = 1 << 10, together = 4;

  template <int M, class Cover>
  SWITCHGRAD_INLINE Best<T, Code, M> best(int64_t at, Cover cover) const {
    return Best<T, Code, M>::of(held(load<Vec<Raw, M>>(values_.get() + at, cover)),
                                load<Vec<Lane, M>>(codes_.get() + at, cover));
  }

  template <class Meeting, class Pixels>
  bool pool_by(const Raw* first, const Pixels& pixels, int64_t count, const OutputRow<T, Code>& to) const {
    Meeting meeting;
    const int64_t whole = pixels.count / together * together;
    const auto meet = [&](auto rows, int64_t i) {
      meet_rows<T, Code, N, decltype(rows)::value>(first, pixels.where.get() + i, pixels.offset.get() + i, count,
                                                   i == 0, values_.get(), codes_.get(), meeting);
    };
    for (int64_t i = 0; i < whole; i += together) meet(std::integral_constant<int, together>{}, i);
    for (int64_t i = whole; i < pixels.count; ++i) meet(std::integral_constant<int, 1>{}, i);
    cascade<N>(0, count, [&](auto n, int64_t at, auto cover) {
      const auto winner = best<decltype(n)::value>(at, cover);
      meeting.end(winner);
      winner.write(to.values, to.codes, at, cover);
    });
    return meeting.is_right();
  }

  int64_t chunk_;
  Scratch<Raw> values_;
  Scratch<Lane> codes_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
