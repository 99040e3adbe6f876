"""Depth and normals from the cache are those computed from the frame."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ffreid import runner
from ffreid.pose import build, sources
from ffreid.recipes import compose

TOY = (
    "DATA.TOY.TRAIN 3 DATA.TOY.TEST 2 DATA.TOY.SYNTHETIC 2 DATA.TOY.HEIGHT 96 DATA.TOY.WIDTH 128 "
    "DATA.WORKERS 0 MODEL.POINTS 1024 TRAIN.BATCH 1 TRAIN.LENGTH 8 "
)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors(item)]
    return tensors(list(vars(value).values())) if hasattr(value, "__dict__") else []


@pytest.mark.parametrize("more", ["", "DATA.SHRINK 2 DATA.TOY.HEIGHT 192 DATA.TOY.WIDTH 256"])
def test_samples_are_the_same_with_the_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    cfg = compose("toy-pose", root=tmp_path, pairs=f"{TOY} {more}".split())

    def samples() -> list[Tensor]:
        source = sources.open_source(cfg)
        training = build.training_set(cfg, source)
        evaluation = build.evaluation_set(cfg, source, 0)
        found = [training[0, i] for i in range(8)] + [evaluation[i] for i in range(2)]
        return tensors(found)

    expected = samples()
    folder = runner.fill_cache(cfg)
    assert "0 entries are there, 5 to compute" in capsys.readouterr().err
    for one, other in zip(samples(), expected, strict=True):
        assert torch.equal(one, other)
    assert capsys.readouterr().err == f"cache: {folder}\n"


def test_a_frame_whose_files_have_changed_is_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose("toy-pose", root=tmp_path, pairs=TOY.split())
    runner.fill_cache(cfg)
    source = sources.open_source(cfg)
    first, second = source.reader.test_names
    for old, new in zip(source.reader.files(first), source.reader.files(second), strict=True):
        new.write_bytes(old.read_bytes())
    data = build.evaluation_set(cfg, source, 0)
    assert "1 of 5 entries" in capsys.readouterr().err
    same = [getattr(data[i], "inputs").rgb for i in range(2)]  # noqa: B009
    assert torch.equal(*same)
    known = source.opened["surfaces"]
    assert known is not None
    assert known.get(second, map(str, source.reader.files(second))) is None
    assert known.get(first, map(str, source.reader.files(first))) is not None
