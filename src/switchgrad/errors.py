"""The exceptions that users see. Each message is one sentence: what was given, what was wanted, what to do."""


class SwitchgradError(Exception):
    """Base of every error that Switchgrad raises on purpose, so that one ``except`` catches them all."""


class GeometryError(SwitchgradError, ValueError, RuntimeError):
    """Sizes that do not fit together: a window larger than its input, a padding that no window reaches.

    It is also a ``RuntimeError``, because that is what ``torch.nn.functional`` raises for the same mistakes.
    """


class DataError(SwitchgradError, ValueError):
    """Data that cannot be used as it is: a damaged file, a class that only one split has, a wrong checksum."""


class ModelError(SwitchgradError, ValueError):
    """A model that cannot be built or applied: an unknown name, an input too small for its layers."""


class RunError(SwitchgradError, ValueError):
    """A run folder or a recipe that cannot be used: a missing file, a setting out of range, a damaged checkpoint."""


class ExportError(SwitchgradError, ValueError):
    """A model that cannot be written as an ONNX graph, or whose graph does not compute what the model computes."""


class NativeLibraryWarning(UserWarning):
    """The compiled kernels cannot be used, so every operator runs on its (slower) reference."""


class DataWarning(UserWarning):
    """Data that can be used but deserve a look: files left out, a class that a split lacks, pictures in both splits."""


class FusionWarning(UserWarning):
    """An optimized module runs as it was written: it was changed since, or its program failed."""
