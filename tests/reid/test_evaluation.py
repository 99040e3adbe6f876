"""Evaluation runs on toy data: files, table, saved features, unreadable images, processes."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from ffreid.engine.distributed.group import World
from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid import build, sources
from ffreid.reid.evaluation import evaluate, training_dataset, training_method
from ffreid.reid.features import BASELINE, CAL, save
from tests.engine.processes import SIZE, in_processes
from tests.reid.synthetic_features import Projection, synthetic_features

CPU = torch.device("cpu")
WORLD = World(0, 1, CPU)
HEIGHT, WIDTH = 32, 16
SIZES = {"IDENTITIES": 2, "TEST_IDENTITIES": 3, "OUTFITS": 2, "CAMERAS": 3, "PICTURES": 2}
WEIGHTS = Path("best.pth")
ROWS = ["general", "SC", "CC"]


def config(root: Path, *pairs: str, dataset: str = "toy-reid") -> CfgNode:
    settings = ["DATA.HEIGHT", str(HEIGHT), "DATA.WIDTH", str(WIDTH), "DATA.NUM_WORKERS", "0"]
    settings += [text for key, size in SIZES.items() for text in (f"DATA.TOY.{key}", str(size))]
    settings += ["DATA.TOY.FRAMES", "5", "AUG.SEQ_LEN", "4", "DATA.TEST_BATCH", "5"]
    return compose(dataset, root=root, pairs=[*settings, *pairs])


def network(video: bool = False) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    return Projection(torch.randn(3 * HEIGHT * WIDTH, 8, generator=generator), video=video)


def loaded(
    path: Path, cfg: CfgNode, device: torch.device, *, content: Any = None
) -> tuple[nn.Module, dict[str, Any]]:
    return network(cfg.DATA.LAYOUT == "toy-video"), {"epoch": 7, "config": "MODEL: {NAME: other}"}


@pytest.fixture(autouse=True)
def _loads_a_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "load_network", loaded)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data, generated once."""
    root = tmp_path_factory.mktemp("data")
    for dataset in ("toy-reid", "toy-reid-video"):
        sources.open_source(config(root, dataset=dataset))
    return root


def test_a_run_writes_results_and_queries_and_prints_the_table(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg, other = config(root), tmp_path / "results/copy.json"
    payload = evaluate(cfg, WORLD, folder=tmp_path, weights=WEIGHTS, json_file=other)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written == json.loads(other.read_text())
    assert written["weights"] == "best.pth"
    assert written["epoch"] == 8  # the file counts from 0
    assert list(written["results"]) == ROWS == list(payload["results"])
    assert {"config", "provenance", "broken", "selected_on"} <= set(written)
    queries = json.loads((tmp_path / "queries.json").read_text())["queries"]
    assert len(queries) == written["queries"] > 0
    printed = capsys.readouterr()
    for title in ("general", "SC", "CC", "valid queries"):
        assert title in printed.out
    assert "trained with MODEL.NAME other, evaluated with resnet50" in printed.err
    assert "selected on the test set" in printed.err


def test_a_baseline_checkpoint_is_compared_with_the_baseline() -> None:
    cfg = compose("ltcc")
    baseline = cfg.clone()
    baseline.defrost()
    baseline.LOSS.CAL = "none"
    assert training_method(cfg, {}) == CAL
    assert training_method(cfg, {"config": baseline.dump()}) == BASELINE
    assert training_method(baseline, {"config": cfg.dump()}) == CAL


@pytest.mark.parametrize(
    ("state", "dataset"),
    [
        ({"dataset": "prcc"}, "prcc"),
        ({"dataset": None, "class_count": 6}, "toy-reid"),
        ({"class_count": 7}, ""),
        ({}, ""),
    ],
)
def test_the_dataset_that_trained_a_checkpoint(
    root: Path, state: dict[str, Any], dataset: str
) -> None:
    cfg = config(root)
    source = sources.open_source(cfg)
    assert len(source.identities) + len(source.clothes) == 6
    assert training_dataset(cfg, state, source) == dataset


def test_what_spoils_a_table_is_noted_below_it_and_in_the_results(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(root, tmp_path / "data"))
    query = next(root.rglob("query/*_1_c1_*.png"))
    item = next(root.rglob(f"test/{query.name.partition('_')[0]}_*_c2_*.png"))
    shutil.copy(query, item)
    payload = evaluate(config(root), WORLD, folder=tmp_path, weights=WEIGHTS)
    (note,) = payload["notes"]
    assert note.startswith(f"1 of {payload['queries']} queries find their own image")
    assert payload["own_images"] == {f"query/{query.name}": f"test/{item.name}"}
    assert f"note: {note}\n" in capsys.readouterr().err
    constant = Projection(torch.zeros(3 * HEIGHT * WIDTH, 8))
    monkeypatch.setattr(constant, "forward", lambda images: torch.ones(len(images), 8))
    monkeypatch.setattr(build, "load_network", lambda *_: (constant, {"dataset": "ltcc"}))
    payload = evaluate(config(root), WORLD, folder=tmp_path, weights=WEIGHTS)
    assert payload["notes"][1:] == [
        "all gallery features are equal, so its order decides the ranks"
    ]
    assert payload["trained_on"] == "ltcc"
    told = capsys.readouterr().err
    assert "note: the weights were trained on ltcc, not on toy-reid\n" in told
    assert told.index("own image") > told.index("evaluating")


def test_protocols_without_labels_are_skipped_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "features.npz"
    save(saved, synthetic_features(columns=("camera",)))
    cfg = compose("ltcc", root=tmp_path)
    payload = evaluate(cfg, WORLD, folder=tmp_path, weights=None, features=saved)
    assert list(payload["results"]) == ["general"]
    assert payload["left_out"] == {"SC": ["clothes"], "CC": ["clothes"]}
    assert "note: SC is not evaluated: no clothes labels" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"pictures": 3}, {"save_features": Path("g.npz")}])
