"""What cannot be trained or evaluated is told by the reader and refused before training."""

from pathlib import Path

import pytest

from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid import sources
from ffreid.reid.data.readers import READERS
from tests.reid import dataset_trees

HEADER = "path,identity,camera,clothes,split"
TRAIN = ["a,anna,1,,train", "b,ben,1,,train"]
QUERY = "c,carl,1,,query"
MATCH = "d,carl,2,,gallery"


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        ([*TRAIN, QUERY, MATCH], "", ""),
        ([QUERY, MATCH], "there are no training images", "ffreid eval"),
        ([TRAIN[0], QUERY, MATCH], "all training images are of one identity, anna", "labels"),
        (
            [*TRAIN, QUERY, "d,carl,1,,gallery"],
            "no query can have a match: all gallery images of their persons are of the query's own",
            "leave the camera labels out",
        ),
        (
            [*TRAIN, QUERY, "d,dora,2,,gallery"],
            "no query can have a match: none of their persons is in the gallery",
            "the same identity",
        ),
    ],
)
def test_what_cannot_work_is_told_before_training(
    lines: list[str], message: str, hint: str, tmp_path: Path
) -> None:
    lines = [line.replace(",", ".png,", 1) for line in lines]
    table = "\n".join([HEADER, *lines]) + "\n"
    dataset_trees.write(tmp_path, {"records.csv": table}, [f"{c}.png" for c in "abcd"])
    source = READERS["folder"](tmp_path)
    assert len(source.notes) == 1 + bool(message)  # the first is on clothes
    assert message in source.notes[-1] and hint in source.notes[-1]
    cfg = compose("folder", root=tmp_path)
    if not message:
        sources.check_source(cfg, source)
        return
    with pytest.raises(UserError) as caught:
        sources.check_source(cfg, source)
    assert message in caught.value.message and hint in caught.value.hint


def test_a_selecting_protocol_without_matches_is_told_before_training(tmp_path: Path) -> None:
    source = READERS["folder"](dataset_trees.build("folder", tmp_path))
    cfg = compose("folder", root=tmp_path)
    sources.check_source(cfg, source)
    (note,) = sources.notes(cfg, source)
    assert note.startswith("no query can have a match under CC: the gallery has no image")
    assert note.endswith("TRAIN.SELECT 'general rank-1 max'")
    assert not sources.notes(compose("folder", pairs=["TRAIN.SELECT", "SC mAP max"]), source)
