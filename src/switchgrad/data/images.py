"""One picture file, of whatever format and colour space, as the bytes that a network sees.

The rules, the same in training and in prediction:

- PNG, JPEG, WebP, BMP, GIF and TIFF are read, told by their content and not by their suffix; of an animation the
  first frame counts.
- The EXIF rotation is applied. What is transparent becomes white, as on a page.
- Palettes and CMYK become red, green and blue; 16-bit grey is scaled (65535 becomes 255), not cut off. Colour
  profiles are not applied.
- The picture is scaled until it just covers the wanted size, with every pixel counted (antialiasing), and what sticks
  out is cut off evenly on both sides.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from switchgrad.errors import DataError

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Suffixes of picture files, in small letters, and the format that each promises."""

MOST_PIXELS = 89_478_485
"""Pictures of more pixels are refused: it is Pillow's own bound against decompression bombs."""

MOST_FILE_BYTES = 1 << 28

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF")
_REDUCING_GAP = 3.0  # shrink cheaply to three times the wanted size first: no visible difference
_DRAFT_GAP = 2.0
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAGICS = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
)
# Files that people take for pictures, told by how they begin, and what to do with them.
_STRANGERS = (
    (4, b"ftypheic", "a HEIC photograph"),
    (4, b"ftypheix", "a HEIC photograph"),
    (4, b"ftypmif1", "a HEIF photograph"),
    (4, b"ftypavif", "an AVIF picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"PK\x03\x04", "a zip archive or office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"<!DOCTYPE", "a web page, perhaps an error page saved under the picture's name"),
    (0, b"<html", "a web page, perhaps an error page saved under the picture's name"),
)

_lock = threading.Lock()
_filters: list[warnings.catch_warnings[None]] = []  # the saved filters, once for every `quiet` that is under way


class UnreadableError(DataError):
    """A picture that cannot be read: ``reason`` says why and ``remedy`` what to do, without the file's name."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Picture:
    """A decoded picture: ``pixels`` uint8 ``[C, H, W]``, C being 1 where the file is grey, and what was found.

    ``format`` is the true one; ``notes`` are facts worth knowing, such as ``"turned by EXIF"``.
    """

    pixels: npt.NDArray[np.uint8]
    format: str
    notes: tuple[str, ...]


def read_image(path: str | Path, size: tuple[int, int], channels: int = 3) -> Tensor:
    """One picture as a network sees it: uint8 ``[channels, H, W]`` of ``size`` ``(H, W)``.

    The module's rules apply. With 1 channel colours become grey by ``0.299 R + 0.587 G + 0.114 B``; with 3 a grey
    picture is repeated. Raises `DataError` in one sentence for a file that is missing, empty, damaged, truncated, no
    picture, or too large.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "red.png"
    ...     Image.new("RGB", (20, 10), "red").save(path)
    ...     read_image(path, (2, 2))[:, 0, 0]
    tensor([255,   0,   0], dtype=torch.uint8)
    """
    if channels not in (1, 3):
        raise DataError(f"channels is {channels}; give 1 for grey or 3 for red, green and blue")
    try:
        with quiet():
            picture = decode(read_file(Path(path)), size, "L" if channels == 1 else None)
    except UnreadableError as error:
        raise DataError(f"cannot read the picture {path}: {error}") from error
    pixels = torch.from_numpy(picture.pixels)
    return pixels.expand(channels, -1, -1).contiguous()


def read_file(path: Path) -> bytes:
    """A picture file's content, its size bounded. Raises `UnreadableError`."""
    try:
        if path.exists() and not path.is_file():
            raise UnreadableError("it is no regular file", "remove it")
        size = path.stat().st_size
        if size > MOST_FILE_BYTES:
            raise UnreadableError(f"it has {size >> 20} MiB, more than {MOST_FILE_BYTES >> 20}", "shrink or remove it")
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be opened ({error.strerror})", "check its path and permissions") from error
    if not content:
        raise UnreadableError("it is empty (0 bytes)", "get it again or remove it")
    return content


def decode(content: bytes, size: tuple[int, int], mode: str | None = None) -> Picture:
    """A file's content as a `Picture` of ``size`` ``(H, W)``; ``mode`` ``"L"`` makes it grey, None keeps colours.

    Raises `UnreadableError` for whatever Pillow cannot read whole.
    """
    image = _open(content)
    with image:
        try:
            return _decode(image, size, mode)
        except UnreadableError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever comes: SyntaxError, struct.error, IndexError ...
            raise UnreadableError(f"it is damaged or truncated ({error})", "get it again or remove it") from error


@contextmanager
def quiet() -> Generator[None]:
    """No warnings from Pillow: what matters in a picture is said by errors and notes.

    Python keeps one list of filters for all threads, so the first one in sets it and the last one out restores it.
    """
    with _lock:
        if not _filters:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.simplefilter("ignore")
            _filters.append(catcher)
        else:
            _filters.append(_filters[0])
    try:
        yield
    finally:
        with _lock:
            catcher = _filters.pop()
            if not _filters:
                catcher.__exit__(None, None, None)


