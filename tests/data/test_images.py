"""One picture at a time: formats, colour spaces, rotation, scaling, and everything that is not a whole picture."""

import io
import random
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from switchgrad.data import images, read_image
from switchgrad.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (12, 16), dtype=np.uint8)
SIZE = (12, 16)


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def smooth(height, width):
    """A picture without sharp edges, so that lossy formats keep it nearly as it is."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / width * 3 + y / height * 2 + phase) for phase in (0, 1, 2)]
    return np.stack([127.5 + 120 * wave for wave in waves], -1).astype(np.uint8)


def read(content, size=SIZE, mode=None):
    with images.quiet():
        return images.decode(content, size, mode)


def chw(array):
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
@pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["colour", "grey"])
def test_lossless_formats_give_every_pixel(tmp_path, format, options, pixels):
    content = encoded(Image.fromarray(pixels), format, **options)
    expected = np.broadcast_to(chw(pixels), (3, *SIZE))
    (tmp_path / "x").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "x", SIZE).numpy(), expected)
    picture = read(content)
    assert picture.format == format
    assert len(picture.pixels) == (1 if pixels.ndim == 2 and format != "WEBP" else 3)
    assert picture.notes == ()


@pytest.mark.parametrize(("format", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95})])
def test_lossy_formats_come_close(format, options):
    pixels = smooth(40, 60)
    picture = read(encoded(Image.fromarray(pixels), format, **options), (40, 60))
    assert np.abs(picture.pixels.astype(int) - chw(pixels)).mean() < 3


def test_gif_palettes_are_colours():
    few = (COLOUR // 128 * 255).astype(np.uint8)
    np.testing.assert_array_equal(read(encoded(Image.fromarray(few), "GIF")).pixels, chw(few))


def test_black_and_white_is_grey():
    bits = (GREY > 127).astype(np.uint8) * 255
    picture = read(encoded(Image.fromarray(bits).convert("1"), "PNG"))
    np.testing.assert_array_equal(picture.pixels, bits[None])


def test_one_channel_is_the_luminance(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    expected = COLOUR.astype(float) @ [0.299, 0.587, 0.114]
    got = read_image(tmp_path / "x.png", SIZE, channels=1).numpy()
    assert got.shape == (1, *SIZE)
    np.testing.assert_allclose(got[0], expected, atol=0.51)


def on_white(pixels, alpha):
    share = alpha.astype(float)[..., None] / 255
    return pixels * share + 255 * (1 - share)


def test_what_is_transparent_becomes_white():
    alpha = RNG.integers(0, 256, SIZE, dtype=np.uint8)
    image = Image.fromarray(np.dstack([COLOUR, alpha]))
    for format, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        got = read(encoded(image, format, **options)).pixels
        np.testing.assert_allclose(got, chw(on_white(COLOUR, alpha)), atol=1)


def test_grey_with_alpha_stays_grey():
    alpha = RNG.integers(0, 256, SIZE, dtype=np.uint8)
    image = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    got = read(encoded(image, "PNG")).pixels
    np.testing.assert_allclose(got, chw(on_white(GREY[..., None], alpha)[..., 0]), atol=1)


def test_transparent_palettes_and_key_colours_become_white():
    indices = (GREY % 3).astype(np.uint8)
    image = Image.fromarray(indices, mode=None)
    palette = Image.new("P", (16, 12))
    palette.putdata(indices.flatten().tolist())
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    expected = np.where((indices == 1)[..., None], 255, colours[indices])
    for content in (
        encoded(palette, "PNG", transparency=1),
        encoded(palette, "PNG", transparency=bytes([255, 0, 255])),
        encoded(palette, "GIF", transparency=1),
        encoded(Image.fromarray(colours[indices]), "PNG", transparency=(40, 50, 60)),
    ):
        np.testing.assert_array_equal(read(content).pixels, chw(expected))
    grey = read(encoded(image, "PNG", transparency=2)).pixels
    np.testing.assert_array_equal(grey, chw(np.where(indices == 2, 255, indices)))


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_cmyk_becomes_red_green_blue(format):
    pixels = smooth(16, 16)
    cmyk = Image.fromarray(pixels).convert("CMYK")
    picture = read(encoded(cmyk, format, **({"quality": 95} if format == "JPEG" else {})), (16, 16))
    assert np.abs(picture.pixels.astype(int) - chw(pixels)).mean() < 3
    assert picture.notes == ("CMYK: turned into RGB",)


def png_16(values):
    """A 16-bit grey PNG, written by hand: Pillow's ways of writing one change from version to version."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_16(values, order):
    """A 16-bit grey TIFF of either byte order, by hand."""
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags.append((279, values.size * 2))
    body = values.astype(f"{order}u2").tobytes()
    directory = struct.pack(f"{order}H", len(tags))
    for tag, value in tags:
        directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
    magic = b"II" if order == "<" else b"MM"
    return magic + struct.pack(f"{order}HI", 42, 8 + len(body)) + body + directory + struct.pack(f"{order}I", 0)


