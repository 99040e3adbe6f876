"""Lists of other systems; images as every viewer shows them or refused, and their colours."""

import io
import os
import stat
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from ffreid.engine.dataset_files import (
    FORMATS,
    file_name,
    open_image,
    read_image,
    read_lines,
    read_mask,
    read_single_channel,
    to_rgb,
    write_image,
    write_images,
)
from ffreid.errors import UserError

RED = np.zeros((4, 5, 3), np.uint8) + np.array([200, 0, 0], np.uint8)
COLOURS = np.random.RandomState(0).randint(0, 256, (9, 7, 3)).astype(np.uint8)
GREY = COLOURS[..., 0]
RGB = Image.fromarray(COLOURS)
Pixels = npt.NDArray[Any]


def as_16_bits(kind: str) -> Image.Image:
    return Image.fromarray((GREY.astype(np.uint32) * 257).astype(kind))


def with_alpha(value: int) -> Image.Image:
    image = RGB.convert("RGBA")
    image.putpixel((2, 3), (1, 2, 3, value))
    return image


# File name, image, options of Pillow's save, and how far from the viewer's pixels it may be.
SHOWN: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "rgb.png": (RGB, {}),
    "rgb.jpg": (RGB, {}),
    "rgb.bmp": (RGB, {}),
    "rgb.webp": (RGB, {}),
    "rgb.tif": (RGB, {}),
    "rgb.ppm": (RGB, {}),
    "grey.png": (RGB.convert("L"), {}),
    "grey.jpg": (RGB.convert("L"), {}),
    "two-tone.png": (RGB.convert("1"), {}),
    "palette.png": (RGB.convert("P"), {}),
    "palette.gif": (RGB.convert("P"), {}),
    "cmyk.jpg": (RGB.convert("CMYK"), {}),
    "cmyk.tif": (RGB.convert("CMYK"), {}),
    "opaque.png": (RGB.convert("RGBA"), {}),
    "opaque-grey.png": (RGB.convert("LA"), {}),
    "unused-transparent-colour.png": (RGB, {"transparency": (1, 2, 3)}),
    "wrong-suffix.png": (RGB, {"format": "JPEG"}),
}


@pytest.mark.parametrize("name", SHOWN)
def test_images_without_marks_are_bitwise_what_pillow_converts(tmp_path: Path, name: str) -> None:
    image, options = SHOWN[name]
    image.save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as plain:
        expected = np.asarray(plain.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / name), expected)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "u2"), ("a.tif", "u2"), ("a.tif", ">u2"), ("a.ppm", "u2")]
)
def test_grey_of_16_bits_is_the_same_as_of_8(tmp_path: Path, name: str, kind: str) -> None:
    image = as_16_bits(kind)
    image.save(tmp_path / name)
    for read in (open_image(tmp_path / name), to_rgb(image, "images[0]")):
        np.testing.assert_array_equal(np.asarray(read), np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("mark", range(10))
def test_an_exif_orientation_is_applied(tmp_path: Path, suffix: str, mark: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = mark
    path = tmp_path / f"a.{suffix}"
    RGB.save(path, exif=exif)
    with Image.open(path) as stored:
        shown = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), shown)
    with Image.open(path) as stored:
        np.testing.assert_array_equal(np.asarray(to_rgb(stored, "images[0]")), shown)
    if 2 <= mark <= 8:
        for read in (lambda: read_image(path, registered=True), lambda: one_channel(path)):
            with pytest.raises(UserError, match=rf"a\.{suffix} has an EXIF orientation"):
                read()
    else:
        assert read_image(path, registered=True).shape == (9, 7, 3)


def one_channel(path: Path) -> Pixels:
    return read_single_channel(path, "label image", first_of_several=True)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("png", {"format": "JPEG", "quality": 100}),
        ("webp", {}),
        ("jpg", {"format": "MPO", "save_all": True, "append_images": [RGB]}),
        ("tif", {"compression": "jpeg"}),
    ],
)
def test_numbers_are_not_read_from_lossy_formats(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    path = tmp_path / f"a.{suffix}"
    RGB.save(path, **options)
    assert read_image(path).shape == (9, 7, 3)
    for read in (read_mask, one_channel):
        with pytest.raises(UserError, match=rf"a\.{suffix} is a .* in the lossy format"):
            read(path)


def test_an_image_with_damaged_exif_is_read_as_stored(tmp_path: Path) -> None:
    RGB.save(tmp_path / "a.png", exif=b"Exif\0\0nonsense")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), COLOURS)


