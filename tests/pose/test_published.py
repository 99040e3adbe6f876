"""Published results of pose estimation: what they stand beside."""

import pytest

from ffreid.pose.objects import linemod_objects
from ffreid.pose.published import comparable_results, published_recalls
from ffreid.pose.resources import resource
from ffreid.pose.results_table import results_table
from ffreid.pose.scoring import InstanceScore, diameters, summarise


@pytest.mark.parametrize(
    ("dataset", "frames", "trained_on", "is_shown", "line"),
    [
        ("ycb", 2949, "ycb", True, "published: FFB6D: "),
        ("ycb", 2949, None, True, "published: FFB6D: "),  # poses of another program
        ("ycb", 20, "ycb", False, "note: published results are of 2,949 frames, not 20, and"),
        ("ycb", 20738, None, False, "note: published results are of 2,949 frames, not 20,738,"),
        ("ycb", 2949, "mine", False, "note: the weights were trained on mine, not on ycb, so"),
        ("ycb", 2949, "", False, "note: it is not known which dataset trained the weights, so"),
        ("linemod", 1050, "linemod", True, "published: FFB6D: "),
        ("linemod", 20, "linemod", False, "note: published results are of 900 to"),
        ("toy-pose", 50, "toy-pose", False, ""),
        ("toy-pose", 50, "", False, ""),
        ("toy-pose", 50, "ycb", False, "note: the weights were trained on ycb, not on toy-pose"),
    ],
)
def test_published_results_stand_only_beside_what_is_comparable(
    dataset: str, frames: int, trained_on: str | None, is_shown: bool, line: str
) -> None:
    found, lines = comparable_results(dataset, frames, trained_on)
    assert (found is not None) == is_shown
    assert len(lines) == bool(line)
    assert all(told.startswith(line) for told in lines)


def test_occlusion_linemod_stands_beside_three_methods() -> None:
    names = resource("published")["lmo"]["per_object"]
    objects = linemod_objects(",".join(names), "lmo")
    scores = [InstanceScore(0, "f", c, True, True, 0.01, 0.01, 0.0) for c in objects.class_ids]
    summary = summarise(scores, objects, diameters(objects, {}))
    for trained_on in ("linemod", "lm", "lmo"):
        published, lines = comparable_results("lmo", 1214, trained_on)
        assert [line.split(":")[1].strip() for line in lines] == ["FFB6D", "DFTr", "RDPN6D"]
    columns, rows = results_table(summary, published)
    shown = [column.removesuffix(" ADD(-S)<0.1d") for column in columns[-3:]]
    assert shown == ["FFB6D", "DFTr", "RDPN6D"]
    table = {row[0]: row[-3:] for row in rows}
    assert table["ape"] == [47.2, 64.1, None]
    assert table["mean of the classes present"] == [66.2, 77.7, 79.5]
    assert comparable_results("lmo", 200, "lmo")[0] is None
    assert comparable_results("lmo", 1214, "ycb")[0] is None


def test_a_network_of_more_objects_is_compared_on_those_of_the_set() -> None:
    published, _ = comparable_results("lmo", 1214, "linemod")
    objects = linemod_objects("all", "lmo")
    names = resource("published")["lmo"]["per_object"]
    ids = [objects.names.index(name) + 1 for name in names]
    scores = [InstanceScore(0, "f", c, True, True, 0.01, 0.01, 0.0) for c in ids]
    _, rows = results_table(summarise(scores, objects, diameters(objects, {})), published)
    table = {row[0]: row[-3:] for row in rows}
    assert table["mean of the classes present"] == [66.2, 77.7, 79.5]
    assert table["mean of all classes, absent as 0"] == [None, None, None]


def test_published_recalls_are_of_the_whole_list_of_targets() -> None:
    found, lines = published_recalls("lmo", "test_targets_bop19.json", 1445)
    assert found == {"GDRNPP": 77.5, "HiPose": 79.9, "DLTPose": 79.7}
    assert lines[0].startswith("published: GDRNPP, HiPose, DLTPose: ")
    for targets, count in (("test_targets_bop19.json", 1444), ("instances", 1445)):
        found, lines = published_recalls("lmo", targets, count)
        assert not found
        assert "are not shown" in lines[0]
    assert published_recalls("tless", "test_targets_bop19.json", 6423) == ({}, [])
