"""File names on disk, always sorted, and their parts."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ffreid.engine.dataset_files import as_on_disk, describe_folder, read_lines
from ffreid.errors import UserError

NAMED = 5
"""Names listed in an error; the rest is counted."""

_CHUNK = 500
"""Files that a thread of `examine` takes at a time."""
_HUGE = re.compile(r"\d{19}")
"""Digits of a label that fits in no tensor."""
IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".gif",
    ".ppm",
)
"""Suffixes of the formats that `open_image` reads."""
NO_IMAGES = (".txt", ".md", ".csv", ".json", ".xml", ".yml", ".yaml", ".mat", ".db", ".ini")
"""Suffixes of files about images, which are passed over without a note."""


class ImageFinder:
    """Finds the images of a dataset by folder, and counts what it passes over.

    Args:
        folder: the dataset's.
        tree: the files expected in it, for errors.
        skip_broken: pass over links to nowhere, which are an error otherwise.
    """

    def __init__(self, folder: Path, tree: str, *, skip_broken: bool = False) -> None:
        self.folder, self.tree, self.skip_broken = folder, tree, skip_broken
        self._passed: dict[tuple[str, str], list[str]] = defaultdict(list)

    def images(self, part: str, *, nested: bool = False) -> list[str]:
        """List images of `part` (or its subfolders) as sorted paths relative to the folder.

        The folder of training images can be left out: an evaluation needs none.
        """
        home = self.folder / part
        if not home.is_dir():
            if "train" in part and not os.path.lexists(home):
                beside = sorted(path.name for path in home.parent.glob("*") if path.is_dir())
                alike = [name for name in beside if "train" in name.lower()]
                self.pass_over(f"training images are in {part}", "folder", alike)
                return []
            raise UserError(
                f"no folder {home}: {self.folder}: {describe_folder(self.folder)}",
                f"expected {self.tree}",
            )
        images, folders = self.scan(part)
        if nested:
            self.pass_over("not in a folder of an identity", "file", images)
            scanned = [self.scan(path) for path in folders]
            images = sorted(path for found, _ in scanned for path in found)
            folders = [path for _, deeper in scanned for path in deeper]
        self.pass_over("too deep", "folder", folders)
        if not images:
            raise UserError(
                f"no image in {home}: {describe_folder(home)}",
                f"expected {self.tree}; images end in {', '.join(IMAGE_SUFFIXES)}",
            )
        return images

    def scan(self, part: str) -> tuple[list[str], list[str]]:
        """Sorted paths, relative to the folder, of the images and the folders in `part`."""
        images, folders, others, broken = (list[str]() for _ in range(4))
        with os.scandir(self.folder / part) as entries:
            for entry in entries:
                name, path = entry.name.lower(), f"{part}/{entry.name}"
                if name.startswith("."):
                    continue
                kind = _kind(entry)
                if kind == "file":
                    if name.endswith(IMAGE_SUFFIXES):
                        images.append(path)
                    elif not name.endswith(NO_IMAGES):
                        others.append(path)
                else:
                    (folders if kind == "folder" else broken).append(path)
        if broken and not self.skip_broken:
            raise UserError(
                f"{self.folder}: links to nowhere, or no files: {first_few(broken, 'name')}",
                "copy the files they stand for, or set DATA.SKIP_BROKEN True to pass over them",
            )
        self.pass_over("links to nowhere, or no files", "name", broken)
        self.pass_over("unknown suffix", "file", others)
        return sorted(images), sorted(folders)

    def pass_over(self, reason: str, kind: str, paths: Iterable[str]) -> None:
        """Count files or folders that are not read."""
        self._passed[reason, kind] += paths

    def match(
        self, part: str, pattern: re.Pattern[str], example: str, *, nested: bool = False
    ) -> list[tuple[str, re.Match[str]]]:
        """List a split's images, and the matches of their names with `pattern`."""
        paths = self.images(part, nested=nested)
        matches = match_names(self.folder / part, paths, pattern, example)
        return list(zip(paths, matches, strict=True))

    def notes(self) -> tuple[str, ...]:
        """What was passed over, for the user."""
        return tuple(
            f"not read ({reason}): {first_few(sorted(paths), kind)}"
            for (reason, kind), paths in self._passed.items()
            if paths
        )


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "file" if entry.is_file() else "folder" if entry.is_dir() else "other"
    except OSError:  # a link to itself
        return "other"


def read_list(path: Path, tree: str, entry: str) -> list[str]:
    """Read a split's list file."""
    if not os.path.lexists(path):
        raise UserError(
            f"no list {path}: {path.parent}: {describe_folder(path.parent)}", f"expected {tree}"
        )
    return read_lines(path, entry)


def match_names(
    source: Path, texts: Iterable[str], pattern: re.Pattern[str], example: str
) -> list[re.Match[str]]:
    """Match the start of all lines or names; of a path, the part after the last ``/``."""
    names = [text.rpartition("/")[2] for text in texts]
    matches = [pattern.match(name) for name in names]
    if wrong := [
        name
        for name, match in zip(names, matches, strict=True)
        if match is None or (_HUGE.search(name) and any(map(_HUGE.search, match.groups(""))))
    ]:
        raise UserError(
            f"{source}: cannot parse {first_few(wrong, 'name')}",
            f"expected names such as {example}; your own images may have any name with "
            "--dataset folder",
        )
    return [match for match in matches if match is not None]


def find_listed(
    folder: Path, paths: Sequence[str], source: Path, *, skip_broken: bool = False
) -> tuple[list[str], list[str]]:
    """Check that listed files exist; each folder is listed once.

    Returns:
        The paths as spelt on disk, and, with `skip_broken`, the missing ones.
    """
    names: dict[str, set[str]] = {}
    lost: list[str] = []
    for path in paths:
        home, _, name = path.rpartition("/")
        if home not in names:
            present = (folder / home).is_dir()
            names[home] = set(file_names(folder / home)) if present else set()
        if name not in names[home]:
            lost.append(path)
    if not lost:
        return list(paths), []
    spelt = dict(zip(lost, as_on_disk(folder, lost), strict=True))
    missing = [path for path in lost if not (folder / spelt[path]).is_file()]
    if missing and not skip_broken:
        raise UserError(
            f"{source} lists {first_few(missing, 'file')} missing in {folder}",
            "complete the dataset, or set DATA.SKIP_BROKEN True to skip them",
        )
    return [spelt.get(path, path) for path in paths], missing


def examine(folder: Path, paths: Sequence[str]) -> Iterator[tuple[int, int] | None]:
    """Size in bytes and number of each file, None if there is none.

    Hard links of a file have its number. In parallel, as network file systems answer slowly.
    """

    def examine_chunk(start: int) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for path in paths[start : start + _CHUNK]:
            try:
                info = os.stat(os.path.join(folder, path))  # noqa: PTH116, PTH118 - twice as fast
            except OSError:
                found.append(None)
            else:
                found.append((info.st_size, info.st_dev << 64 | info.st_ino))
        return found

    with ThreadPoolExecutor(16) as pool:
        for part in pool.map(examine_chunk, range(0, len(paths), _CHUNK)):
            yield from part


def file_names(folder: Path) -> list[str]:
    """Names of the folder's files."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if _kind(entry) == "file"]


def first_few(names: Sequence[str], kind: str) -> str:
    """Count names and list the first: ``7 names: a, b, c, d, e, …``."""
    plural = kind if len(names) == 1 else f"{kind}s" if kind[-1] != "y" else f"{kind[:-1]}ies"
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} {plural}: {', '.join(names[:NAMED])}{more}"
