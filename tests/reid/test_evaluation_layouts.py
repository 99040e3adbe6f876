"""An evaluation of each dataset, on small trees in the real layouts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from ffreid.engine.distributed.group import World
from ffreid.recipes import compose
from ffreid.reid import build
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
    return Projection(weight, video=cfg.DATASET == "ccvid"), {}


def evaluated(name: str, root: Path, folder: Path, **options: Any) -> dict[str, Any]:
    dataset_trees.fill(dataset_trees.build(name, root), SIZE, SIZE)
    cfg = compose(name, root=root, pairs=["DATA.NUM_WORKERS", "0", *SMALL])
    return evaluate(cfg, WORLD, folder=folder, weights=Path("best.pth"), **options)


@pytest.fixture(autouse=True)
def _loads_a_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "load_network", loaded)


@pytest.mark.parametrize("name", ROWS)
def test_rows_and_published_results(name: str, tmp_path: Path) -> None:
    results = evaluated(name, tmp_path / "data", tmp_path)["results"]
    assert list(results) == ROWS[name]
    published = {title for title, row in results.items() if row["published"]}
    assert published == PUBLISHED.get(name, set())
    if name == "prcc":
        row = results["CC, single-shot"]
        assert (row["single_shot_trials"], len(row["deviation_rank1_mAP"])) == (10, 2)
        assert row["n_valid"] == results["CC"]["n_valid"] == 2


def test_re_ranking_works_on_small_galleries(tmp_path: Path) -> None:
    results = evaluated("vcclothes", tmp_path / "data", tmp_path, rerank=True)["results"]
    marked = [f"{title}, with re-ranking" for title in ROWS["vcclothes"]]
    assert list(results) == [*ROWS["vcclothes"], *marked]
    assert not any(results[title]["published"] for title in marked)
