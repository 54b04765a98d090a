// Random numbers of every dtype, nasty ones among them, and how 16-bit floats are read and rounded, told once more.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

namespace fuzz {

inline std::mt19937_64 random_bits;

inline int64_t between(int64_t least, int64_t most) {
  return least + static_cast<int64_t>(random_bits() % static_cast<uint64_t>(most - least + 1));
}
inline bool chance(int percent) { return between(1, 100) <= percent; }

struct Half {
  uint16_t word;
};
struct Brain {
  uint16_t word;
};

template <class T>
float number(T x) {
  if constexpr (std::is_same_v<T, Half>) {
    _Float16 half;
    std::memcpy(&half, &x, 2);
    return static_cast<float>(half);
  } else {
    const uint32_t word = static_cast<uint32_t>(x.word) << 16;
    float wide;
    std::memcpy(&wide, &word, 4);
    return wide;
  }
}
template <class T>
auto order(T x) {
  if constexpr (std::is_arithmetic_v<T>) {
    return x;
  } else {
    return number(x);
  }
}
template <class T>
constexpr bool is_half = !std::is_arithmetic_v<T>;
template <class T>
constexpr bool is_real = is_half<T> || std::is_floating_point_v<T>;

template <class T>
T rounded(float sum) {
  if constexpr (std::is_same_v<T, Half>) {
    const auto half = static_cast<_Float16>(sum);
    Half x;
    std::memcpy(&x, &half, 2);
    return x;
  } else {
    uint32_t word;
    std::memcpy(&word, &sum, 4);
    if (sum != sum) return {0x7fc0};
    const uint32_t rest = word & 0xffff;
    const bool up = rest > 0x8000 || (rest == 0x8000 && (word & 0x10000));
    return {static_cast<uint16_t>((word >> 16) + up)};
  }
}

// What numbers of T are added in, and a sum as it is written.
template <class T>
using SumOf = std::conditional_t<is_half<T>, float, T>;
template <class T, class Sum>
T written(Sum sum) {
  if constexpr (is_half<T>) {
    return rounded<T>(static_cast<float>(sum));
  } else {
    return static_cast<T>(sum);
  }
}

template <class T>
T lowest() {
  if constexpr (std::is_same_v<T, Half>) return {0xfc00};
  if constexpr (std::is_same_v<T, Brain>) return {0xff80};
  if constexpr (std::is_floating_point_v<T>) return -std::numeric_limits<T>::infinity();
  if constexpr (std::is_integral_v<T>) return std::numeric_limits<T>::min();
}

template <class T>
T any_number(int kind) {
  if (kind == 0) {  // few values: ties, both zeros
    if constexpr (is_half<T>) return rounded<T>(std::vector<float>{-1, -0.0f, 0.0f, 2}[between(0, 3)]);
    if constexpr (std::is_floating_point_v<T>) return std::vector<T>{-1, T(-0.0), T(0.0), 2}[between(0, 3)];
    if constexpr (std::is_integral_v<T>) return static_cast<T>(between(0, 3) + (chance(50) ? lowest<T>() : 0));
  }
  if (kind == 1) {  // any bits: NaN with payloads, infinities, subnormal numbers
    T x;
    const uint64_t word = random_bits();
    std::memcpy(&x, &word, sizeof(T));
    return x;
  }
  if (kind == 2) return lowest<T>();
  const auto plain = static_cast<float>(between(-1000, 1000)) / 8;  // sums of these are exact in float
  if constexpr (is_half<T>) return rounded<T>(plain);
  if constexpr (!is_half<T>) return static_cast<T>(std::is_unsigned_v<T> ? std::abs(plain) : plain);
}

// Numbers whose sums are not rounded, with an infinity or NaN here and there.
template <class T>
T any_summand() {
  if (chance(1)) return chance(50) ? lowest<T>() : written<T>(NAN);
  return any_number<T>(3);
}

template <class T>
bool same(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}
// Sums: any NaN equals any other, and -0 equals 0.
template <class T>
bool same_sum(T a, T b) {
  const auto x = order(a), y = order(b);
  return x == y || (x != x && y != y);
}

}  // namespace fuzz
