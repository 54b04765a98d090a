// The Winograd kernels for one instruction set: compiled once for each.
#include "winograd/pool.h"
#include "winograd/weight_gradient.h"

namespace switchgrad::SWITCHGRAD_ISA {
namespace {

template <class W, class E>
constexpr WinogradKernels kernels_of = {
    winograd_packed_size<W, E>, winograd_pack_items<E>,        winograd_pack<W, E>,       winograd_forward<W, E>,
    winograd_pool<W, E>,        winograd_block_of_tiles<W, E>, winograd_term_sizes<W, E>, winograd_transform<W, E>,
    winograd_add<W, E>,         winograd_finish<W, E>};

}  // namespace

const WinogradTable& winograd_table() {
  static constexpr WinogradTable table = {{{kernels_of<Tiles<2, 3>, float>, kernels_of<Tiles<4, 3>, float>},
                                           {kernels_of<Tiles<2, 5>, float>, kernels_of<Tiles<4, 5>, float>}},
                                          {{kernels_of<Tiles<2, 3>, double>, kernels_of<Tiles<4, 3>, double>},
                                           {kernels_of<Tiles<2, 5>, double>, kernels_of<Tiles<4, 5>, double>}}};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
