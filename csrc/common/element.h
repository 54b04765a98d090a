// How each dtype is compared, padded, added up and carried in lanes.
#pragma once

#include <new>

#include "simd.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

// Half-precision numbers travel as their bits; these tags say how to read them.
struct Float16 {};
struct BFloat16 {};

// NaN beats every number and every earlier NaN; a tie keeps the earlier cell; integers just compare.
template <class T>
struct Element {
  using Raw = T;  // what a lane holds
  using Sum = T;  // what gradients are added up in

  static constexpr Raw lowest() {
    if constexpr (std::is_floating_point_v<T>) {
      return -__builtin_huge_val();
    } else if constexpr (std::is_signed_v<T>) {
      return static_cast<T>(T{1} << (8 * sizeof(T) - 2)) * -2;
    } else {
      return 0;
    }
  }
  template <class V>
  static V key(V value) {
    return value;
  }
  template <class V>
  static auto beats(V challenger, V best) {
    if constexpr (std::is_floating_point_v<T>) {
      return (challenger > best) | (challenger != challenger);
    } else {
      return challenger > best;
    }
  }
  static Sum widen(Raw value) { return value; }
  static Raw narrow(Sum sum) { return sum; }
};

// The order of 16-bit floats as integers: sign and magnitude to two's complement (so -0 equals 0), NaN on top.
template <int16_t Infinity>
struct SixteenBit {
  using Raw = int16_t;
  using Sum = float;

  static constexpr Raw lowest() { return static_cast<Raw>(Infinity | 0x8000); }
  template <class V>
  static V key(V value) {
    const V magnitude = value & 0x7fff;
    const V sign = value >> 15;
    const V ordered = (magnitude ^ sign) - sign;
    return select(magnitude > Infinity, static_cast<V>(V{} + int16_t{0x7fff}), ordered);
  }
  template <class V>
  static auto beats(V challenger, V best) {
    return (challenger > best) | (challenger == 0x7fff);
  }
};

template <>
struct Element<BFloat16> : SixteenBit<0x7f80> {
  static float widen(Raw value) { return bits<float>(static_cast<uint32_t>(static_cast<uint16_t>(value)) << 16); }
  static Raw narrow(float sum) {
    const auto word = bits<uint32_t>(sum);
    const uint32_t rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;  // to nearest, ties to even
    return static_cast<Raw>((word & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
  }
};

template <>
struct Element<Float16> : SixteenBit<0x7c00> {
  // Exponents are shifted by multiplying with a power of two, which also makes and reads subnormal numbers.
  static float widen(Raw value) {
    const uint32_t half = static_cast<uint16_t>(value);
    const uint32_t magnitude = (half & 0x7fff) << 13;
    const float scaled = bits<float>(magnitude) * 0x1p112f;
    const uint32_t word = (half & 0x7c00) == 0x7c00 ? magnitude | 0x7f800000 : bits<uint32_t>(scaled);
    return bits<float>(word | (half & 0x8000) << 16);
  }
  static Raw narrow(float sum) {
    const auto word = bits<uint32_t>(sum);
    const uint32_t sign = (word >> 16) & 0x8000;
    const uint32_t magnitude = word & 0x7fffffff;
    if (magnitude > 0x7f800000) return static_cast<Raw>(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return static_cast<Raw>(sign | 0x7c00);  // rounds to 65536 or more
    if (magnitude < 0x38800000) {                                         // subnormal: let the addition round
      const float rounded = bits<float>(magnitude) + 0.5f;
      return static_cast<Raw>(sign | (bits<uint32_t>(rounded) - 0x3f000000));
    }
    const uint32_t rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1);
    return static_cast<Raw>(sign | rounded >> 13);
  }
};

// T behind a ReLU: compared as T; a maximum that is not above 0 becomes 0 and nobody's (NaN is passed on).
template <class T>
struct Rectified {};
template <class T>
struct Element<Rectified<T>> : Element<T> {};
template <class T>
constexpr bool is_rectified = false;
template <class T>
constexpr bool is_rectified<Rectified<T>> = true;

// Which pairs of a number (as it is carried) and a code are worth vector code of their own: bytes with floating point,
// 16-bit floats and int32; wider codes with float alone. The rest is rare and runs one cell at a time.
template <class Raw, class Code>
constexpr bool worth_lanes =
    sizeof(Code) == 1 ? std::is_floating_point_v<Raw> || sizeof(Raw) == 2 || std::is_same_v<Raw, int32_t>
                      : std::is_same_v<Raw, float>;

// Scratch memory of a kernel: aligned to cache lines, not initialised, freed at the end of its scope.
template <class E>
class Scratch {
 public:
  // Aligned here: what the allocator aligns by itself it neither keeps at hand nor finds as quickly again.
  explicit Scratch(int64_t count)
      : block_(::operator new(static_cast<size_t>(count > 0 ? count : 1) * sizeof(E) + line)),
        data_(reinterpret_cast<E*>((reinterpret_cast<uintptr_t>(block_) + line - 1) / line * line)) {}
  ~Scratch() { ::operator delete(block_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  E* get() const { return data_; }
  E& operator[](int64_t at) const { return data_[at]; }

 private:
  static constexpr size_t line = 64;
  void* block_;
  E* data_;
};

}  // namespace
}  // namespace switchgrad::SWITCHGRAD_ISA
