"""An evaluation of each dataset, on small trees in the real layouts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from ffreid.atomic import to_json_data
from ffreid.engine.distributed.group import World
from ffreid.recipes import compose
from ffreid.reid import build, sources
from ffreid.reid.evaluation import evaluate
from tests.reid import dataset_trees
from tests.reid.synthetic_features import Projection

SIZE = 8
SMALL = ("DATA.HEIGHT", str(SIZE), "DATA.WIDTH", str(SIZE))
WORLD = World(0, 1, torch.device("cpu"))
ROWS = {
    "ltcc": ["general", "SC", "CC", "CC, listed identities"],
    "prcc": ["SC", "CC", "SC, single-shot", "CC, single-shot"],
    "vcclothes": ["general", "SC", "CC", "SC (cameras 2 and 3)", "CC (cameras 3 and 4)"],
    "vcclothes_sc": ["SC (cameras 2 and 3)"],
    "vcclothes_cc": ["CC (cameras 3 and 4)"],
    "last": ["general"],
    "deepchange": ["general"],
    "market1501": ["general"],
    "ccvid": ["general", "SC", "CC"],
    "folder": ["general", "SC", "CC"],
}
PUBLISHED = {
    "ltcc": {"general", "CC"},
    "prcc": {"SC", "CC"},
    "vcclothes": {"general", "SC (cameras 2 and 3)", "CC (cameras 3 and 4)"},
    "vcclothes_sc": {"SC (cameras 2 and 3)"},
    "vcclothes_cc": {"CC (cameras 3 and 4)"},
    "last": {"general"},
    "deepchange": {"general"},
    "ccvid": {"general", "CC"},
}


def loaded(path: Path, cfg: CfgNode, device: torch.device) -> tuple[nn.Module, dict[str, Any]]:
    weight = torch.randn(3 * SIZE * SIZE, 6, generator=torch.Generator().manual_seed(0))
    return Projection(weight, video=cfg.DATASET == "ccvid"), {"dataset": cfg.DATASET}


def evaluated(name: str, root: Path, folder: Path, **options: Any) -> dict[str, Any]:
    dataset_trees.fill(dataset_trees.build(name, root), SIZE, SIZE)
    cfg = compose(name, root=root, pairs=["DATA.NUM_WORKERS", "0", *SMALL])
    return evaluate(cfg, WORLD, folder=folder, weights=Path("best.pth"), **options)


@pytest.fixture(autouse=True)
def _loads_a_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "load_network", loaded)


@pytest.mark.parametrize("name", ROWS)
def test_rows_and_published_results(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = evaluated(name, tmp_path / "data", tmp_path)["results"]
    assert list(results) == ROWS[name]
    # The trees have fewer queries than the published evaluations.
    assert not any(row["published"] for row in results.values())
    told = capsys.readouterr().err
    for title in PUBLISHED.get(name, set()):
        assert f"{title}: published on " in told or f"{title}: on an unknown number" in told
    assert told.count("so not compared") == len(PUBLISHED.get(name, set()))
    if name == "prcc":
        row = results["CC, single-shot"]
        assert (row["single_shot_trials"], len(row["deviation_rank1_mAP"])) == (10, 2)
        assert row["n_valid"] == results["CC"]["n_valid"] == 2


def test_re_ranking_works_on_small_galleries(tmp_path: Path) -> None:
    results = evaluated("vcclothes", tmp_path / "data", tmp_path, rerank=True)["results"]
    marked = [f"{title}, with re-ranking" for title in ROWS["vcclothes"]]
    assert list(results) == [*ROWS["vcclothes"], *marked]
    assert not any(results[title]["published"] for title in marked)


@pytest.mark.parametrize("name", ROWS)
def test_what_came_out_and_what_was_left_out_is_what_went_in(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file = tmp_path / "data", tmp_path / "features.npz"
    dataset_trees.fill(dataset_trees.build(name, root), SIZE, SIZE)
    cfg = compose(
        name, root=root, pairs=["DATA.NUM_WORKERS", "0", "DATA.SKIP_BROKEN", "yes", *SMALL]
    )
    test = sources.open_source(cfg).test
    damaged = [split[-1] for split in (test.query, test.gallery) if len(split) > 1]
    for length, record in enumerate(damaged, 50):
        path = sources.open_source(cfg).folder / record.frames[0]
        path.write_bytes(path.read_bytes()[:length])
    payload = evaluate(
        cfg, WORLD, folder=tmp_path, weights=Path("best.pth"), save_features=file, rerank=True
    )
    assert payload["skipped"] == {"queries": len(test.query) > 1, "gallery": True}
    assert len(payload["broken"]) == len(damaged)
    for part, records in (("queries", test.query), ("gallery", test.gallery)):
        assert payload[part] + payload["skipped"][part] == len(records)
    queries = json.loads((tmp_path / "queries.json").read_text())["queries"]
    assert len(queries) == payload["queries"]
    for title, row in payload["results"].items():
        results = [entry["protocols"][title] for entry in queries if title in entry["protocols"]]
        assert row["n_valid"] + row["n_skipped"] + row["n_outside"] == payload["queries"]
        if not row["single_shot_trials"]:
            assert len(results) == row["n_valid"] + row["n_skipped"]
            assert sum(result["first_match"] is not None for result in results) == row["n_valid"]
    (note,) = payload["notes"]
    assert note.startswith(f"{len(damaged) - 1} of {len(test.query)} queries and 1 of ")
    assert f"note: {note}\n" in capsys.readouterr().err
    # Saved features have the same notes.
    saved = evaluate(cfg, WORLD, folder=tmp_path, weights=None, features=file, rerank=True)
    for key in ("results", "notes", "skipped", "broken", "own_images", "trained_on"):
        assert to_json_data(saved[key]) == to_json_data(payload[key])
    assert f"note: {note}\n" in capsys.readouterr().err
