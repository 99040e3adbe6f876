"""Names of files on disk and what they say: sorted whatever the file system gives."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ffreid.engine.dataset_files import describe_folder, read_lines
from ffreid.errors import UserError

NAMED = 5
"""How many culprits an error names; of the others it gives the count."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_images(
    folder: Path,
    part: str,
    tree: str,
    *,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    nested: bool = False,
) -> list[str]:
    """List a split's pictures as sorted paths below `folder`.

    Args:
        folder: the data set's own.
        part: the split's folder below it, with ``/`` between.
        tree: the expected layout, for the error.
        suffixes: which files are pictures; hidden files never are.
        nested: pictures lie in folders (one an identity) instead of in the split's folder itself.

    Raises:
        UserError: the split's folder is missing or holds no picture.
    """
    home = folder / part
    if not home.is_dir():
        raise UserError(
            f"no folder {home}: {folder}: {describe_folder(folder)}", f"expected {tree}"
        )
    homes = [f"{part}/{name}" for name in subfolders(home)] if nested else [part]
    listed = sorted(f"{place}/{name}" for place in homes for name in file_names(folder / place))
    kept = [path for path in listed if path.lower().endswith(tuple(suffixes))]
    if not kept:
        kind = " or ".join(suffixes)
        raise UserError(f"no {kind} picture in {home}: {describe_folder(home)}", f"expected {tree}")
    return kept


def file_names(folder: Path) -> list[str]:
    """Give the sorted names of the folder's files that aren't hidden."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file())


def subfolders(folder: Path) -> list[str]:
    """Give the sorted names of the folder's folders that aren't hidden."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())


def read_list(path: Path, tree: str, entry: str) -> list[str]:
    """Read a split's list file.

    Raises:
        UserError: it is missing, unreadable or empty.
    """
    if not path.is_file():
        raise UserError(
            f"no list {path}: {path.parent}: {describe_folder(path.parent)}", f"expected {tree}"
        )
    return read_lines(path, entry)


def match_names(
    place: Path, texts: Iterable[str], pattern: re.Pattern[str], example: str
) -> list[re.Match[str]]:
    """Match the start of every name or line, of a path the part behind the last ``/``.

    Args:
        place: where the texts were found, for the error.
        texts: file names, paths or lines.
        pattern: grammar.
        example: a text that matches, for the error.

    Raises:
        UserError: some don't match: the first are named and all are counted.
    """
    matches, wrong = [], []
    for text in texts:
        match = pattern.match(text.rpartition("/")[2])
        if match is None:
            wrong.append(text.rpartition("/")[2])
        else:
            matches.append(match)
    if wrong:
        raise UserError(
            f"{place}: cannot make out {first_few(wrong, 'name')}",
            f"expected such as {example}; take others out of there",
        )
    return matches


def check_exist(
    folder: Path, paths: Iterable[str], source: Path, *, skip_broken: bool = False
) -> list[str]:
    """Check that the listed files are there, by one look at each folder.

    Args:
        folder: what `paths` start from.
        paths: with ``/`` between.
        source: the list, for the error.
        skip_broken: give those that are not instead.

    Raises:
        UserError: some are not: the first are named and all are counted.
    """
    by_home: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_home[path.rpartition("/")[0]].append(path)
    absent: list[str] = []
    for home, listed in by_home.items():
        there = set(file_names(folder / home)) if (folder / home).is_dir() else set()
        absent += [path for path in listed if path.rpartition("/")[2] not in there]
    if absent and not skip_broken:
        raise UserError(
            f"{source} lists {first_few(absent, 'file')} that aren't in {folder}",
            "complete the data set, or set DATA.SKIP_BROKEN True to go on without them",
        )
    return absent


def first_few(culprits: Sequence[str], kind: str) -> str:
    """Name the first few of `culprits` and count them: ``7 names: a, b, c, d, e, …``."""
    plural = kind if len(culprits) == 1 else f"{kind}s" if kind[-1] != "y" else f"{kind[:-1]}ies"
    more = ", …" if len(culprits) > NAMED else ""
    return f"{len(culprits)} {plural}: {', '.join(culprits[:NAMED])}{more}"
