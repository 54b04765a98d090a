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
  static constexpr WinogradTable table = {{kernels_of<TilesOfTwo, float>, kernels_of<TilesOfFour, float>},
                                          {kernels_of<TilesOfTwo, double>, kernels_of<TilesOfFour, double>}};
  return table;
}

}  // namespace switchgrad::SWITCHGRAD_ISA
