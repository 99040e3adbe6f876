"""CCVID (Gu et al., CVPR 2022): tracklets in three lists, with one folder of frames each.

A line is ``<session>/<person>_<walk> <person> <clothes>``. Cameras are not given: the walk's number
takes their place, and session 3's walks differ from those of sessions 1 and 2, which are shared.
"""

import os
import re
from itertools import pairwise
from pathlib import Path

from ffreid.engine.dataset_files import find_folder
from ffreid.errors import UserError
from ffreid.reid.data.readers.files import NAMED, ImageFinder, first_few, match_names, read_list
from ffreid.reid.data.readers.relabel import RawRecord, eval_split, make_source
from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import STANDARD

TREE = DATASETS["ccvid"].tree
FOLDER_NAMES = ("CCVID", "ccvid")
WALK = re.compile(r"[^_\s]+_(\d+)\s+(\d+)\s+(\S+)\s*$")
SESSION_3_OFFSET = 12
"""Added to the walk numbers of session 3."""


def read(root: Path, *, skip_broken: bool = False) -> Source:
    """Read CCVID in the order of its lists; `skip_broken` accepts tracklets that lack frames."""
    folder = find_folder(root, FOLDER_NAMES, ("train.txt", "query.txt", "gallery.txt"), TREE)
    finder = ImageFinder(folder, TREE, skip_broken=skip_broken)
    gaps: list[str] = []
    train, query, gallery = (_records(finder, part, gaps) for part in ("train", "query", "gallery"))
    return make_source(
        "ccvid",
        folder,
        train,
        {"query": query, "gallery": gallery},
        eval_split(query, gallery, STANDARD),
        hint=f"copy the lists to {folder} again: its splits share no identities",
        train_order=str,
        video=True,
        notes=(
            "CCVID has no camera labels: walk numbers (+12 in session 3) are used; most queries "
            "have no match under SC",
            *([f"frames are missing in {first_few(gaps, 'tracklet')}"] if gaps else []),
            *finder.notes(),
        ),
    )


def _records(finder: ImageFinder, part: str, gaps: list[str]) -> list[RawRecord]:
    path = finder.folder / f"{part}.txt"
    if part == "train" and not os.path.lexists(path):  # an evaluation needs none
        return []
    lines = read_list(path, TREE, "tracklet")
    matches = match_names(path, lines, WALK, "session1/001_01 001 u0_l0_s0_c0_a0")
    records = []
    for line, match in zip(lines, matches, strict=True):
        tracklet = line.split()[0]
        offset = SESSION_3_OFFSET if tracklet.split("/")[0] == "session3" else 0
        frames = tracklet_frames(finder, tracklet, path, gaps)
        clothes = f"{match[2]}_{match[3]}"
        records.append(RawRecord(frames, match[2], int(match[1]) + offset, clothes))
    return records


def tracklet_frames(
    finder: ImageFinder, tracklet: str, source: Path, gaps: list[str]
) -> tuple[str, ...]:
    """List a tracklet's frames in order; if it lacks some, add it to `gaps` or raise an error."""
    home = finder.folder / tracklet
    if not home.is_dir():
        raise UserError(f"{source} lists {tracklet}, but there is no {home}", f"expected {TREE}")
    files, folders = finder.scan(tracklet)
    finder.pass_over("too deep", "folder", folders)
    if not files:
        raise UserError(
            f"the tracklet {home} contains no image",
            f"copy its frames again, or remove its line from {source}",
        )
    stems = [path.rpartition("/")[2].partition(".")[0] for path in files]
    if all(stem.isdecimal() for stem in stems):
        files = [path for _, path in sorted(zip(map(int, stems), files, strict=True))]
        numbers = sorted(set(map(int, stems)))
        missing = [n for one, after in pairwise(numbers) for n in range(one + 1, after)[:NAMED]]
        if missing and not finder.skip_broken:
            count = numbers[-1] - numbers[0] + 1 - len(numbers)
            listed = ", ".join(map(str, missing[:NAMED])) + ", …" * (count > NAMED)
            raise UserError(
                f"the tracklet {home} lacks {count} frame{'s' * (count > 1)}: {listed}",
                "copy its frames again, or set DATA.SKIP_BROKEN True to accept it",
            )
        if missing:
            gaps.append(tracklet)
    return tuple(files)
