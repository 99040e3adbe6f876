"""A synthetic dataset of persons in LTCC's or CCVID's layout."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ffreid.engine import synthetic
from ffreid.errors import UserError
from ffreid.reid.toy.persons import make_body, make_camera, make_clothes, random_capture
from ffreid.reid.toy.render import ImageArray, render_person

VERSION = 1
# CCVID has three sessions, with other clothes in each; the third has other cameras.
SESSIONS, THIRD_SESSION_CAMERAS = 3, 12
PHASE_STEP = 0.4
"""Gait phase between frames, in radians."""

Progress = Callable[[int, int], None]


class Shot(NamedTuple):
    """An image, or the frames ``{}`` of a tracklet; identity, clothes, camera are from 0."""

    part: str
    path: str
    identity: int
    clothes: int
    camera: int
    number: int
    frames: int


def generate(
    folder: Path, sizes: Mapping[str, int], *, video: bool, progress: Progress | None = None
) -> Path:
    """Generate images or tracklets of synthetic persons, unless `folder` holds exactly these.

    The same arguments give the same bytes. An identity has constant body shape, hair and pattern of
    the tops; clothes have colours and a bag; a camera has tint, background, distance and angle.
    Every second person has one set of clothes less, but at least two. Each query has matches from
    another camera in the same and in other clothes. See also `ffreid.engine.synthetic`.

    `folder` will contain ``LTCC_ReID`` or, with `video`, ``CCVID``. `sizes` are those of DATA.TOY,
    in lower case, with ``height`` and ``width``. ``outfits`` is the maximum of clothes per person.
    ``pictures`` is the number of images per person, clothes and camera, or that of tracklets per
    person and clothes, with different cameras; the first is a query in the test. `progress` is
    called with (images written, total).
    """
    name = "CCVID" if video else "LTCC_ReID"
    sizes = {**sizes} if video else {**sizes, "frames": 1}
    parameters: dict[str, int | str] = {"version": VERSION, "kind": name, **sizes}
    clothes, cameras, images = sizes["outfits"], sizes["cameras"], sizes["pictures"]
    minimum = {"outfits": 2, "cameras": 2, "pictures": 2, "height": 16, "width": 8, "seed": 0}
    maximum = {"outfits": SESSIONS, "cameras": THIRD_SESSION_CAMERAS, "pictures": cameras}
    for key, value in sizes.items():
        low, high = minimum.get(key, 1), maximum.get(key) if video else None
        if not low <= value <= (value if high is None else high):
            raise UserError(
                f"cannot generate toy data with {value} {key.replace('_', ' ')}",
                f"use {low}{' or more' if high is None else f' to {high}'}",
            )

    def write(folder: Path) -> None:
        persons = [
            Person(number, number < sizes["identities"], max(2, clothes - number % 2))
            for number in range(sizes["identities"] + sizes["test_identities"])
        ]
        if video:
            shots = list(_tracklet_shots(persons, cameras, images, sizes["frames"]))
            _write_ccvid(folder / name, shots)
        else:
            shots = list(_image_shots(persons, cameras, images))
            _write_ltcc(folder / name, persons)
        total, done = sum(shot.frames for shot in shots), 0
        for shot in shots:
            (folder / name / shot.path).parent.mkdir(parents=True, exist_ok=True)
            for frame, image in enumerate(_render(shot, sizes), 1):
                _store(folder / name / shot.path.format(f"{frame:05d}"), image)
                done += 1
                if progress is not None:
                    progress(done, total)

    return synthetic.generate_once(folder, write, parameters=parameters)


class Person(NamedTuple):
    """A synthetic person: number from 0, split, and number of clothes."""

    identity: int
    training: bool
    clothes: int


def _image_shots(persons: Sequence[Person], cameras: int, images: int) -> Iterator[Shot]:
    for person in persons:
        shots = product(range(person.clothes), range(cameras), range(images))
        for clothes, camera, number in shots:
            part = "train" if person.training else "test" if number else "query"
            name = f"{person.identity + 1:03d}_{clothes + 1}_c{camera + 1}_{number + 1:06d}"
            yield Shot(part, f"{part}/{name}.png", person.identity, clothes, camera, number, 1)


def _tracklet_shots(
    persons: Sequence[Person], cameras: int, tracklets: int, frames: int
) -> Iterator[Shot]:
    for person in persons:
        for clothes, number in product(range(person.clothes), range(tracklets)):
            # All queries of a person come from one camera, the gallery from the others.
            camera = (person.identity + number) % cameras
            offset = THIRD_SESSION_CAMERAS if clothes == SESSIONS - 1 else 0
            part = "train" if person.training else "gallery" if number else "query"
            path = f"session{clothes + 1}/{person.identity + 1:03d}_{camera + 1:02d}/{{}}.jpg"
            yield Shot(part, path, person.identity, clothes, camera + offset, number, frames)


def _render(shot: Shot, sizes: Mapping[str, int]) -> Iterator[ImageArray]:
    """Render the shot's frames, of a walk."""
    seed, height, width = sizes["seed"], sizes["height"], sizes["width"]
    stream = (shot.identity, shot.clothes, shot.camera, shot.number)
    generator = np.random.default_rng([seed, 3, *stream])
    body = make_body(seed, shot.identity)
    clothes = make_clothes(seed, shot.identity, shot.clothes)
    camera = make_camera(seed, shot.camera)
    first = random_capture(generator)
    for frame in range(shot.frames):
        capture = replace(first, phase=first.phase + PHASE_STEP * frame)
        yield render_person(
            body, clothes, camera, capture, height=height, width=width, generator=generator
        )


def _write_ltcc(folder: Path, persons: Sequence[Person]) -> None:
    for part in ("train", "query", "test", "info"):
        (folder / part).mkdir(parents=True)
    for name, training in (("train", True), ("test", False)):
        members = [p for p in persons if p.training is training and p.clothes > 1]
        text = "".join(f"{person.identity + 1}\n" for person in members)
        (folder / f"info/cloth-change_id_{name}.txt").write_text(text)


def _write_ccvid(folder: Path, shots: Sequence[Shot]) -> None:
    folder.mkdir()
    for name in ("train", "query", "gallery"):
        lines = (
            f"{shot.path.rpartition('/')[0]}\t{shot.identity + 1:03d}\t"
            f"u{shot.clothes}_l{shot.clothes}_s0_c0_a0\n"
            for shot in shots
            if shot.part == name
        )
        (folder / f"{name}.txt").write_text("".join(lines))


def _store(path: Path, image: ImageArray) -> None:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else []
    done, content = cv2.imencode(path.suffix, np.ascontiguousarray(image[..., ::-1]), quality)
    assert done
    path.write_bytes(content.tobytes())
