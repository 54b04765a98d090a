"""Floor 0: the operators' signatures, the native library, and which kernel serves which operator."""

from switchgrad.kernels.info import Info, OperatorInfo, info
from switchgrad.kernels.native import isa, isas, use_isa

__all__ = ["Info", "OperatorInfo", "info", "isa", "isas", "use_isa"]
