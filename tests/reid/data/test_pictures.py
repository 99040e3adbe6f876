"""Decoding and resizing of pictures in less time, against Pillow's."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from ffreid.engine import dataset_files
from ffreid.engine.dataset_files import open_image, read_plain_jpeg
from ffreid.errors import UserError
from ffreid.reid.data.dataset import Pictures
from ffreid.reid.data.pictures import Decoder, Method, Pixels, as_pixels, read_picture, resize
from ffreid.reid.data.records import Record
from ffreid.reid.data.transforms import random_crop
from tests.engine.test_dataset_files import FRAMES, SHOWN
from tests.reid.data.synthetic_records import load_epoch, train_set

DECODERS: tuple[Decoder, ...] = get_args(Decoder)
SIZES = ((300, 130), (20, 10), (700, 90), (97, 300), (384, 192))


def scene(height: int, width: int) -> Pixels:
    """Coarse noise with fine noise on it."""
    rng = np.random.default_rng(height)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), np.uint8))
    smooth = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return (smooth + rng.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8)


def largest_difference(one: Any, other: Any) -> int:
    return int(np.abs(as_pixels(one).astype(int) - as_pixels(other)).max())


@pytest.mark.parametrize("size", SIZES)
def test_resized_images_are_within_a_level_of_pillows(size: tuple[int, int]) -> None:
    pixels = scene(*size)
    expected = resize(Image.fromarray(pixels), 384, 192)
    assert largest_difference(resize(pixels, 384, 192), expected) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_resized_frames_are_within_two_levels_of_pillows_rows_first(size: tuple[int, int]) -> None:
    pixels = scene(*size)
    image, method = Image.fromarray(pixels), Image.Resampling.BICUBIC
    # Versions of Pillow differ in the order.
    expected = image.resize((128, image.height), method).resize((128, 256), method)
    assert largest_difference(resize(pixels, 256, 128, "bicubic"), expected) <= 2


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_a_picture_of_the_size_stays_as_it_is(method: Method) -> None:
    pixels = scene(40, 20)
    for picture in (pixels, Image.fromarray(pixels)):
        np.testing.assert_array_equal(as_pixels(resize(picture, 40, 20, method)), pixels)


def test_crops_of_both_kinds_have_the_same_place_and_numbers() -> None:
    pixels = scene(64, 32)
    for seed in range(5):
        one, other = random.Random(seed), random.Random(seed)
        crop = random_crop(pixels, 0.9, one)
        assert largest_difference(crop, random_crop(Image.fromarray(pixels), 0.9, other)) <= 1
        assert one.random() == other.random()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_samples_of_both_decoders_differ_by_rounding_alone(tmp_path: Path, suffix: str) -> None:
    records = [Record((f"{i}.{suffix}",), i // 2, 0, i // 2) for i in range(4)]
    for index, record in enumerate(records):
        Image.fromarray(scene(90 + index, 40)).save(tmp_path / record.frames[0])
    fast, pil = (train_set(records, Pictures(tmp_path, decode)) for decode in DECODERS)
    for epoch in range(3):
        for one, other in zip(load_epoch(fast, epoch), load_epoch(pil, epoch), strict=True):
            assert largest_difference(one.pixels, other.pixels) <= 2  # a level each, twice resized
            assert (one.box, one.name, one.identity) == (other.box, other.name, other.identity)


JPEGS: dict[str, tuple[str, dict[str, Any]]] = {
    "colour": ("RGB", {}),
    "progressive": ("RGB", {"progressive": True, "quality": 30}),
    "full colour": ("RGB", {"subsampling": 0}),
    "restarts": ("RGB", {"restart_marker_rows": 1}),
    "grey": ("L", {}),
    "stored as RGB": ("RGB", {"keep_rgb": True}),
    "other EXIF": ("RGB", {"exif": b"Exif\0\0nonsense"}),
}
UNUSUAL: dict[str, tuple[str, dict[str, Any]]] = {
    "CMYK": ("CMYK", {}),
    "views": ("RGB", {"format": "MPO", **FRAMES}),
    **{f"orientation {mark}": ("RGB", {"exif": {0x0112: mark}}) for mark in range(2, 9)},
}


def save(path: Path, mode: str, options: dict[str, Any]) -> None:
    if isinstance(options.get("exif"), dict):
        exif = Image.Exif()
        exif.update(options["exif"])
        options = {**options, "exif": exif}
    Image.fromarray(scene(50, 31)).convert(mode).save(path, **options)


@pytest.mark.parametrize("name", [*JPEGS, *UNUSUAL])
def test_jpegs_are_decoded_as_by_pillow(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.jpg"
    save(path, *(JPEGS | UNUSUAL)[name])
    expected = np.asarray(open_image(path))
    np.testing.assert_array_equal(as_pixels(read_picture(path, "fast")), expected)
    assert (read_plain_jpeg(path) is None) == (name in UNUSUAL)


@pytest.mark.parametrize("name", SHOWN)
def test_other_files_are_read_as_by_pillow(tmp_path: Path, name: str) -> None:
    image, options = SHOWN[name]
    image.save(tmp_path / name, **options)
    expected = np.asarray(open_image(tmp_path / name))
    np.testing.assert_array_equal(as_pixels(read_picture(tmp_path / name, "fast")), expected)


@pytest.mark.parametrize("damage", [lambda c: c[:-2], lambda c: c[:300], lambda c: b"\xff\xd8"])
def test_damaged_jpegs_are_the_same_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.jpg"
    save(path, "RGB", {})
    path.write_bytes(damage(path.read_bytes()))
    errors = []
    for decode in DECODERS:
        with pytest.raises(UserError) as caught:
            read_picture(path, decode)
        errors.append((caught.value.message, caught.value.hint))
    assert errors[0] == errors[1]


def test_what_follows_a_jpeg_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    save(path, "RGB", {})
    expected = np.asarray(open_image(path))
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(as_pixels(read_picture(path, "fast")), expected)


def test_a_huge_jpeg_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.jpg", "RGB", {})
    monkeypatch.setattr(dataset_files, "MAX_PIXELS", 100)
    with pytest.raises(UserError, match="50 x 31 pixels"):
        read_picture(tmp_path / "a.jpg", "fast")
