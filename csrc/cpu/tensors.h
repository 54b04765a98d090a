// Tensors as the kernels want them: batch x channels x up to three spatial axes, planar or channels last.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <string>
#include <vector>

#include "common/table.h"

namespace switchgrad {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::vector<int64_t>;
constexpr int64_t most_axes = 64;  // that a tensor of PyTorch's has

inline std::string written(const Tensor& t) {
  std::string text = "(";
  for (int64_t i = 0; i < t.dim(); ++i) text += (i ? ", " : "") + std::to_string(t.size(i));
  return text + (t.dim() == 1 ? ",)" : ")");
}

inline Dtype dtype_of(const Tensor& t, const char* what) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return F64;
    case ScalarType::Float: return F32;
    case ScalarType::Half: return F16;
    case ScalarType::BFloat16: return BF16;
    case ScalarType::Byte: return U8;
    case ScalarType::Char: return I8;
    case ScalarType::Short: return I16;
    case ScalarType::Int: return I32;
    case ScalarType::Long: return I64;
    default: break;
  }
  fail(std::string(what) + " has dtype " + torch::headeronly::toString(t.scalar_type()) +
       "; max pooling takes float64, float32, float16, bfloat16, uint8, int8, int16, int32 or int64");
}

// Whether the strides run channel by channel within a pixel (PyTorch's rule, ambiguous shapes included).
inline bool is_channels_last(const Tensor& t, int64_t spatial) {
  if (t.dim() != spatial + 2 || spatial < 2) return false;
  if (t.stride(1) == 0) return false;
  int64_t least = 0;
  const auto fits = [&](int64_t axis) {
    if (t.size(axis) == 0 || t.stride(axis) < least) return false;
    if (axis == 0 && least == t.stride(1)) return false;
    least = t.stride(axis) * (t.size(axis) > 1 ? t.size(axis) : 1);
    return true;
  };
  if (!fits(1)) return false;
  for (int64_t axis = spatial + 1; axis >= 2; --axis)
    if (!fits(axis)) return false;
  return fits(0);
}

// Asks Linux for large pages under a large new tensor. A fresh tensor is faulted in page by page as it is first
// written, which at 4 KiB a page costs more than the pooling itself; with 2 MiB pages it is one fault in 512.
inline void ask_for_large_pages([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t page = uintptr_t{2} << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // advice: may be declined
#endif
}

// A new tensor without holes, in either layout.
inline Tensor compact(const Sizes& sizes, bool channels_last, ScalarType dtype) {
  const auto dims = static_cast<int64_t>(sizes.size());
  int64_t strides[most_axes];
  int64_t step = 1;
  const auto lay = [&](int64_t axis) {
    strides[axis] = step;
    step *= sizes[axis] > 1 ? sizes[axis] : 1;
  };
  if (channels_last) lay(1);
  for (int64_t axis = dims - 1; axis >= (channels_last ? 2 : 0); --axis) lay(axis);
  if (channels_last) lay(0);
  const auto shim_dtype = static_cast<int32_t>(torch::stable::detail::from(dtype));
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(dims, sizes.data(), strides, shim_dtype, aoti_torch_device_type_cpu(), 0, &handle));
  Tensor made(handle);
  ask_for_large_pages(made.mutable_data_ptr(), static_cast<size_t>(step) * made.element_size());
  return made;
}

// Whether the numbers lie in this layout without holes; the strides of axes of one cell say nothing.
inline bool is_compact(const Tensor& t, bool channels_last) {
  int64_t step = 1;
  const auto follows = [&](int64_t axis) {
    const int64_t cells = t.size(axis);
    if (cells == 1) return true;
    const bool in_place = t.stride(axis) == step;
    step *= cells;
    return in_place;
  };
  if (channels_last && !follows(1)) return false;
  for (int64_t axis = t.dim() - 1; axis >= (channels_last ? 2 : 0); --axis)
    if (!follows(axis)) return false;
  return !channels_last || follows(0);
}

inline Tensor made_compact(const Tensor& t, bool channels_last) {
  using torch::headeronly::MemoryFormat;
  if (is_compact(t, channels_last)) return t;  // asked here, because the way through the dispatcher is long
  if (!channels_last) return torch::stable::contiguous(t, MemoryFormat::Contiguous);
  return torch::stable::contiguous(t, t.dim() == 5 ? MemoryFormat::ChannelsLast3d : MemoryFormat::ChannelsLast);
}

inline Sizes sizes_of(const Tensor& t) {
  Sizes sizes(t.dim());
  for (int64_t i = 0; i < t.dim(); ++i) sizes[i] = t.size(i);
  return sizes;
}

}  // namespace switchgrad
