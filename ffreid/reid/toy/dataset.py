"""A made-up data set of people in LTCC's or CCVID's layout, to try everything with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ffreid.engine import synthetic
from ffreid.errors import UserError
from ffreid.reid.toy.persons import make_body, make_camera, make_clothes, random_capture
from ffreid.reid.toy.render import Picture, render_person

VERSION = 1
IMAGES, VIDEO = "LTCC_ReID", "CCVID"
LTCC_PARTS = ("train", "query", "test")
CCVID_LISTS = ("train", "query", "gallery")
# CCVID has three sessions, a person's outfit in each; the third has cameras of its own.
SESSIONS, LATER_CAMERAS = 3, 12
STRIDE = 0.4

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What lies in one file, or in one folder of frames; people, outfits and cameras from 0.

    Attributes:
        part: which split it belongs to.
        path: below the data set's folder; in it ``{}`` stands for the frame.
        identity: who.
        outfit: which of theirs.
        camera: by which it was seen.
        number: of the shot, among those of the same three.
        frames: how many.
    """

    part: str
    path: str
    identity: int
    clothes: int
    camera: int
    number: int
    frames: int


def ensure_dataset(
    folder: Path,
    *,
    video: bool,
    identities: int,
    test_identities: int,
    clothes: int,
    cameras: int,
    images: int,
    frames: int,
    height: int,
    width: int,
    seed: int,
    progress: Progress | None = None,
) -> Path:
    """Make pictures or tracklets of made-up people, unless `folder` holds exactly these already.

    The same arguments give the same bytes. An identity shows in the layout of the body, the hair
    and the pattern of the tops, which stay; an outfit in colours and a bag; a camera in its tint,
    background, distance and angle. Every second person has one outfit less, but two at least.
    Every query has matches in the same and in other clothes from another camera. For other sizes
    and unfinished data see `ffreid.engine.made.ensure`.

    Args:
        folder: where to; new, empty or of these toy data. The data set is ``LTCC_ReID`` or
            ``CCVID`` in it.
        video: tracklets in CCVID's layout instead of pictures in LTCC's.
        identities: people to train with.
        test_identities: other people, to search for.
        outfits: of a person, at most; 2 or more, of tracklets 2 or 3.
        cameras: 2 or more; of tracklets up to 12, of which the third session has others.
        pictures: of a person in an outfit by a camera, or tracklets of a person in an outfit, no
            two by one camera; 2 or more, as the first is a query in the test.
        frames: of a tracklet.
        height: rows of each picture.
        width: columns.
        seed: of the people and of all else.
        progress: called with (pictures written, pictures in all) after each.

    Returns:
        `folder`.

    Raises:
        UserError: a number is out of its range, `folder` holds something else, or a file cannot
            be written.
    """
    name = VIDEO if video else IMAGES
    facts: dict[str, int | str] = {
        "version": VERSION,
        "kind": name,
        "identities": identities,
        "test_identities": test_identities,
        "outfits": clothes,
        "cameras": cameras,
        "pictures": images,
        "frames": frames if video else 1,
        "height": height,
        "width": width,
        "seed": seed,
    }
    _check(facts, video)

    def write() -> None:
        persons = _persons(identities, test_identities, clothes)
        if video:
            shots = list(_tracklet_shots(persons, cameras, images, frames))
            _write_ccvid(folder / name, shots)
        else:
            shots = list(_image_shots(persons, cameras, images))
            _write_ltcc(folder / name, persons)
        total, done = sum(shot.frames for shot in shots), 0
        for shot in shots:
            (folder / name / shot.path).parent.mkdir(parents=True, exist_ok=True)
            for frame, picture in enumerate(_shoot(shot, height, width, seed), 1):
                _store(folder / name / shot.path.format(f"{frame:05d}"), picture)
                done += 1
                if progress is not None:
                    progress(done, total)

    return synthetic.generate_once(folder, write, parameters=facts, parts=(name,))


