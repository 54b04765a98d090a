"""Triton kernels: what operators run by on CUDA. Nothing imports this room but `kernels.cuda`, on first use.

Every kernel writes tiles of its result in the order in which the result lies in memory, so that neighbouring threads
write neighbouring numbers; each number of the result is computed by one program alone, in a fixed order, so there are
no atomics and every run gives the same bits. `maps` says where tensors lie, `tiles` holds what kernels share, `launch`
starts them.
"""
