// The kernels of fully connected layers for one instruction set: compiled once for each.
#include "linear/forward.h"
#include "linear/gradients.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class E>
constexpr LinearKernels kernels_of = {packed_input_size<E>,     pack_input_items<E>, pack_input<E>,
                                      forward_items<E>,         forward<E>,          packed_grad_size,
                                      panels_of_grad,           pack_grad<E>,        tiled_input_size<E>,
                                      tiled_input_items<E>,     input_gradient<E>,   tile_input<E>,
                                      weight_gradient_items<E>, weight_gradient<E>};

}  // namespace

const LinearTable& linear_table() {
  static constexpr LinearTable table = {kernels_of<float>, kernels_of<double>};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