def header_size(path: Path) -> tuple[int, int]:
    """Height and width after EXIF rotation, from the header alone. Raises `UnreadableError`."""
    with _open(path) as image:
        width, height = image.size  # of a TIFF, Pillow has turned it already
        turned = image.format != "TIFF" and _orientation(image) >= 5
        return (width, height) if turned else (height, width)


def fit(pixels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A picture uint8 ``[C, H, W]`` (C is 1 or 3) scaled and cut to ``size`` by the rule for files.

    >>> fit(np.array([[[0, 0, 100, 100, 255, 255]]], np.uint8), (1, 1))
    array([[[100]]], dtype=uint8)
    """
    return _fit(Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)), size, None)


def is_picture(path: Path) -> bool:
    """Whether the file's header is that of a picture, whatever its suffix."""
    try:
        with _open(path):
            return True
    except UnreadableError:
        return False


def _open(source: bytes | Path) -> Image.Image:
    """The picture with its header read, its size bounded."""
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("more than") from None
    except Image.UnidentifiedImageError:
        raise _stranger(source) from None
    except Exception as error:  # a header that is damaged: see `decode`
        raise UnreadableError(f"its header is damaged ({error})", "get it again or remove it") from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise _too_large(f"{width} x {height}, more than")
    return image


def _too_large(size: str) -> UnreadableError:
    return UnreadableError(f"it has {size} {MOST_PIXELS / 1e6:.0f} million pixels", "shrink it or remove it")


def _stranger(source: bytes | Path) -> UnreadableError:
    content = source if isinstance(source, bytes) else b""
    for at, magic, format in _MAGICS:
        if content[at : at + len(magic)] == magic:
            return UnreadableError(f"it begins like {format} but is damaged or truncated", "get it again or remove it")
    for at, magic, what in _STRANGERS:
        if content[at : at + len(magic)].lower() == magic.lower():
            return UnreadableError(f"it is {what}", "convert it to PNG or JPEG, or remove it")
    return UnreadableError(
        "it is not a picture in PNG, JPEG, WebP, BMP, GIF or TIFF form", "convert it to PNG or JPEG, or remove it"
    )


def _decode(image: Image.Image, size: tuple[int, int], mode: str | None) -> Picture:
    format = "JPEG" if image.format == "MPO" else image.format or "unknown"
    animated = format != "JPEG" and bool(getattr(image, "is_animated", False))
    stored = image.mode
    image.draft(mode, _draft_size(image.size, size))
    image.load()
    orientation = _orientation(image)
    plain = _plain(image)
    if mode is not None and plain.mode != mode:
        plain = plain.convert(mode)
    pixels = _fit(plain, size, _TURNS.get(orientation))
    return Picture(pixels, format, _notes(stored, animated, orientation))


def _draft_size(full: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The least size that a JPEG may be decoded at: twice what the network sees of the shorter side."""
    scale = min(_DRAFT_GAP * max(size) / min(full), 1.0)
    return int(full[0] * scale) or 1, int(full[1] * scale) or 1


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the EXIF data are damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data do not make the picture bad
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _plain(image: Image.Image) -> Image.Image:
    """The picture as 8-bit grey (L) or RGB, nothing transparent."""
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise UnreadableError("it holds floating-point pixels of unknown range", "convert it to 8-bit PNG")
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    grey = image.mode in ("L", "LA", "La", "1")
    colours = image.convert("RGBA")
    page = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(page, colours).convert("L" if grey else "RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """0 to 65535 scaled to 0 to 255, rounded."""
    values = np.asarray(image).astype(np.int32)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise UnreadableError("it holds 32-bit pixels of unknown range", "convert it to 8- or 16-bit PNG")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _fit(image: Image.Image, size: tuple[int, int], turn: Image.Transpose | None) -> npt.NDArray[np.uint8]:
    """The middle of the picture that has the proportions of ``size``, scaled to it, as ``[C, H, W]``."""
    if turn is not None:
        image = image.transpose(turn)
    height, width = size
    scale = max(height / image.height, width / image.width)
    box_width, box_height = min(width / scale, image.width), min(height / scale, image.height)
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    box = (left, top, left + box_width, top + box_height)
    if (image.width, image.height) != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR, box, _REDUCING_GAP)
    pixels = np.array(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _notes(mode: str, animated: bool, orientation: int) -> tuple[str, ...]:
    facts = (
        (animated, "animated or of several pages: only the first is used"),
        (mode == "CMYK", "CMYK: turned into RGB"),
        (mode.startswith("I"), "16-bit grey: scaled to 8 bits"),
        (orientation != 1, "turned upright as its EXIF data say"),
    )
    return tuple(note for holds, note in facts if holds)
