"""CCVID (Gu et al., CVPR 2022): tracklets in three lists, frames in a folder each.

A line is ``<session>/<person>_<walk> <person> <outfit>``. Cameras aren't given: the walk counts as
one, and session 3's walks as others than those of sessions 1 and 2, which share theirs.
"""

import re
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.errors import UserError
from ffreid.reid.data.readers.files import (
    IMAGE_SUFFIXES,
    file_names,
    first_few,
    match_names,
    read_list,
)
from ffreid.reid.data.readers.relabel import RawRecord, check_disjoint, eval_split, relabel
from ffreid.reid.data.records import Source
from ffreid.reid.defaults import TREES
from ffreid.reid.retrieval.protocols import STANDARD

TREE = TREES["ccvid"]
FOLDER_NAMES = ("CCVID", "ccvid")
WALK = re.compile(r"[^_\s]+_(\d+)\s+(\d+)\s+(\S+)\s*$")
THIRD_SESSION = 12
"""How far the walks of session 3 are moved."""


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read CCVID, in the order of its lists.

    Args:
        root: its folder, or the one that holds it.
        skip_broken: take tracklets that lack frames as they are, and say how many.

    Raises:
        UserError: a list is missing, a line doesn't parse, a tracklet is missing, empty or lacks
            frames, splits share an identity.
    """
    folder = find_folder(root, FOLDER_NAMES, ("train.txt", "query.txt", "gallery.txt"), TREE)
    gaps: list[str] | None = [] if skip_broken else None
    train, query, gallery = (_items(folder, part, gaps) for part in ("train", "query", "gallery"))
    check_disjoint(
        train,
        {"query": query, "gallery": gallery},
        f"copy the lists to {folder} again: CCVID parts identities",
    )
    records, identities, clothes = relabel(train, identity_order=str)
    return Source(
        name="ccvid",
        folder=folder,
        video=True,
        train=records,
        identities=identities,
        clothes=clothes,
        test=eval_split(query, gallery, STANDARD),
        notes=(
            "cameras are numbers of walks (+12 in session 3): CCVID gives none; under SC most "
            "queries have no match",
            *([f"frames are missing inside {first_few(gaps, 'tracklet')}"] if gaps else []),
        ),
    )


def _items(folder: Path, part: str, gaps: list[str] | None) -> list[RawRecord]:
    path = folder / f"{part}.txt"
    lines = read_list(path, TREE, "tracklet")
    matches = match_names(path, lines, WALK, "session1/001_01 001 u0_l0_s0_c0_a0")
    items = []
    for line, match in zip(lines, matches, strict=True):
        tracklet = line.split()[0]
        moved = THIRD_SESSION if tracklet.split("/")[0] == "session3" else 0
        frames = tracklet_frames(folder, tracklet, path, gaps)
        items.append(RawRecord(frames, match[2], int(match[1]) + moved, f"{match[2]}_{match[3]}"))
    return items


def tracklet_frames(
    folder: Path, tracklet: str, source: Path, gaps: list[str] | None = None
) -> tuple[str, ...]:
    """List a tracklet's frames in order, as paths below `folder`.

    Args:
        folder: the data set's own.
        tracklet: the frames' folder below it.
        source: the list that names it, for the error.
        gaps: gets the tracklet's name if it lacks frames, which is an error where there is none.

    Raises:
        UserError: the folder is missing or empty, or the frames' numbers leave some out.
    """
    home = folder / tracklet
    if not home.is_dir():
        raise UserError(f"{source} lists {tracklet}, and there is no {home}", f"expected {TREE}")
    files = [name for name in file_names(home) if name.lower().endswith(IMAGE_SUFFIXES)]
    if not files:
        raise UserError(
            f"the tracklet {home} holds no picture",
            f"copy its frames again, or take its line out of {source}",
        )
    stems = [name.partition(".")[0] for name in files]
    if all(stem.isdecimal() for stem in stems):
        files = [name for _, name in sorted(zip(map(int, stems), files, strict=True))]
        numbers = set(map(int, stems))
        missing = sorted(set(range(min(numbers), max(numbers))) - numbers)
        if missing and gaps is None:
            raise UserError(
                f"the tracklet {home} lacks {first_few([str(n) for n in missing], 'frame')}",
                "copy its frames again, or set DATA.SKIP_BROKEN True to take it as it is",
            )
        if missing and gaps is not None:
            gaps.append(tracklet)
    return tuple(f"{tracklet}/{name}" for name in files)
