// Small tensors, one number for each channel, as doubles and back.
#pragma once

#include <cmath>
#include <cstring>
#include <optional>

#include "cpu/tensors.h"

namespace switchgrad {

using Numbers = std::vector<double>;
using Optional = std::optional<Tensor>;

inline Dtype float_dtype(const Tensor& t, const char* what, const char* family) {
  const Dtype dtype = dtype_of(t, what);
  if (dtype >= float_count)
    fail(std::string(what) + " has dtype " + torch::headeronly::toString(t.scalar_type()) + "; " + family +
         " takes float64, float32, float16 or bfloat16");
  return dtype;
}

inline float half_bits_to_float(uint16_t word, bool brain) {
  uint32_t bits = 0;
  float number = 0;
  if (brain) {
    bits = static_cast<uint32_t>(word) << 16;
    std::memcpy(&number, &bits, sizeof(number));
    return number;
  }
  const int exponent = word >> 10 & 31, fraction = word & 1023;
  const float magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                          : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                          : std::ldexp(static_cast<float>(fraction | 1024), exponent - 25);
  return word >> 15 ? -magnitude : magnitude;
}

// The numbers of a tensor with one for each channel; `otherwise` for all where there is none.
inline Numbers numbers_of(const Optional& given, int64_t channels, double otherwise, const char* what,
                          const char* family) {
  Numbers numbers(static_cast<size_t>(channels), otherwise);
  if (!given) return numbers;
  const Dtype dtype = float_dtype(*given, what, family);
  if (given->dim() != 1 || given->size(0) != channels)
    fail(std::string(what) + " has shape " + written(*given) + " and the input " + std::to_string(channels) +
         " channels; give one number for each channel");
  const Tensor t = made_compact(*given, false);
  const void* data = t.const_data_ptr();
  for (int64_t c = 0; c < channels; ++c) {
    switch (dtype) {
      case F64: numbers[c] = static_cast<const double*>(data)[c]; break;
      case F32: numbers[c] = static_cast<const float*>(data)[c]; break;
      default: numbers[c] = half_bits_to_float(static_cast<const uint16_t*>(data)[c], dtype == BF16);
    }
  }
  return numbers;
}

// Doubles as a tensor of some dtype.
inline Tensor tensor_of(const Numbers& numbers, const Sizes& sizes, ScalarType dtype) {
  const bool single = dtype == ScalarType::Float;
  Tensor made = compact(sizes, false, single ? dtype : ScalarType::Double);
  void* data = made.mutable_data_ptr();
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (single) {
      static_cast<float*>(data)[i] = static_cast<float>(numbers[i]);
    } else {
      static_cast<double*>(data)[i] = numbers[i];
    }
  }
  return single || dtype == ScalarType::Double ? made : torch::stable::to(made, dtype);
}

}  // namespace switchgrad
