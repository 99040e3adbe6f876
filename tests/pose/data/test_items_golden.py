"""Complete samples, from the files on disk to the tensors, as recorded from the original."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.pose.data.augment import augment_synthetic
from ffreid.pose.data.batch import Sample
from ffreid.pose.data.depth import back_project, fill_missing
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.linemod import LinemodReader
from ffreid.pose.data.sample import make_sample
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.objects import linemod_objects, ycb_objects
from tests.golden import arrays, facts, recordings
from tests.pose.data.makers_data import (
    gt_entry,
    write_linemod_frame,
    write_linemod_lists,
    write_pickle,
    write_ycb_frame,
    write_ycb_lists,
)
from tests.pose.data.pyramid_distances import distances, search_points

pytestmark = pytest.mark.golden

ITEMS = recordings("ffb6d", "*_item_*.npz")
FIELDS = {
    "neighbours": ("out_cld_nei_idx", "nei"),
    "nearest_kept": ("out_cld_interp_idx", "interp"),
    "pixels_down": ("out_r2p_ds_nei_idx", "r2p_ds"),
    "points_down": ("out_p2r_ds_nei_idx", "p2r_ds"),
    "pixels_up": ("out_r2p_up_nei_idx", "r2p_up"),
    "points_up": ("out_p2r_up_nei_idx", "p2r_up"),
}

Made = tuple[dict[str, npt.NDArray[Any]], Any, Frame, Sample]


def thinned(full: npt.NDArray[Any], stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Select the rows, columns … of `full` that were stored."""
    assert full.ndim == stored.ndim
    for axis, (size, stored_size) in enumerate(zip(full.shape, stored.shape, strict=True)):
        step = next(s for s in range(1, size + 1) if -(-size // s) == stored_size)
        full = full[(slice(None),) * axis + (slice(None, None, step),)]
    return full


def part(item: dict[str, npt.NDArray[Any]], prefix: str, *names: str) -> dict[str, Any]:
    return {name: item[f"{prefix}_{name}"] for name in names}


def make_ycb(folder: Path, item: dict[str, npt.NDArray[Any]], fact: Any) -> tuple[Frame, Any, Any]:
    names = ("color", "depth", "label", "poses", "cls_indexes")
    name, real = fact["item_name"], fact.get("real_item")
    write_ycb_frame(folder, name, **part(item, "in", *names))
    write_ycb_lists(folder, [name], [name])
    if real:
        write_ycb_frame(folder, real, **part(item, "real", *names))
        write_ycb_lists(folder, [name, real], [name])
    reader = YcbReader(folder, ycb_objects())
    return reader.read(name), reader, ycb_objects()


def make_linemod(
    folder: Path, item: dict[str, npt.NDArray[Any]], fact: Any
) -> tuple[Frame, Any, Any]:
    number, stem = fact["obj_id"], fact["item_name"]
    home = folder / "data" / f"{number:02d}"
    prefix = "real" if "rnd_typ" in fact else "in"
    images = part(item, prefix, "rgb", "depth", "mask")
    write_linemod_frame(home, stem, **images)
    write_linemod_lists(home, [stem], [stem])
    entry = gt_entry(item[f"{prefix}_R"], item[f"{prefix}_t_m"], number)
    other = gt_entry(np.eye(3), np.array([0.1, 0.2, 0.9]), number + 1)
    entries = other + entry + other if fact["multi_gt"] else entry
    (home / "gt.yml").write_text(f"{int(stem)}:\n{entries}")
    name = f"data/{number:02d}/{stem}"
    if "rnd_typ" in fact:
        kind = {"render": "renders", "fuse": "fuse"}[fact["rnd_typ"]]
        name = f"{kind}/{fact['cls']}/0.pkl"
        content = {
            "rgb": item["in_rgb"],
            "depth": item["in_depth_m"],
            "mask": item["in_mask"],
            "K": item["in_K"],
            "RT": item["in_RT"],
            "cls_typ": fact["cls"],
            "rnd_typ": fact["rnd_typ"],
        }
        write_pickle(folder / name, content)
    objects = linemod_objects(fact["cls"])
    reader = LinemodReader(folder, objects)
    return reader.read(name), reader, objects


@pytest.fixture(scope="module", params=ITEMS)
def recorded_item(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    item, fact = arrays("ffb6d", request.param), facts("ffb6d", request.param)
    write = {"ycb": make_ycb, "linemod": make_linemod}[fact["dataset"]]
    frame, reader, objects = write(tmp_path_factory.mktemp("item"), item, fact)
    rng = np.random.RandomState(fact["np_random_seed"])
    if frame.synthetic and fact["mode"] == "train":
        frame = augment_synthetic(
            frame, lambda r: reader.read(reader.draw_real(r)), rng, policy=reader.policy
        )
    sample = make_sample(
        frame, objects, points=fact["n_points"], rng=rng, fill_holes=reader.fill_holes
    )
    assert isinstance(sample, Sample)
    return item, fact, frame, sample


def test_inputs_are_as_recorded(recorded_item: Made) -> None:
    item, fact, frame, sample = recorded_item
    np.testing.assert_allclose(frame.intrinsics, fact["K"], rtol=1e-12)
    np.testing.assert_array_equal(sample.inputs.choose, item["out_choose"][0])
    rgb, recorded = sample.inputs.rgb.numpy(), fact["checksums"]["rgb"]
    assert rgb.astype(float).sum() == recorded["sum"]
    np.testing.assert_allclose(np.linalg.norm(rgb.astype(float)), recorded["l2"], rtol=1e-12)
    if "out_rgb" in item:
        np.testing.assert_array_equal(rgb, item["out_rgb"])
    features, stored = sample.inputs.features.numpy(), item["out_cld_rgb_nrm"]
    np.testing.assert_allclose(thinned(features, stored), stored, atol=1e-6)
    norm = fact["checksums"]["cld_rgb_nrm"]["l2"]
    np.testing.assert_allclose(np.linalg.norm(features.astype(float)), norm, rtol=1e-7)
    if "mid_depth_filled" in item:
        filled, stored = fill_missing(frame.depth, frame.depth_scale), item["mid_depth_filled"]
        np.testing.assert_allclose(thinned(filled, stored), stored, atol=1e-2)


def test_targets_and_ground_truth_are_as_recorded(recorded_item: Made) -> None:
    item, _, _, sample = recorded_item
    targets = sample.targets
    np.testing.assert_array_equal(targets.labels, item["out_labels"])
    for actual, key in (
        (targets.keypoint_offsets, "out_kp_targ_ofst"),
        (targets.centre_offsets, "out_ctr_targ_ofst"),
    ):
        np.testing.assert_allclose(thinned(actual.numpy(), item[key]), item[key], atol=1e-6)
    gt = sample.gt
    ids = item["out_cls_ids"][:, 0]
    count = int((ids > 0).sum())
    np.testing.assert_array_equal(gt.class_ids, ids[:count])
    np.testing.assert_allclose(gt.camera_from_object, item["out_RTs"][:count], atol=1e-6)
    np.testing.assert_allclose(gt.keypoints_camera, item["out_kp_3ds"][:count], atol=1e-6)
    np.testing.assert_allclose(gt.centres_camera, item["out_ctr_3ds"][:count], atol=1e-6)


@pytest.mark.parametrize("field", FIELDS)
def test_neighbours_are_as_far_as_recorded(recorded_item: Made, field: str) -> None:
    item, fact, frame, sample = recorded_item
    prefix, short = FIELDS[field]
    cloud = sample.inputs.features[:3].numpy().T.copy()
    if fact["dataset"] == "ycb":
        depth = fill_missing(frame.depth, frame.depth_scale) / np.float32(frame.depth_scale)
    else:
        depth = np.trunc(frame.depth) / np.float32(1000)
    point_map = back_project(depth, frame.intrinsics)
    questions = search_points(cloud, point_map)[field]
    for level, (queries, support) in enumerate(questions):
        actual = distances(queries, support, getattr(sample.inputs, field)[level].numpy())
        recorded = fact["knn_sum_sq_dist"][f"{short}{level}"]
        np.testing.assert_allclose((actual**2).sum(), recorded, rtol=2e-6, atol=1e-9)
        stored = item[f"{prefix}{level}"].astype(int)
        stored_rows = thinned(actual, stored)
        step = next(
            s for s in range(1, len(actual) + 1) if -(-len(actual) // s) == len(stored_rows)
        )
        expected = distances(queries[::step], support, stored)
        np.testing.assert_allclose(stored_rows, expected, atol=1e-6)
