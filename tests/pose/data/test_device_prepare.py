"""Samples prepared as tensors on the batch's device, against those prepared in the workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffreid.pose import build, sources
from ffreid.pose.data.batch import (
    LEVELS,
    Inputs,
    PoseBatch,
    Sample,
    collate,
    collate_for_evaluation,
)
from ffreid.pose.data.depth import back_project, normals_from_depth
from ffreid.pose.data.device_prepare import nearest, normal_maps, point_maps, pyramid
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.pyramid import build_pyramid
from ffreid.pose.data.sample import make_sample
from ffreid.recipes import compose
from tests.makers import linemod_folder, toy_folder
from tests.pose.data.pyramid_distances import pyramid_distances
from tests.pose.data.test_pyramid import scene
from tests.pose.data.test_sample import OBJECTS, frame

CPU = torch.device("cpu")


def both(frames: list[Frame], **options: Any) -> tuple[Inputs, Inputs]:
    """The inputs of a batch, prepared in the workers and on the device."""
    batches = []
    for on_device in (False, True):
        samples = [
            make_sample(
                of,
                OBJECTS,
                points=1024,
                rng=np.random.RandomState(i),
                on_device=on_device,
                **options,
            )
            for i, of in enumerate(frames)
        ]
        batches.append(collate([s for s in samples if isinstance(s, Sample)]).to(CPU))
    for name, value in vars(batches[0].targets).items():
        torch.testing.assert_close(getattr(batches[1].targets, name), value, atol=0, rtol=0)
    return batches[0].inputs, batches[1].inputs


@pytest.mark.parametrize("fill_holes", [True, False])
@pytest.mark.parametrize(("height", "width"), [(64, 72), (57, 65)])
def test_a_batch_is_that_of_the_workers(height: int, width: int, fill_holes: bool) -> None:
    frames = [frame(height=height, width=width, valid=valid) for valid in (None, 3000)]
    frames[0].depth[::3, ::5] += 300
    expected, actual = both(frames, fill_holes=fill_holes)
    for name in ("rgb", "features", "choose"):
        torch.testing.assert_close(getattr(actual, name), getattr(expected, name), atol=0, rtol=0)
    for name in LEVELS:
        for ours, theirs in zip(getattr(actual, name), getattr(expected, name), strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    point_map = np.zeros((expected.rgb.shape[2], expected.rgb.shape[3], 3), np.float32)
    for i, of in enumerate(frames if not fill_holes else []):
        metres = np.trunc(of.depth / np.float32(of.depth_scale / 1000)) / np.float32(1000)
        point_map[:height, :width] = back_project(metres.astype(np.float32), of.intrinsics)
        cloud = expected.features[i, :3].T.numpy().copy()
        distances = []
        for inputs in (expected, actual):
            levels = {name: [t[i] for t in getattr(inputs, name)] for name in LEVELS}
            distances.append(pyramid_distances(type("Levels", (), levels), cloud, point_map))
        for name in LEVELS:
            for ours, theirs in zip(distances[1][name], distances[0][name], strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("empty", [0.0, 0.3])
def test_neighbours_are_those_of_the_trees(empty: float) -> None:
    cloud, point_map = scene(empty)
    expected = vars(build_pyramid(cloud, point_map))
    actual = pyramid(torch.from_numpy(cloud), torch.from_numpy(point_map))
    assert list(actual) == list(expected)
    for name, levels in expected.items():
        for ours, theirs in zip(actual[name], levels, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs)


def test_missing_neighbours_are_zero() -> None:
    rows = nearest(torch.rand(5, 3), torch.rand(4, 3), 16)
    assert rows.shape == (5, 16)
    assert not rows[:, 4:].any()
    assert sorted(rows[0, :4].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("shape", [(40, 56), (12, 12), (11, 40)])
def test_points_and_normals_are_bit_for_bit_those_of_the_workers(shape: tuple[int, int]) -> None:
    rng = np.random.RandomState(0)
    depth = (900 + np.arange(shape[1])[None] * 3 + rng.randint(0, 25, shape)).astype(np.uint16)
    depth[rng.rand(*shape) < 0.1] = 0
    depth[:, 30:] *= 2
    camera = np.array([[572.4114, 0, 28.3], [0, 573.57043, 19.7], [0, 0, 1]])
    millimetres = torch.from_numpy(depth.astype(np.int32))[None]
    normals = normal_maps(millimetres, torch.from_numpy(camera)[None])[0].numpy()
    np.testing.assert_array_equal(normals, normals_from_depth(depth, camera[0, 0], camera[1, 1]))
    metres = depth.astype(np.float32) / np.float32(1000)
    metres[0, :4] = [np.nan, np.inf, -0.4, 1e-9]
    points = point_maps(torch.from_numpy(metres)[None], torch.from_numpy(camera)[None])[0]
    np.testing.assert_array_equal(points.numpy(), back_project(metres, camera))


@pytest.mark.parametrize("dataset", ["toy-pose", "linemod"])
def test_training_and_evaluation_follow_the_setting(dataset: str, tmp_path: Path) -> None:
    root = toy_folder(tmp_path) if dataset == "toy-pose" else linemod_folder(tmp_path)
    batches: dict[str, list[PoseBatch]] = {"workers": [], "device": []}
    for prepare, found in batches.items():
        pairs = ["DATA.PREPARE", prepare, "MODEL.POINTS", "1024"]
        pairs += ["DATA.TOY.HEIGHT", "96", "DATA.TOY.WIDTH", "128"]
        pairs += ["DATA.TOY.TRAIN", "4", "DATA.TOY.TEST", "2", "DATA.TOY.SYNTHETIC", "2"]
        cls = "ape" if dataset == "linemod" else None
        cfg = compose(dataset, root=root, cls=cls, pairs=pairs)
        source = sources.open_source(cfg)
        found.append(collate([build.training_set(cfg, source)[0, 1]]))
        test, skipped = collate_for_evaluation([build.evaluation_set(cfg, source, 0)[1]])
        assert test is not None and not skipped
        found.append(test)
    for expected, raw in zip(batches["workers"], batches["device"], strict=True):
        assert not hasattr(raw.inputs, "features")
        actual = raw.to(CPU)
        assert actual.names == expected.names
        for name in ("rgb", "features", "choose"):
            ours, theirs = (getattr(b.to(CPU).inputs, name) for b in (raw, expected))
            torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
