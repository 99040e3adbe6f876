"""Pictures from the cache are those of the files, in every use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from yacs.config import CfgNode

from ffreid import runner
from ffreid.engine.cache import FOLDER
from ffreid.engine.checkpoints import io
from ffreid.recipes import compose
from ffreid.reid import build, sources
from ffreid.reid.data.readers import READERS
from ffreid.reid.data.records import Source
from tests.commands import exit_code, mistake
from tests.reid import dataset_trees
from tests.reid.command_line import SETTINGS, make_toy_data, use_tiny
from tests.reid.data.synthetic_records import load_epoch, truncate
from tests.states import differences


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch)


def configuration(root: Path, more: str = "", dataset: str = "toy-reid") -> CfgNode:
    pairs = f"{SETTINGS} {more}".split()
    return compose(dataset, root=root, output=root / "runs", tag="test", pairs=pairs)


def make_data(root: Path, dataset: str = "toy-reid") -> Path:
    """Toy data whose pictures have another size than the network's."""
    folder = make_toy_data(root, dataset)
    for number, path in enumerate(sorted(folder.rglob("*.[jp][pn]g"))):
        with Image.open(path) as image:
            image.resize((23 + number % 3, 41)).save(path)
    return folder


def samples(cfg: CfgNode, source: Source | None = None) -> list[Any]:
    """Pixels and boxes of two epochs of training, and the pixels of queries."""
    source = source or sources.open_source(cfg)
    data = build.training_set(cfg, source)
    drawn = [sample for epoch in range(2) for sample in load_epoch(data, epoch)]
    evaluation = build.evaluation_set(cfg, source.test.query, source)
    if source.video:
        evaluation.records = tuple(r for r in source.test.query if len(r.frames) < 9)
    items: list[Any] = [evaluation[index] for index in range(len(evaluation))]
    return [(sample.pixels.tolist(), sample.box) for sample in drawn] + [
        (getattr(item, "reason", None) or item.pixels.tolist(), None) for item in items
    ]


@pytest.mark.parametrize("decode", ["fast", "pil"])
@pytest.mark.parametrize("dataset", ["toy-reid", "toy-reid-video"])
def test_samples_are_the_same_with_the_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, decode: str
) -> None:
    make_data(tmp_path, dataset)
    cfg = configuration(tmp_path, f"DATA.DECODE {decode}", dataset)
    expected = samples(cfg)
    folder = runner.fill_cache(cfg)
    capsys.readouterr()
    source = sources.open_source(cfg)
    assert samples(cfg, source) == expected
    assert capsys.readouterr().err == f"cache: {folder}\n"
    assert samples(configuration(tmp_path, f"DATA.DECODE {decode} DATA.CACHE none", dataset)) == (
        expected
    )
    # They do come from there.
    (cache,) = source.opened.values()
    assert cache is not None
    for frame in source.train[0].frames:
        arrays = cache.get(frame, [f"{source.folder}/{frame}"])
        assert arrays is not None
        assert arrays[0].shape == (32, 16, 3)
    other = "pil" if decode == "fast" else "fast"
    samples(configuration(tmp_path, f"DATA.DECODE {other}", dataset))
    assert "have other settings: ffreid data cache" in capsys.readouterr().err


def test_changed_pictures_are_read_from_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_data(tmp_path)
    cfg = configuration(tmp_path)
    runner.fill_cache(cfg)
    source = sources.open_source(cfg)
    path = folder / source.test.query[0].frames[0]
    Image.new("RGB", (5, 9), "red").save(path)
    capsys.readouterr()
    found = build.evaluation_set(cfg, source.test.query, source)[0]
    assert "1 of 40 entries, e.g. query/" in capsys.readouterr().err
    np.testing.assert_array_equal(getattr(found, "pixels")[0, 0], [255, 0, 0])  # noqa: B009


def test_unreadable_pictures_are_skipped_as_without_the_cache(tmp_path: Path) -> None:
    folder = make_data(tmp_path)
    cfg = configuration(tmp_path, "DATA.SKIP_BROKEN True")
    source = sources.open_source(cfg)
    for record in (source.train[0], source.test.query[1]):
        truncate(folder / record.frames[0])
    expected = samples(cfg)
    assert any(isinstance(pixels, str) for pixels, _ in expected)
    runner.fill_cache(cfg)
    assert samples(cfg) == expected


def test_a_run_that_gets_a_cache_ends_as_if_it_had_none(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    last = []
    for name in ("plain", "cached"):
        cfg = compose(
            "toy-reid",
            root=tmp_path / "data",
            output=tmp_path / name,
            pairs=SETTINGS.split(),
        )
        if name == "cached":
            runner.train(cfg, stop_at=2)
            runner.fill_cache(cfg)
        folder = runner.train(cfg, resume="auto" if name == "cached" else None)
        last.append(io.load(folder / "last.pth"))
    parts = [state["parts"] for state in last]
    assert not differences(dict(parts[0]["net"]), dict(parts[1]["net"]))


@pytest.mark.parametrize("name", READERS)
def test_a_cache_beside_the_data_does_not_change_them(name: str, tmp_path: Path) -> None:
    source = READERS[name](dataset_trees.build(name, tmp_path))
    (source.folder / FOLDER / "x").mkdir(parents=True)
    (source.folder / FOLDER / "x" / "arrays.bin").write_bytes(b"?")
    assert READERS[name](tmp_path) == source


def test_the_command_fills_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = f"data cache --dataset toy-reid --root {tmp_path} {SETTINGS}"
    assert exit_code(f"{flags} --out {tmp_path}/kept") == 0
    err = capsys.readouterr().err
    assert "0 entries are there, 40 to compute, 0.00 GB" in err
    assert f"where the settings are the same, with DATA.CACHE {tmp_path}/kept" in err
    assert list((tmp_path / "kept").glob("toy-reid-*/index.jsonl"))
    for more, error in (
        ("--rerank", "no such option: --rerank"),
        ("DATA.CACHE none", "DATA.CACHE none uses no cache"),
        ("DATA.DECODE png", "DATA.DECODE is 'png'"),
    ):
        assert mistake(capsys, f"{flags} {more}")[0] == error
