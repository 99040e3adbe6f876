"""Toy data: layout, names, labels and bytes; visible identities, clothes and cameras."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from ffreid.errors import UserError
from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import Source, labels
from ffreid.reid.retrieval.protocols import STANDARD, match_masks
from ffreid.reid.toy.dataset import generate
from ffreid.reid.toy.persons import (
    CUTS,
    PATTERNS,
    Body,
    Capture,
    Clothes,
    make_body,
    make_camera,
    make_clothes,
)
from ffreid.reid.toy.render import render_person

SIZES = {
    "identities": 3,
    "test_identities": 2,
    "outfits": 3,
    "cameras": 2,
    "pictures": 2,
    "frames": 3,
    "height": 32,
    "width": 16,
    "seed": 5,
}
BOTH = pytest.mark.parametrize("video", [False, True], ids=["ltcc", "ccvid"])
STILL = Capture(phase=0.7, heading=1, x=0, y=0, scale=1)


def stored(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def made(folder: Path, video: bool, **sizes: int) -> Path:
    return generate(folder, SIZES | {"cameras": 3 if video else 2} | sizes, video=video)


def source(folder: Path, video: bool, **sizes: int) -> Source:
    return READERS["ccvid" if video else "ltcc"](made(folder, video, **sizes))


def seen(body: Body, clothes: Clothes) -> npt.NDArray[np.float64]:
    return render_person(
        body,
        clothes,
        make_camera(0, 0),
        STILL,
        height=64,
        width=32,
        generator=np.random.default_rng(0),
    ).astype(np.float64)


def colours(path: Path) -> npt.NDArray[np.float64]:
    """The middle of a picture in a few coarse pixels."""
    picture = cv2.imread(str(path))
    assert picture is not None
    small = cv2.resize(picture[4:28, 4:12], (4, 8), interpolation=cv2.INTER_AREA)
    return small.ravel().astype(np.float64) / 255


def test_pictures_lie_and_are_called_as_in_ltcc(tmp_path: Path) -> None:
    folder = made(tmp_path, video=False) / "LTCC_ReID"
    names = {part: sorted((folder / part).iterdir()) for part in ("train", "query", "test")}
    # Outfits 3, 2, 3 to train with and 2, 3 to search, by 2 cameras, 2 pictures each.
    assert [len(paths) for paths in names.values()] == [32, 10, 10]
    pattern = re.compile(r"\d{3}_[1-3]_c[12]_\d{6}\.png")
    assert all(pattern.fullmatch(path.name) for paths in names.values() for path in paths)
    assert (folder / "info/cloth-change_id_test.txt").read_text() == "4\n5\n"
    picture = cv2.imread(str(names["query"][0]))
    assert picture is not None
    assert picture.shape == (32, 16, 3)


def test_tracklets_lie_and_are_called_as_in_ccvid(tmp_path: Path) -> None:
    folder = made(tmp_path, video=True) / "CCVID"
    lines = [
        line
        for part in ("train", "query", "gallery")
        for line in (folder / f"{part}.txt").read_text().splitlines()
    ]
    assert len(lines) == 2 * 13
    pattern = re.compile(r"session([123])/(\d{3})_0[123]\t(\d{3})\tu(\d)_l\d_s0_c0_a0")
    matches = [pattern.fullmatch(line) for line in lines]
    assert all(match and match[2] == match[3] for match in matches)
    paths = [folder / line.split("\t")[0] for line in lines]
    assert len(set(paths)) == len(paths)
    assert all(
        sorted(frame.name for frame in path.iterdir()) == ["00001.jpg", "00002.jpg", "00003.jpg"]
        for path in paths
    )
    assert len(list(folder.rglob("*.jpg"))) == 3 * len(paths)


@BOTH
def test_the_readers_find_training_identities_and_queries_with_matches(
    tmp_path: Path, video: bool
) -> None:
    found = source(tmp_path, video)
    searched = {record.identity for record in found.test.query}
    assert searched == {record.identity for record in found.test.gallery} == {4, 5}
    assert [int(name) for name in found.identities] == [1, 2, 3]
    assert found.clothes_of_identity().sum(axis=1).tolist() == [3, 2, 3]
    columns = ("camera", "clothes")
    sides = (labels(found.test.query, columns), labels(found.test.gallery, columns))
    for protocol in STANDARD:
        matches, _ = match_masks(protocol, *sides)
        assert len(matches) == len(found.test.query) > 0
        assert matches.any(dim=1).all()


@BOTH
def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(
    tmp_path: Path, video: bool
) -> None:
    first, again, other = (
        stored(made(tmp_path / name, video, seed=seed))
        for name, seed in (("1", 5), ("2", 5), ("3", 6))
    )
    assert first == again
    assert first.keys() == other.keys()
    images = [name for name in first if name.endswith((".png", ".jpg"))]
    assert images
    assert not any(first[name] == other[name] for name in images)


def test_finished_data_of_the_wanted_sizes_are_reused_others_replaced(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(2):
        generate(tmp_path / "toy", SIZES, video=False, progress=lambda *n: told.append(n))
    assert told == [(done, 52) for done in range(1, 53)]
    assert len(list(tmp_path.rglob("*.png"))) == 52
    for name in ("toy", "new"):
        made(tmp_path / name, video=False, identities=2, height=40)
    assert stored(tmp_path / "toy") == stored(tmp_path / "new")


def test_images_replace_neither_tracklets_nor_something_else(tmp_path: Path) -> None:
    made(tmp_path / "toy", video=True)
    with pytest.raises(UserError, match="another kind"):
        made(tmp_path / "toy", video=False)
    (tmp_path / "real/LTCC_ReID").mkdir(parents=True)
    (tmp_path / "real/LTCC_ReID/real.png").write_text("")
    with pytest.raises(UserError, match="not empty"):
        made(tmp_path / "real", video=False)
    assert list(stored(tmp_path / "real")) == ["LTCC_ReID/real.png"]


@pytest.mark.parametrize(
    ("video", "key", "value", "message", "hint"),
    [
        (False, "pictures", 1, "1 pictures", "2 or more"),
        (False, "outfits", 1, "1 outfits", "2 or more"),
        (False, "test_identities", 0, "0 test identities", "1 or more"),
        (True, "outfits", 4, "4 outfits", "2 to 3"),
        (True, "cameras", 13, "13 cameras", "2 to 12"),
        (True, "pictures", 4, "4 pictures", "2 to 3"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, video: bool, key: str, value: int, message: str, hint: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        made(tmp_path / "toy", video, **{key: value})
    assert hint in caught.value.hint
    assert not (tmp_path / "toy").exists()


def test_a_body_does_not_depend_on_the_outfit_and_differs_between_people() -> None:
    bodies = [make_body(0, identity) for identity in range(60)]
    assert len(set(bodies)) == 60
    assert {body.cut for body in bodies} == set(CUTS)
    assert {body.pattern for body in bodies} == set(PATTERNS)
    alike = {(b.cut, b.hair, b.pattern, b.sleeves, b.hems) for b in bodies}
    assert len(alike) > 50


def test_colours_alone_find_the_same_clothes_but_not_changed_ones(tmp_path: Path) -> None:
    found = source(tmp_path, video=False, identities=1, test_identities=12, cameras=3)
    columns = ("camera", "clothes")
    query, gallery = (labels(each, columns) for each in (found.test.query, found.test.gallery))
    asked, searched = (
        np.stack([colours(found.folder / record.frames[0]) for record in records])
        for records in (found.test.query, found.test.gallery)
    )
    distances = np.square(asked[:, None] - searched).sum(axis=-1)
    rates = {}
    for protocol in STANDARD:
        good, junk = (mask.numpy() for mask in match_masks(protocol, query, gallery))
        nearest = np.where(junk, np.inf, distances).argmin(axis=1)
        rates[protocol.name] = good[np.arange(len(good)), nearest].mean()
    assert rates["SC"] > 0.5
    assert rates["CC"] < 0.2


@pytest.mark.parametrize("pattern", sorted(set(PATTERNS) - {"plain"}))
def test_a_pattern_shows_in_every_outfit(pattern: str) -> None:
    body = replace(make_body(0, 0), pattern=pattern)
    for number in range(3):
        clothes = replace(make_clothes(0, 0, number), bag=None)
        woven, plain = (seen(each, clothes) for each in (body, replace(body, pattern="plain")))
        changed_pixels = np.abs(woven - plain).max(axis=-1) > 30
        assert 20 < changed_pixels.sum() < 600
