// The fused convolution and pooling kernels for one instruction set: compiled once for each.
#include "conv_pool/few_filters_gradient.h"
#include "conv_pool/input_gradient.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class E>
constexpr ConvPoolKernels kernels_of = {
    conv_pool_packed_size<E>, conv_pool_pack<E>, conv_pool_forward<E>,       packed_filters_size<E>,
    pack_filters<E>,          weight_parts<E>,   weight_sums_size<E>,        conv_pool_weight_gradient<E>,
    finish_weights<E>,        input_blocks<E>,   conv_pool_input_gradient<E>};

}  // namespace

const ConvPoolTable& conv_pool_table() {
  static constexpr ConvPoolTable table = {kernels_of<float>, kernels_of<double>};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
