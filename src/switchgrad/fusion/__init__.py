"""Fused execution of any module: `optimize` finds chains that one operator can do, `report` says what it found, and
`measured` what tuning measured."""

from switchgrad.fusion.optimizing import optimize
from switchgrad.fusion.report import Report, Row, report
from switchgrad.fusion.table import Candidate, Measured, measured

__all__ = ["Candidate", "Measured", "Report", "Row", "measured", "optimize", "report"]