def test_options_that_need_images_are_refused_with_features(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="has no effect with --features"):
        file = tmp_path / "f.npz"
        evaluate(config(tmp_path), WORLD, folder=tmp_path, weights=None, features=file, **options)


def test_an_unwritable_path_is_refused_before_the_evaluation(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = tmp_path / "file/f.npz"
    with pytest.raises(UserError, match="cannot write") as caught:
        evaluate(config(tmp_path), WORLD, folder=tmp_path, weights=WEIGHTS, save_features=file)
    assert "--save-features" in caught.value.hint


def test_rank_lists_replace_those_of_an_earlier_run(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/mine.png").write_text("")
    for count in (3, 2):
        evaluate(config(root), WORLD, folder=tmp_path, weights=WEIGHTS, pictures=count)
    names = sorted(path.name for path in (tmp_path / "pictures").glob("*.png"))
    assert [name[:6] for name in names] == ["000-ap", "001-ap", "mine.p", "sheet."]
    assert "2 rank lists (CC)" in capsys.readouterr().err


def evaluate_in_process(root: Path, folder: Path, rank: int) -> str:
    """Results of an evaluation by several processes."""
    build.load_network = loaded
    payload = evaluate(config(root), World(rank, SIZE, CPU), folder=folder, weights=WEIGHTS)
    return json.dumps([payload["queries"], payload["results"]])


def test_two_processes_give_the_results_of_one(root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(root, tmp_path / "data"))
    sorted(root.rglob("query/*.png"))[0].unlink()
    payload = evaluate(config(root), WORLD, folder=tmp_path / "one", weights=WEIGHTS)
    assert payload["queries"] % SIZE, "an odd number is the harder case"
    for name in ("meeting", "two"):
        (tmp_path / name).mkdir()
    result = in_processes(
        partial(evaluate_in_process, root, tmp_path / "two"), tmp_path / "meeting"
    )
    assert result == [json.dumps([payload["queries"], payload["results"]])] * SIZE
    one, two = ((tmp_path / name / "queries.json").read_text() for name in ("one", "two"))
    assert one == two
    assert np.isfinite(payload["results"]["CC"]["mAP"])