@pytest.mark.parametrize(
    "write", [png_16, lambda v: tiff_16(v, "<"), lambda v: tiff_16(v, ">")], ids=["png", "tiff-little", "tiff-big"]
)
def test_16_bit_grey_is_scaled_and_not_cut_off(write):
    values = RNG.integers(0, 65536, SIZE).astype(np.uint16)
    values[0, :3] = 0, 65535, 256
    picture = read(write(values))
    np.testing.assert_array_equal(picture.pixels[0], np.rint(values.astype(np.float64) * 255 / 65535))
    assert picture.notes == ("16-bit grey: scaled to 8 bits",)


def test_pixels_without_a_known_range_are_refused():
    for array in (np.full((4, 4), 70_000, np.int32), np.full((4, 4), -1, np.int32), np.ones((4, 4), np.float32)):
        with pytest.raises(images.UnreadableError, match="of unknown range; convert it"):
            read(encoded(Image.fromarray(array), "TIFF"), (4, 4))


# How a picture must be changed so that a viewer who obeys the orientation sees the original again (EXIF 2.3, 4.6.4).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100, "subsampling": 0})],
)
def test_pictures_are_turned_as_their_exif_says(tmp_path, orientation, format, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](smooth(12, 16)))
    content = encoded(Image.fromarray(stored), format, exif=exif, **options)
    (tmp_path / "x").write_bytes(content)
    picture = read(content)
    limit = 4 if format == "JPEG" else 0
    assert np.abs(picture.pixels.astype(int) - chw(smooth(12, 16))).max() <= limit
    if format != "TIFF":  # Pillow turns TIFF itself and forgets that it did
        assert images.header_size(tmp_path / "x") == SIZE
        assert bool(picture.notes) == (orientation != 1)


