"""Results side by side: differences, their intervals, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffreid.compare import compare, names
from ffreid.engine import page
from ffreid.errors import UserError


def reid_result(folder: Path, first_matches: list[int], *, dataset: str = "ltcc") -> Path:
    """Queries of persons a, a, b, b, …; AP is 1 / rank of the first match."""
    folder.mkdir(parents=True, exist_ok=True)
    precision = [1 / rank for rank in first_matches]
    row = {"rank1": float(np.mean([r == 1 for r in first_matches])), "mAP": np.mean(precision)}
    queries = [
        {
            "path": f"{index}.png",
            "identity": chr(97 + index // 2),
            "protocols": {"CC": {"first_match": rank, "AP": 1 / rank}},
        }
        for index, rank in enumerate(first_matches)
    ]
    (folder / "results.json").write_text(json.dumps({"dataset": dataset, "results": {"CC": row}}))
    (folder / "queries.json").write_text(json.dumps({"queries": queries}))
    return folder


def pose_result(folder: Path, errors: list[float]) -> Path:
    """A can of 10 cm in frames 0, 1, …, with these errors in metres."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = ("ADD_auc", "ADD-S_auc", "ADD(-S)_auc", "ADD(-S)<0.1d", "ADD-S<2cm")
    row: dict[str, Any] = dict.fromkeys(shown, float(np.mean(errors)))
    can = row | {"symmetric": False, "diameter_m": 0.1}
    results = {"dataset": "ycb", "pooled": row, "classes": {"can": can}}
    instances = [
        {"frame": str(frame), "class": "can", "ADD_m": error, "ADD-S_m": error}
        for frame, error in enumerate(errors)
    ]
    (folder / "results.json").write_text(json.dumps({"results": results}))
    (folder / "poses.json").write_text(json.dumps({"instances": instances}))
    return folder


def metric(payload: dict[str, Any], name: str) -> dict[str, Any]:
    (entry,) = [entry for entry in payload["metrics"] if entry["metric"] == name]
    (difference,) = entry["differences"]
    return dict(difference)


def test_differences_of_reid_have_paired_intervals(tmp_path: Path) -> None:
    before = reid_result(tmp_path / "a", [1, 2] * 20)
    after = reid_result(tmp_path / "b", [1, 1] * 20)
    rank1 = metric(compare([before, after]), "CC rank-1")
    assert rank1["mean"] == pytest.approx(50)
    # Every person gains the same, so that no resampling changes the difference.
    np.testing.assert_allclose(rank1["interval"], [50, 50])


def test_differences_of_poses_are_those_of_the_instances(tmp_path: Path) -> None:
    before = pose_result(tmp_path / "a", [0.02, 0.005, 0.03, 0.005])
    after = pose_result(tmp_path / "b", [0.005, 0.005, 0.03, 0.005])
    payload = compare([before, after / "results.json"])
    low, high = metric(payload, "ADD(-S)<0.1d")["interval"]
    assert low == 0
    assert 50 <= high <= 75
    assert metric(payload, "can: ADD(-S) AUC")["interval"][0] == 0
    assert payload["notes"] == []


def test_what_only_one_has_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [pose_result(tmp_path / "a", [0.1] * 4), pose_result(tmp_path / "b", [0.1] * 3)]
    compare(paths)
    assert "a has 4 items, b 3; intervals are of the 3 that both have" in capsys.readouterr().err
    (tmp_path / "b" / "poses.json").unlink()
    assert metric(compare(paths), "ADD AUC")["interval"] is None
    assert "no intervals of b" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is not a JSON file"),
        ("[]", "has no results"),
        ('{"results": {}}', "has no results"),
        ('{"results": {"CC": {}}, "dataset": "ltcc"}', "is not complete"),
        ('{"results": {"pooled": 1}}', "is not complete"),
    ],
)
def test_files_that_are_no_results_are_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    good, bad = reid_result(tmp_path / "a", [1]), tmp_path / "b"
    bad.mkdir()
    if content is not None:
        (bad / "results.json").write_text(content)
    with pytest.raises(UserError, match=message):
        compare([good, bad])


def test_unlike_or_single_results_are_refused(tmp_path: Path) -> None:
    good = reid_result(tmp_path / "a", [1])
    with pytest.raises(UserError, match="nothing to compare"):
        compare([good])
    for same in (good, good / "results.json", good / "../a"):
        with pytest.raises(UserError, match="named twice"):
            compare([good, same])
    with pytest.raises(UserError, match="a is of ltcc, b of prcc"):
        compare([good, reid_result(tmp_path / "b", [1], dataset="prcc")])


def test_names_are_what_differs() -> None:
    assert names([Path("/runs/ltcc/a/results.json"), Path("/runs/ltcc/b/results.json")]) == [
        "a",
        "b",
    ]
    assert names([Path("/x/one.json"), Path("/x/two.json")]) == ["one", "two"]


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    paths = [reid_result(tmp_path / "<b>", [1]), reid_result(tmp_path / "b\x1b", [2])]
    compare(paths, report_file=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;" in text
    assert "\x1b" not in text
    page.check(tmp_path / "page.html")  # a page is replaced, another file is not
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.html"):
        page.check(tmp_path / "notes.html")
