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
both_layouts = pytest.mark.parametrize("video", [False, True], ids=["ltcc", "ccvid"])
STILL = Capture(phase=0.7, heading=1, x=0, y=0, scale=1)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def make_data(folder: Path, video: bool, **sizes: int) -> Path:
    return generate(folder, SIZES | {"cameras": 3 if video else 2} | sizes, video=video)


def source(folder: Path, video: bool, **sizes: int) -> Source:
    return READERS["ccvid" if video else "ltcc"](make_data(folder, video, **sizes))


def render(body: Body, clothes: Clothes) -> npt.NDArray[np.float64]:
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
    """The centre of an image, downscaled to a few pixels."""
    image = cv2.imread(str(path))
    assert image is not None
    small = cv2.resize(image[4:28, 4:12], (4, 8), interpolation=cv2.INTER_AREA)
    return small.ravel().astype(np.float64) / 255


def test_images_have_the_paths_of_ltcc(tmp_path: Path) -> None:
    folder = make_data(tmp_path, video=False) / "LTCC_ReID"
    names = {part: sorted((folder / part).iterdir()) for part in ("train", "query", "test")}
    # 3, 2, 3 clothes labels in training, 2, 3 in the test; 2 cameras, 2 images each.
    assert [len(paths) for paths in names.values()] == [32, 10, 10]
    pattern = re.compile(r"\d{3}_[1-3]_c[12]_\d{6}\.png")
    assert all(pattern.fullmatch(path.name) for paths in names.values() for path in paths)
    assert (folder / "info/cloth-change_id_test.txt").read_text() == "4\n5\n"
    image = cv2.imread(str(names["query"][0]))
    assert image is not None
    assert image.shape == (32, 16, 3)


def test_tracklets_have_the_paths_of_ccvid(tmp_path: Path) -> None:
    folder = make_data(tmp_path, video=True) / "CCVID"
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


@both_layouts
def test_the_readers_return_training_identities_and_queries_with_matches(
    tmp_path: Path, video: bool
) -> None:
    result = source(tmp_path, video)
    identities = {record.identity for record in result.test.query}
    assert identities == {record.identity for record in result.test.gallery} == {4, 5}
    assert [int(name) for name in result.identities] == [1, 2, 3]
    assert result.clothes_of_identity().sum(axis=1).tolist() == [3, 2, 3]
    columns = ("camera", "clothes")
    sides = (labels(result.test.query, columns), labels(result.test.gallery, columns))
    for protocol in STANDARD:
        matches, _ = match_masks(protocol, *sides)
        assert len(matches) == len(result.test.query) > 0
        assert matches.any(dim=1).all()


@both_layouts
def test_images_depend_on_the_seed_alone(tmp_path: Path, video: bool) -> None:
    first, again, other = (
        contents(make_data(tmp_path / name, video, seed=seed))
        for name, seed in (("1", 5), ("2", 5), ("3", 6))
    )
    assert first == again
    assert first.keys() == other.keys()
    images = [name for name in first if name.endswith((".png", ".jpg"))]
    assert images
    assert not any(first[name] == other[name] for name in images)


def test_complete_data_of_the_same_sizes_are_reused_and_others_refused(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    for _ in range(2):
        generate(tmp_path / "toy", SIZES, video=False, progress=lambda *n: calls.append(n))
    assert calls == [(done, 52) for done in range(1, 53)]
    assert len(list(tmp_path.rglob("*.png"))) == 52
    with pytest.raises(UserError, match="contains other toy data"):
        make_data(tmp_path / "toy", video=False, identities=2, height=40)


def test_images_replace_neither_tracklets_nor_unknown_files(tmp_path: Path) -> None:
    make_data(tmp_path / "toy", video=True)
    with pytest.raises(UserError, match="another kind"):
        make_data(tmp_path / "toy", video=False)
    (tmp_path / "real/LTCC_ReID").mkdir(parents=True)
    (tmp_path / "real/LTCC_ReID/real.png").write_text("")
    with pytest.raises(UserError, match="not empty"):
        make_data(tmp_path / "real", video=False)
    assert list(contents(tmp_path / "real")) == ["LTCC_ReID/real.png"]


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
def test_sizes_out_of_range_are_refused_before_writing(
    tmp_path: Path, video: bool, key: str, value: int, message: str, hint: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_data(tmp_path / "toy", video, **{key: value})
    assert hint in caught.value.hint
    assert not (tmp_path / "toy").exists()


def test_bodies_differ_between_identities() -> None:
    bodies = [make_body(0, identity) for identity in range(60)]
    assert len(set(bodies)) == 60
    assert {body.cut for body in bodies} == set(CUTS)
    assert {body.pattern for body in bodies} == set(PATTERNS)
    appearances = {(b.cut, b.hair, b.pattern, b.sleeves, b.hems) for b in bodies}
    assert len(appearances) > 50


def test_colours_retrieve_the_same_clothes_but_not_changed_ones(tmp_path: Path) -> None:
    result = source(tmp_path, video=False, identities=1, test_identities=12, cameras=3)
    columns = ("camera", "clothes")
    query, gallery = (labels(each, columns) for each in (result.test.query, result.test.gallery))
    query_colours, gallery_colours = (
        np.stack([colours(result.folder / record.frames[0]) for record in records])
        for records in (result.test.query, result.test.gallery)
    )
    distances = np.square(query_colours[:, None] - gallery_colours).sum(axis=-1)
    rates = {}
    for protocol in STANDARD:
        good, junk = (mask.numpy() for mask in match_masks(protocol, query, gallery))
        nearest = np.where(junk, np.inf, distances).argmin(axis=1)
        rates[protocol.name] = good[np.arange(len(good)), nearest].mean()
    assert rates["SC"] > 0.5
    assert rates["CC"] < 0.2


@pytest.mark.parametrize("pattern", sorted(set(PATTERNS) - {"plain"}))
def test_a_pattern_is_visible_on_all_clothes(pattern: str) -> None:
    body = replace(make_body(0, 0), pattern=pattern)
    for number in range(3):
        clothes = replace(make_clothes(0, 0, number), bag=None)
        patterned, plain = (
            render(each, clothes) for each in (body, replace(body, pattern="plain"))
        )
        changed_pixels = np.abs(patterned - plain).max(axis=-1) > 30
        assert 20 < changed_pixels.sum() < 600
