"""Fused execution of any module: `optimize` finds chains that one operator can do, and `report` says what it found."""

from switchgrad.fusion.optimizing import optimize
from switchgrad.fusion.report import Report, Row, report

__all__ = ["Report", "Row", "optimize", "report"]
