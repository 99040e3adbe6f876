"""Features of images and tracklets, in one process and in two, with and without broken files."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ffreid.engine.distributed.group import World
from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid import build
from ffreid.reid.data.records import EvalSplit, Record
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


def test_an_unreadable_image_is_skipped() -> None:
    data = images(7, 1, 2, 3)
    result = extracted(TensorDataset(data, [0, 4]))
    assert result.kept.tolist() == [1, 2, 3, 5, 6]
    assert [item.path for item in result.broken] == ["0.png", "4.png"]
    assert torch.equal(result.features, extracted(TensorDataset(data)).features[result.kept])


def test_an_unreadable_clip_skips_its_tracklet() -> None:
    clips = images(7, 1, 5, 2, 3)
    result = extracted(TensorDataset(clips, [4]), SPANS)
    assert result.kept.tolist() == [0, 1]
    assert torch.equal(result.features, extracted(TensorDataset(clips), SPANS).features[:2])


def test_without_readable_files_the_error_gives_the_first_path() -> None:
    with pytest.raises(UserError, match=r"0\.png: is damaged"):
        extracted(TensorDataset(images(2, 1, 2, 3), [0, 1]))


def test_the_network_is_evaluated_in_eval_mode_which_is_restored() -> None:
    class CheckedProjection(Projection):
        def forward(self, images: Tensor) -> Tensor:
            assert not self.training and not self.inner.training
            assert torch.is_inference_mode_enabled()
            return super().forward(images)

    net = CheckedProjection(weight()).train()
    net.inner.eval()
    extracted(TensorDataset(images(2, 1, 2, 3)), net=net)
    assert (net.training, net.inner.training) == (True, False)


def features_of_process(rank: int, size: int = SIZE) -> list[Tensor]:
    """Features of an odd number of images, of one, and of clips, some unreadable."""
    runs = [
        extracted(TensorDataset(images(7, 1, 2, 3)), rank=rank, size=size),
        extracted(TensorDataset(images(1, 1, 2, 3)), rank=rank, size=size),
        extracted(TensorDataset(images(5, 1, 2, 3), [1, 3]), rank=rank, size=size),
        extracted(TensorDataset(images(7, 1, 5, 2, 3), [4]), SPANS, rank=rank, size=size),
    ]
    return [tensor for run in runs for tensor in (run.features, run.kept)]


def test_two_processes_return_every_item_once_and_in_order(tmp_path: Path) -> None:
    expected = features_of_process(0, 1)
    for result in in_processes(features_of_process, tmp_path):
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    ("broken", "queries", "galleries"),
    [([], 2, ((0, 1), (2, 3))), ([3], 2, ((0,), (1, 2))), ([0, 2], 1, ((0,), (1, 2)))],
)
def test_single_shot_galleries_omit_unreadable_images(
    monkeypatch: pytest.MonkeyPatch,
    broken: list[int],
    queries: int,
    galleries: tuple[tuple[int, ...], ...],
) -> None:
    dataset = TensorDataset(images(6, 1, 2, 3), broken)
    monkeypatch.setattr(build, "evaluation_set", lambda *_: dataset)
    rows = [Record((f"{i}.png",), i % 2, i, 0) for i in range(6)]
    split = EvalSplit(query=tuple(rows[:2]), gallery=tuple(rows[2:]), protocols=(GENERAL,))
    source = empty_source(split, columns=("camera",), single_shot=((0, 1), (2, 3)))
    net, world = Projection(weight()), World(0, 1, CPU)
    result = extract_features(CFG, world, source, net, source.test, "w.pth")
    assert (len(result.query), result.single_shot) == (queries, galleries)
    assert (result.columns, result.weights) == (("camera",), "w.pth")
    assert len(result.gallery) == sum(map(len, galleries))
    paths = [f"{index}.png" for index in range(6) if index not in broken]
    assert [*result.query.paths, *result.gallery.paths] == paths
