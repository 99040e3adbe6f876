"""Features of pictures and tracklets, in one process and in two, with and without broken files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ffreid.engine.distributed.group import World
from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid import build
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.feature_extraction import RecordFeatures, compute_features, extract_features
from ffreid.reid.retrieval.protocols import GENERAL
from tests.engine.processes import SIZE, in_processes
from tests.reid.synthetic_features import Projection, TensorDataset, empty_source

CPU = torch.device("cpu")
CFG = compose("ltcc", pairs=["DATA.TEST_BATCH", "3", "DATA.NUM_WORKERS", "0"])
SPANS = torch.tensor([[0, 2], [2, 3], [3, 7]])


def images(count: int, *shape: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def weight() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(2))


def extracted(
    data: TensorDataset,
    spans: Tensor | None = None,
    *,
    rank: int = 0,
    size: int = 1,
    net: Projection | None = None,
) -> RecordFeatures:
    net = net or Projection(weight(), video=spans is not None)
    return compute_features(CFG, World(rank, size, CPU), data, net, spans)


def test_a_broken_picture_is_left_out() -> None:
    pictures = images(7, 1, 2, 3)
    found = extracted(TensorDataset(pictures, [0, 4]))
    assert found.kept.tolist() == [1, 2, 3, 5, 6]
    assert [item.path for item in found.broken] == ["0.png", "4.png"]
    assert torch.equal(found.features, extracted(TensorDataset(pictures)).features[found.kept])


def test_a_broken_clip_leaves_its_whole_tracklet_out() -> None:
    clips = images(7, 1, 5, 2, 3)
    found = extracted(TensorDataset(clips, [4]), SPANS)
    assert found.kept.tolist() == [0, 1]
    assert torch.equal(found.features, extracted(TensorDataset(clips), SPANS).features[:2])


def test_nothing_readable_is_an_error_that_names_a_file() -> None:
    with pytest.raises(UserError, match=r"0\.png: is damaged"):
        extracted(TensorDataset(images(2, 1, 2, 3), [0, 1]))


def test_the_network_is_in_evaluation_mode_meanwhile() -> None:
    class Watched(Projection):
        def forward(self, pictures: Tensor) -> Tensor:
            assert not self.training and not self.inner.training
            assert torch.is_inference_mode_enabled()
            return super().forward(pictures)

    net = Watched(weight()).train()
    net.inner.eval()
    extracted(TensorDataset(images(2, 1, 2, 3)), net=net)
    assert (net.training, net.inner.training) == (True, False)


def shared(rank: int, size: int = SIZE) -> list[Tensor]:
    """Features of an odd number of images, of one, and of clips, some unreadable."""
    runs = [
        extracted(TensorDataset(images(7, 1, 2, 3)), rank=rank, size=size),
        extracted(TensorDataset(images(1, 1, 2, 3)), rank=rank, size=size),
        extracted(TensorDataset(images(5, 1, 2, 3), [1, 3]), rank=rank, size=size),
        extracted(TensorDataset(images(7, 1, 5, 2, 3), [4]), SPANS, rank=rank, size=size),
    ]
    return [tensor for run in runs for tensor in (run.features, run.kept)]


def test_two_processes_give_every_item_once_and_in_order(tmp_path: Path) -> None:
    expected = shared(0, 1)
    for found in in_processes(shared, tmp_path):
        torch.testing.assert_close(found, expected)


def single_shot_source() -> Source:
    """Two queries and four gallery pictures, with two small galleries of two each."""
    rows = [Record((f"{i}.png",), i % 2, i, 0) for i in range(6)]
    search = EvalSplit(query=tuple(rows[:2]), gallery=tuple(rows[2:]), protocols=(GENERAL,))
    return empty_source(
        search,
        val=replace(search, query=search.query[:1]),
        columns=("camera",),
        single_shot=((0, 1), (2, 3)),
    )


@pytest.mark.parametrize(
    ("broken", "queries", "galleries"),
    [([], 2, ((0, 1), (2, 3))), ([3], 2, ((0,), (1, 2))), ([0, 2], 1, ((0,), (1, 2)))],
)
def test_small_galleries_follow_what_is_left_of_the_gallery(
    monkeypatch: pytest.MonkeyPatch,
    broken: list[int],
    queries: int,
    galleries: tuple[tuple[int, ...], ...],
) -> None:
    held = TensorDataset(images(6, 1, 2, 3), broken)
    monkeypatch.setattr(build, "evaluation_set", lambda *_: held)
    source = single_shot_source()
    net, alone = Projection(weight()), World(0, 1, CPU)
    found = extract_features(CFG, alone, source, net, source.test, "w.pth")
    assert (len(found.query), found.single_shot) == (queries, galleries)
    assert (found.columns, found.weights) == (("camera",), "w.pth")
    assert len(found.gallery) == sum(map(len, galleries))
    kept = [f"{index}.png" for index in range(6) if index not in broken]
    assert [*found.query.paths, *found.gallery.paths] == kept


def test_the_validation_split_has_no_small_galleries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "evaluation_set", lambda *_: TensorDataset(images(5, 1, 2, 3)))
    source = single_shot_source()
    assert source.val is not None
    found = extract_features(CFG, World(0, 1, CPU), source, Projection(weight()), source.val, "")
    assert (len(found.query), found.single_shot) == (1, ())
