"""File names on disk, always sorted, and their parts."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ffreid.engine.dataset_files import describe_folder, read_lines
from ffreid.errors import UserError

NAMED = 5
"""Names listed in an error; the rest is counted."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_images(
    folder: Path,
    part: str,
    tree: str,
    *,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    nested: bool = False,
) -> list[str]:
    """List images of `folder`/`part` (or its subfolders) as sorted paths relative to `folder`."""
    home = folder / part
    if not home.is_dir():
        raise UserError(
            f"no folder {home}: {folder}: {describe_folder(folder)}", f"expected {tree}"
        )
    homes = [f"{part}/{name}" for name in subfolders(home)] if nested else [part]
    paths = sorted(f"{parent}/{name}" for parent in homes for name in file_names(folder / parent))
    images = [path for path in paths if path.lower().endswith(tuple(suffixes))]
    if not images:
        kind = " or ".join(suffixes)
        raise UserError(f"no {kind} image in {home}: {describe_folder(home)}", f"expected {tree}")
    return images


def file_names(folder: Path) -> list[str]:
    """Sorted names of the folder's files that are not hidden."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file())


def subfolders(folder: Path) -> list[str]:
    """Sorted names of the folder's folders that are not hidden."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())


def read_list(path: Path, tree: str, entry: str) -> list[str]:
    """Read a split's list file."""
    if not path.is_file():
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
    if wrong := [name for name, match in zip(names, matches, strict=True) if match is None]:
        raise UserError(
            f"{source}: cannot parse {first_few(wrong, 'name')}",
            f"expected names such as {example}; remove all others",
        )
    return [match for match in matches if match is not None]


def match_images(
    folder: Path,
    part: str,
    tree: str,
    pattern: re.Pattern[str],
    example: str,
    *,
    nested: bool = False,
) -> list[tuple[str, re.Match[str]]]:
    """List a split's images with the suffix of `example`, and the matches of their names."""
    suffixes = (Path(example).suffix,)
    paths = list_images(folder, part, tree, suffixes=suffixes, nested=nested)
    return list(zip(paths, match_names(folder / part, paths, pattern, example), strict=True))


def check_exist(
    folder: Path, paths: Iterable[str], source: Path, *, skip_broken: bool = False
) -> list[str]:
    """Check that listed files exist, or return the missing ones; each folder is listed once."""
    by_home: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_home[path.rpartition("/")[0]].append(path)
    missing: list[str] = []
    for home, listed in by_home.items():
        existing = set(file_names(folder / home)) if (folder / home).is_dir() else set()
        missing += [path for path in listed if path.rpartition("/")[2] not in existing]
    if missing and not skip_broken:
        raise UserError(
            f"{source} lists {first_few(missing, 'file')} missing in {folder}",
            "complete the dataset, or set DATA.SKIP_BROKEN True to skip them",
        )
    return missing


def first_few(names: Sequence[str], kind: str) -> str:
    """Count names and list the first: ``7 names: a, b, c, d, e, …``."""
    plural = kind if len(names) == 1 else f"{kind}s" if kind[-1] != "y" else f"{kind[:-1]}ies"
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} {plural}: {', '.join(names[:NAMED])}{more}"