def _check(facts: Mapping[str, int | str], video: bool) -> None:
    most = {"outfits": SESSIONS, "cameras": LATER_CAMERAS, "pictures": int(facts["cameras"])}
    least = {"outfits": 2, "cameras": 2, "pictures": 2, "height": 16, "width": 8, "seed": 0}
    for name, value in facts.items():
        if isinstance(value, str):
            continue
        low, high = least.get(name, 1), most[name] if video and name in most else None
        if value < low or (high is not None and value > high):
            upto = f" to {high}" if high is not None else " or more"
            raise UserError(
                f"toy data cannot be made with {value} {name.replace('_', ' ')}",
                f"choose {low}{upto}",
            )


@dataclass(frozen=True, kw_only=True)
class Person:
    """A made-up person: number from 0, whether to train or to search with, how many outfits."""

    identity: int
    training: bool
    clothes: int


def _persons(identities: int, test_identities: int, clothes: int) -> list[Person]:
    return [
        Person(
            identity=identity,
            training=identity < identities,
            clothes=max(2, clothes - identity % 2),
        )
        for identity in range(identities + test_identities)
    ]


def _image_shots(persons: Sequence[Person], cameras: int, images: int) -> Iterator[Shot]:
    for person in persons:
        for clothes in range(person.clothes):
            for camera in range(cameras):
                for number in range(images):
                    part = "train" if person.training else "test" if number else "query"
                    name = f"{person.identity + 1:03d}_{clothes + 1}_c{camera + 1}_{number + 1:06d}"
                    yield Shot(
                        part=part,
                        path=f"{part}/{name}.png",
                        identity=person.identity,
                        clothes=clothes,
                        camera=camera,
                        number=number,
                        frames=1,
                    )


def _tracklet_shots(
    persons: Sequence[Person], cameras: int, tracklets: int, frames: int
) -> Iterator[Shot]:
    for person in persons:
        for clothes in range(person.clothes):
            for number in range(tracklets):
                # A person's queries all come from one camera, their gallery from the others.
                camera = (person.identity + number) % cameras
                later = LATER_CAMERAS if clothes == SESSIONS - 1 else 0
                name = f"session{clothes + 1}/{person.identity + 1:03d}_{camera + 1:02d}"
                yield Shot(
                    part="train" if person.training else "gallery" if number else "query",
                    path=f"{name}/{{}}.jpg",
                    identity=person.identity,
                    clothes=clothes,
                    camera=camera + later,
                    number=number,
                    frames=frames,
                )


def _shoot(shot: Shot, height: int, width: int, seed: int) -> Iterator[Picture]:
    """Draw the shot's pictures: a walk, if there are several."""
    stream = (shot.identity, shot.clothes, shot.camera, shot.number)
    generator = np.random.default_rng([seed, 3, *stream])
    body = make_body(seed, shot.identity)
    clothes = make_clothes(seed, shot.identity, shot.clothes)
    camera = make_camera(seed, shot.camera)
    first = random_capture(generator)
    for frame in range(shot.frames):
        capture = replace(first, phase=first.phase + STRIDE * frame)
        yield render_person(
            body, clothes, camera, capture, height=height, width=width, generator=generator
        )


def _write_ltcc(folder: Path, persons: Sequence[Person]) -> None:
    for part in (*LTCC_PARTS, "info"):
        (folder / part).mkdir(parents=True)
    training = [person for person in persons if person.training]
    testing = [person for person in persons if not person.training]
    for name, chosen in (("train", training), ("test", testing)):
        lines = [str(person.identity + 1) for person in chosen if person.clothes > 1]
        _write_lines(folder / f"info/cloth-change_id_{name}.txt", lines)


def _write_ccvid(folder: Path, shots: Sequence[Shot]) -> None:
    folder.mkdir()
    for name in CCVID_LISTS:
        lines = []
        for shot in shots:
            if shot.part == name:
                clothes = f"u{shot.clothes}_l{shot.clothes}_s0_c0_a0"
                path = shot.path.rpartition("/")[0]
                lines.append(f"{path}\t{shot.identity + 1:03d}\t{clothes}")
        _write_lines(folder / f"{name}.txt", lines)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def _store(path: Path, picture: Picture) -> None:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else []
    done, content = cv2.imencode(path.suffix, np.ascontiguousarray(picture[..., ::-1]), quality)
    assert done
    path.write_bytes(content.tobytes())