def test_damaged_exif_data_do_no_harm():
    content = encoded(Image.fromarray(smooth(12, 16)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x09junk")
    assert np.abs(read(content).pixels.astype(int) - chw(smooth(12, 16))).mean() < 6


@pytest.mark.parametrize("size", [(9, 10), (45, 20), (30, 10), (18, 24), (135, 100)])
def test_scaling_covers_the_size_and_keeps_the_middle(size):
    pixels = smooth(90, 120)
    scale = max(size[0] / 90, size[1] / 120)
    whole = round(120 * scale), round(90 * scale)
    scaled = np.asarray(Image.fromarray(pixels).resize(whole, Image.Resampling.BILINEAR)).astype(int)
    top, left = (scaled.shape[0] - size[0]) // 2, (scaled.shape[1] - size[1]) // 2
    expected = scaled[top : top + size[0], left : left + size[1]]
    got = read(encoded(Image.fromarray(pixels), "PNG"), size).pixels.astype(int)
    assert got.shape == (3, *size)
    assert np.abs(got - chw(expected)).max() <= 3


def test_scaling_down_counts_every_pixel():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    got = read(encoded(Image.fromarray(board), "PNG"), (8, 8)).pixels
    assert np.abs(got.astype(int) - 127).max() <= 2


def test_a_jpeg_decoded_small_looks_like_one_decoded_whole():
    pixels = smooth(1200, 1600)
    jpeg, png = (encoded(Image.fromarray(pixels), format) for format in ("JPEG", "PNG"))
    fast, whole = (read(content, (48, 64)).pixels.astype(int) for content in (jpeg, png))
    assert np.abs(fast - whole).mean() < 1.5
    assert np.abs(fast - whole).max() < 12


def test_arrays_are_scaled_like_files():
    expected = read(encoded(Image.fromarray(COLOUR), "PNG"), (7, 5)).pixels
    np.testing.assert_array_equal(images.fit(np.ascontiguousarray(chw(COLOUR)), (7, 5)), expected)
    expected = read(encoded(Image.fromarray(GREY), "PNG"), (20, 20)).pixels
    np.testing.assert_array_equal(images.fit(GREY[None], (20, 20)), expected)


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.fromarray(np.full((12, 16, 3), value, np.uint8)) for value in (0, 255, 255)]
    for format, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        picture = read(encoded(frames[0], format, save_all=True, append_images=frames[1:], **options))
        assert picture.pixels.max() == 0, format
        assert picture.notes == ("animated or of several pages: only the first is used",), format


FORMATS = [("PNG", {}), ("JPEG", {}), ("WEBP", {}), ("BMP", {}), ("GIF", {}), ("TIFF", {"compression": "tiff_lzw"})]
NOISE = Image.fromarray(RNG.integers(0, 256, (60, 60, 3), dtype=np.uint8))


@pytest.mark.parametrize(("format", "options"), FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", [(60, 60), (6, 6)])
def test_truncated_pictures_are_refused(format, options, share, size):
    whole = encoded(NOISE, format, **options)
    with pytest.raises(images.UnreadableError, match="get it again or remove it"):
        read(whole[: int(len(whole) * share)], size)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is empty (0 bytes)"),
        (b"just text", "it is not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is a HEIC photograph; convert it"),
        (b"\0\0\0\x18ftypavif", "it is an AVIF picture"),
        (b"%PDF-1.7", "it is a PDF document"),
        (b"<!doctype html><html>", "it is a web page"),
        (b"PK\x03\x04zip", "it is a zip archive"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is a PostScript file"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, sentence):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_image(path, SIZE)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: cannot be opened \(No such file"):
        read_image(tmp_path / "gone.png", SIZE)
    with pytest.raises(DataError, match="is no regular file"):
        read_image(tmp_path, SIZE)


def test_only_one_or_three_channels(tmp_path):
    with pytest.raises(DataError, match="channels is 4"):
        read_image(tmp_path / "x.png", SIZE, channels=4)


def bomb(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(10_000, 10_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.parametrize("strict", [False, True])
def test_decompression_bombs_are_refused(size, strict):
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        with pytest.raises(images.UnreadableError, match="more than 89 million pixels; shrink it"):
            images.decode(bomb(*size), SIZE)


def test_files_beyond_all_size_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MOST_FILE_BYTES", 1 << 20)
    (tmp_path / "x.bmp").write_bytes(bytes(3 << 20))
    with pytest.raises(DataError, match="it has 3 MiB, more than 1"):
        read_image(tmp_path / "x.bmp", SIZE)


@pytest.mark.parametrize(("format", "options"), FORMATS)
def test_random_damage_gives_one_kind_of_error(format, options):
    rng = random.Random(0)
    good = encoded(NOISE, format, **options)
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 5)):
            bad[rng.randrange(min(len(bad), rng.choice([30, 200, len(bad)])))] = rng.randrange(256)
        try:
            picture = read(bytes(bad), (6, 6))
        except images.UnreadableError:
            continue
        assert picture.pixels.shape in ((1, 6, 6), (3, 6, 6))


def test_warnings_of_pillow_stay_inside(tmp_path):
    """A palette with transparency in bytes makes Pillow warn; with warnings as errors the picture is still read."""
    image = Image.new("P", (4, 4))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.info["transparency"] = bytes([0, 255])
    image.save(tmp_path / "x.png")
    assert torch.equal(read_image(tmp_path / "x.png", (4, 4)), torch.full((3, 4, 4), 255, dtype=torch.uint8))


def test_filters_of_warnings_are_as_before_whatever_the_threads_do(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: read_image(tmp_path / "x.png", SIZE), range(200)))
    assert warnings.filters == before
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (1, 1), (7, 3), (333, 331), (64, 65)])
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (3, 50), (51, 2), (63, 65)])
def test_every_shape_fits_every_size(shape, size):
    """A picture of one colour stays so: nothing from outside of it comes in at the edges."""
    flat = np.full((1, *shape), 77, np.uint8)
    np.testing.assert_array_equal(images.fit(flat, size), np.full((1, *size), 77))
