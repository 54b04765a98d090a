"""Floor 5: models as files that other run times read."""

from switchgrad.export.onnx import to_onnx

__all__ = ["to_onnx"]
