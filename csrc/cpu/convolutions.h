// What the convolutions on the CPU share: checks, memory for the length of a call, layouts.
#pragma once

#include <string>

#include "conv_pool/job.h"
#include "cpu/scratch.h"
#include "cpu/tensors.h"
#include "cpu/windows.h"
#include "layout/job.h"

namespace switchgrad {

// What a table has for the dtype of `input`; `who` takes two.
template <class Table>
const auto& of_dtype(const Table& table, const Tensor& input, const char* who) {
  switch (input.scalar_type()) {
    case ScalarType::Float: return table.of_float;
    case ScalarType::Double: return table.of_double;
    default: break;
  }
  fail(std::string("the input has dtype ") + torch::headeronly::toString(input.scalar_type()) + "; " + who +
       " float32 or float64");
}

inline void check_same_dtype(const Tensor& input, const Tensor& other, const char* what) {
  if (other.scalar_type() != input.scalar_type())
    fail(std::string("the ") + what + " has dtype " + torch::headeronly::toString(other.scalar_type()) +
         " and the input " + torch::headeronly::toString(input.scalar_type()) + "; give both the same dtype");
}

// One number for each filter, side by side.
inline Tensor checked_bias(const Tensor& input, const Tensor& bias, int64_t filters) {
  check_same_dtype(input, bias, "bias");
  if (bias.dim() != 1 || bias.size(0) != filters)
    fail("the bias has shape " + written(bias) + "; give one number for each of the " + std::to_string(filters) +
         " filters");
  return made_compact(bias, false);
}

// Room for `numbers` elements of the kind of `like`.
inline CallScratch scratch(int64_t numbers, const Tensor& like) {
  return CallScratch(static_cast<size_t>(numbers) * static_cast<size_t>(like.element_size()));
}

// A map of 4 axes in the layout asked for: itself where it lies so already.
inline Tensor relaid(const Tensor& t, bool channels_last) {
  const ScalarType dtype = t.scalar_type();
  const bool other = channels_last ? t.is_contiguous() : is_channels_last(t, 2);
  if (!other || (dtype != ScalarType::Float && dtype != ScalarType::Double)) return made_compact(t, channels_last);
  const int64_t pixels = t.size(2) * t.size(3), channels = t.size(1);
  if (pixels == 1 || channels == 1 || t.numel() == 0) return made_compact(t, channels_last);
  if (t.stride(0) != pixels * channels || (!channels_last && (t.stride(3) != channels || t.stride(1) != 1)))
    return made_compact(t, channels_last);
  Tensor made = compact(sizes_of(t), channels_last, dtype);
  TurnJob job{t.size(0), channels_last ? channels : pixels, channels_last ? pixels : channels, t.const_data_ptr(),
              made.mutable_data_ptr()};
  const LayoutTable& table = kernels<LayoutTable>(SWITCHGRAD_OF_EACH_ISA(layout_table));
  const int64_t bands = table.bands(job);
  in_parallel(job.count * bands, job.rows * job.columns / bands,
              [&](int64_t begin, int64_t end) { table.turn[dtype == ScalarType::Double](job, begin, end); });
  return made;
}

}  // namespace switchgrad
