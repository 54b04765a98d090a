// The kernels of chains of fully connected layers for one instruction set: compiled once for each.
#include "mlp/backward.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class E>
constexpr MlpKernels kernels_of = {most_vectors_of_rows, vectors_of_rows<E>,  mlp_room<E>,
                                   mlp_forward_items<E>, mlp_forward<E>,      row_groups,
                                   mlp_row_gradients<E>, mlp_weight_items<E>, mlp_weight_gradients<E>};

}  // namespace

const MlpTable& mlp_table() {
  static constexpr MlpTable table = {kernels_of<float>, kernels_of<double>};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