def png(width: int, height: int) -> bytes:
    """A PNG of zeros, which takes a thousandth of its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n%%EOF\n"
FRAMES = {"save_all": True, "append_images": [Image.fromarray(255 - COLOURS)]}
REFUSED: dict[str, tuple[Image.Image | bytes, dict[str, Any], str]] = {
    "float.tif": (as_16_bits("f4"), {}, "mode F.* unknown range"),
    "float-colours.tif": (
        cv2.imencode(".tif", COLOURS.astype(np.float32))[1].tobytes(),
        {},
        r"a TIFF of mode 3 x 32 bits \(float\)",
    ),
    "32-bit.tif": (as_16_bits("i4"), {}, "mode I.* unknown range"),
    "transparent.png": (with_alpha(254), {}, "mode RGBA.* is transparent"),
    "transparent.webp": (with_alpha(0), {"lossless": True}, "mode RGBA.* is transparent"),
    "transparent-colour.png": (RGB, {"transparency": RGB.getpixel((0, 0))}, "is transparent"),
    "transparent-16-bits.png": (as_16_bits("u2"), {"transparency": 257}, "is transparent"),
    "animated.png": (RGB, FRAMES, "has several frames"),
    "animated.gif": (RGB, FRAMES, "has several frames"),
    "animated.webp": (RGB, FRAMES, "has several frames"),
    "pages.tif": (RGB, FRAMES, "has several frames"),
    "postscript.png": (POSTSCRIPT, {}, "not a PNG.*it starts with b'%!PS-Adobe-3"),
    "postscript.jpg": (POSTSCRIPT, {}, "not a PNG"),
    "icon.png": (RGB, {"format": "ICO"}, "not a PNG"),
    "tga.png": (RGB, {"format": "TGA"}, "not a PNG"),
    "text.png": (b"\x1b[31mred", {}, r"it starts with b'\\x1b\[31mred'"),
    "empty.png": (b"", {}, "not a PNG"),
    "bomb.png": (png(13_000, 13_000), {}, "13000 x 13000 pixels"),
    "bigger-bomb.png": (png(20_000, 20_000), {}, "its size is over 89,478,485"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, options, problem = REFUSED[name]
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/it-ran\necho 10\n")
    ghostscript.chmod(ghostscript.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.save(path, **options)
    started = time.monotonic()
    with pytest.raises(UserError, match=problem) as caught:
        open_image(path)
    assert str(path) in caught.value.message
    if "bomb" in name or "post" in name or "icon" in name:
        with pytest.raises(UserError, match=problem):
            read_single_channel(path, "depth image")
    assert time.monotonic() - started < 1
    assert not (tmp_path / "it-ran").exists()


def test_only_the_first_view_of_a_phone_image_is_read(tmp_path: Path) -> None:
    RGB.save(tmp_path / "a.jpg", format="MPO", **FRAMES)
    with Image.open(tmp_path / "a.jpg", formats=["JPEG"]) as image:
        assert image.format == "MPO"
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), expected)


def animated() -> Image.Image:
    content = io.BytesIO()
    RGB.save(content, "GIF", **FRAMES)
    return Image.open(content)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (RGB.crop((3, 3, 3, 5)), r"images\[0\] is empty: 2 x 0 pixels"),
        (as_16_bits("f4"), r"images\[0\] \(mode F\)"),
        (as_16_bits("i4"), r"images\[0\] \(mode I\)"),
        (with_alpha(3), r"images\[0\] \(mode RGBA\) is transparent"),
        (Image.open(io.BytesIO(POSTSCRIPT)), r"images\[0\] is of the format EPS"),
        (animated(), r"images\[0\] \(GIF, mode P\) has several frames"),
    ],
    ids=("empty", "float", "integer", "transparent", "postscript", "animated"),
)
def test_images_in_memory_follow_the_same_rule(image: Image.Image, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        to_rgb(image, "images[0]")


def test_every_format_is_known_to_pillow() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


def test_images_are_written_as_rgb_and_their_folder_is_created(tmp_path: Path) -> None:
    write_image(tmp_path / "new/folder/image.png", RED)
    np.testing.assert_array_equal(read_image(tmp_path / "new/folder/image.png"), RED)


@pytest.mark.parametrize("name", ["image.gif", "image", "file/image.png"])
def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write .*{tmp_path / name}"):
        write_image(tmp_path / name, RED)


def test_only_images_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_text("mine")
    write_images(tmp_path, [("a.png", RED), ("b.png", RED)])
    write_images(tmp_path, [("c.png", RED)])
    assert {path.name for path in tmp_path.glob("*.png")} == {"mine.png", "c.png"}
    assert (tmp_path / "mine.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("data/0048/000001", "data_0048_000001.png"),
        ("a\x1b[2J/b\n", "a_x1b[2J_b_n.png"),
        ("é" * 300, None),
        ("/".join("abcdefg" * 30), None),
    ],
)
def test_names_of_files_are_printable_and_short(
    tmp_path: Path, text: str, name: str | None
) -> None:
    made = file_name(text)
    assert made == name or name is None
    (tmp_path / made).touch()
    assert made.isprintable()
    assert file_name(text + "x") != made


@pytest.mark.parametrize(
    "content",
    [
        "data/1\ncafé/2\n".encode(),
        "data/1\r\n\r\ncafé/2".encode("utf-8-sig"),
        "data/1\rcafé/2\r".encode("utf-16"),
        '"data\\1"\t\n  café/2\xa0\u200b\n'.encode(),
        "data/1\n\ufeffcafé/2".encode(),
    ],
)
def test_a_list_is_read_as_it_looks(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert read_lines(tmp_path / "list.txt") == ["data/1", "café/2"]


@pytest.mark.parametrize("content", ["café".encode("latin-1"), b"d\0a\0t\0a\0", b"\xff\xfe1"])
def test_a_list_in_another_encoding_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the list .*list\.txt") as caught:
        read_lines(tmp_path / "list.txt")
    assert "UTF-8" in caught.value.hint
