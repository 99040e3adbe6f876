"""Pictures, or folders of frames, of a user's own, in any layout, and the labels of some."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffreid.engine.dataset_files import describe_folder, reason_of
from ffreid.errors import UserError
from ffreid.reid.data.csv_files import read_csv
from ffreid.reid.data.readers.files import IMAGE_SUFFIXES, NO_IMAGES, first_few

NAMINGS = (
    re.compile(r"(?P<identity>\d{4}|-1)_c\d+s\d+_\d{6,7}_\d+\.\w+(?:\.\w+)?"),
    re.compile(r"(?P<identity>\d+)_\d+_c\d+_\d{4,}\.\w+"),
    re.compile(r"P(?P<identity>\d+)_C\d+_\d{8}_\d+_\d+_\d+\.\w+"),
    re.compile(r"session\d+/(?P<identity>\d{3})_\d+"),
)
"""Names that tell the person: of Market-1501, LTCC, DeepChange; of CCVID's folders."""
NOBODY = ("-1", "0000")
"""Market-1501's identities of distractors, who are different people."""
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Item:
    """A picture, or a tracklet of several: its path as shown, from the folder searched."""

    name: str
    frames: tuple[Path, ...]

    @property
    def shown(self) -> Path:
        """The picture that stands for it: a tracklet's middle frame."""
        return self.frames[len(self.frames) // 2]


@dataclass(frozen=True)
class Found:
    """The items of a folder, notes on what is passed over, and reasons of what cannot be read."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]


def find_items(path: Path, *, video: bool) -> Found:
    """Find the pictures in a folder and its subfolders, or the picture that `path` is.

    With `video` each folder with pictures is a tracklet, its frames sorted with numbers by value.
    Hidden files and folders, and files of other suffixes, are passed over; the latter are noted.

    Raises:
        UserError: there is no picture.
    """
    if not os.path.lexists(path):
        raise UserError(f"no file or folder {path}", "use an existing picture or folder")
    if not path.is_dir():
        return Found((Item(path.name, (path,)),), (), ())
    unreadable: list[tuple[str, str]] = []
    folders: dict[str, list[str]] = {}
    others: list[str] = []
    # A link to a folder above leads out of this one.
    seen = set(map(_number, path.resolve().parents))

    def failed(error: OSError) -> None:
        unreadable.append((str(error.filename), reason_of(error)))

    for home, below, names in os.walk(path, onerror=failed, followlinks=True):
        if (number := _number(Path(home))) in seen:
            below.clear()
            continue
        seen.add(number)
        below[:] = sorted((name for name in below if name[0] != "."), key=natural)
        part = os.path.relpath(home, path)
        shown = [name for name in names if name[0] != "."]
        images = [name for name in shown if name.lower().endswith(IMAGE_SUFFIXES)]
        folders[part] = sorted(images, key=natural)
        known = (*IMAGE_SUFFIXES, *NO_IMAGES)
        others += [os.path.normpath(f"{part}/{n}") for n in shown if not n.lower().endswith(known)]
    if video:
        items = [
            Item(path.name if part == "." else part, tuple(path / part / name for name in names))
            for part, names in folders.items()
            if names
        ]
    else:
        items = [
            Item(os.path.normpath(f"{part}/{name}"), (path / part / name,))
            for part, names in folders.items()
            for name in names
        ]
    if not items:
        why = f"; {unreadable[0][0]}: {unreadable[0][1]}" if unreadable else ""
        raise UserError(
            f"no picture in {path}: {describe_folder(path) if not why else 'not readable'}{why}",
            f"use a folder with pictures, whose names end in {', '.join(IMAGE_SUFFIXES)}",
        )
    notes = [f"{path}: not read (unknown suffix): {first_few(others, 'file')}"] if others else []
    loose = folders.get(".", [])
    if video and loose and len(items) > 1:
        notes.append(f"{path}: {len(loose)} pictures beside the folders are taken as one tracklet")
    if video and loose and len(items) == 1 and len(loose) > 1:
        notes.append(f"{path}: all {len(loose)} pictures are taken as the frames of one tracklet")
    return Found(tuple(items), tuple(notes), tuple(unreadable))


def _number(folder: Path) -> tuple[int, int]:
    info = folder.stat()
    return info.st_dev, info.st_ino


def natural(name: str) -> tuple[object, ...]:
    """Sort numbers in names by value, and names that differ in case only next to each other."""
    parts = _NUMBER.split(name.lower())
    return tuple(int(part) if part.isdecimal() else part for part in parts), name


def labels_from_names(*groups: Sequence[Item]) -> list[list[str | None]]:
    """Read the persons from names, for each group of items; all None unless every name tells.

    An item's person is None where it is a distractor.
    """
    names = [[item.name.replace("\\", "/") for item in items] for items in groups]
    for pattern in NAMINGS:
        matches = [[_match(pattern, name) for name in group] for group in names]
        if all(match for group in matches for match in group):
            found = [[match["identity"] for match in group if match] for group in matches]
            return [[None if one in NOBODY else one for one in group] for group in found]
    return [[None] * len(group) for group in names]


def _match(pattern: re.Pattern[str], name: str) -> re.Match[str] | None:
    depth = 2 if "/" in pattern.pattern else 1
    return pattern.fullmatch("/".join(name.split("/")[-depth:]))


def read_persons(table: Path) -> dict[str, str]:
    """Read a table with the columns ``path`` and ``identity``: persons by path.

    Raises:
        UserError: it cannot be read, or gives a path two persons.
    """
    _, lines = read_csv(table, ("path", "identity"), "path,identity")
    persons: dict[str, tuple[str, int]] = {}
    for line, values in lines:
        path = values["path"].replace("\\", "/")
        identity, first = persons.setdefault(path, (values["identity"], line))
        if identity != values["identity"]:
            raise UserError(
                f"{table}: {path} is {identity!r} in line {first} and {values['identity']!r} in "
                f"line {line}",
                "write each path once",
            )
    return {path: identity for path, (identity, _) in persons.items()}


def labels_from_csv(
    table: Path, persons: Mapping[str, str], *groups: tuple[Path, Sequence[Item]]
) -> list[list[str | None]]:
    """The persons of items, from those that `read_persons` has read from a table.

    A path is of a picture or of a folder of one person's, relative to the table's folder or to the
    folder of a group. Items that are not in the table have None.
    """
    roots = [table.parent, *(root if root.is_dir() else root.parent for root, _ in groups)]
    places = {
        os.path.realpath(root / path): identity
        for root in reversed(roots)
        for path, identity in persons.items()
    }

    def person(item: Item) -> str | None:
        file = item.frames[0]
        found = (places.get(os.path.realpath(path)) for path in (file, file.parent))
        return next(filter(None, found), None)

    result = [[person(item) for item in items] for _, items in groups]
    if not any(map(any, result)):
        raise UserError(
            f"{table} names no picture of query or gallery, e.g. {next(iter(persons))!r}",
            f"write paths relative to it, or to {groups[-1][0]}",
        )
    return result
