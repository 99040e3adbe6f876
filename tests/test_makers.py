"""The made-up LineMOD data: pictures, masks, meshes and poses agree."""

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from ffreid.pose.toy.render import pixel_rays
from ffreid.pose.toy.shapes import Floats
from tests.makers import LINEMOD_CAMERA, ape, linemod_folder


@pytest.fixture(scope="module")
def linemod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linemod_folder(tmp_path_factory.mktemp("made"), renders=2, fused=2)


def off_the_ape(
    depth: npt.NDArray[Any], mask: npt.NDArray[Any], camera: Floats, pose: Floats
) -> Floats:
    """How far each measured pixel of the mask lies off the ape along its ray, in depths."""
    rays = pixel_rays(camera, *depth.shape)[mask & (depth > 0)]
    measured = depth[mask & (depth > 0)]
    met = ape().shape.intersect(-pose[:, :3].T @ pose[:, 3], rays @ pose[:, :3])
    off: Floats = met - measured
    return off


def test_frames_show_the_ape_at_its_listed_pose(linemod: Path) -> None:
    sequence = linemod / "data/01"
    truth = yaml.safe_load((sequence / "gt.yml").read_text())
    info = yaml.safe_load((sequence / "info.yml").read_text())
    names = (sequence / "train.txt").read_text().split()
    names += (sequence / "test.txt").read_text().split()
    assert names == ["0000", "0001", "0002", "0003", "0004"]
    for name in names:
        mask = cv2.imread(str(sequence / f"mask/{name}.png"), cv2.IMREAD_UNCHANGED)
        depth = cv2.imread(str(sequence / f"depth/{name}.png"), cv2.IMREAD_UNCHANGED)
        assert mask is not None and depth is not None
        assert mask.shape == (96, 128, 3)
        assert depth.dtype == np.uint16
        entry = truth[int(name)][0]
        assert info[int(name)]["cam_K"] == LINEMOD_CAMERA.ravel().tolist()
        turn = np.reshape(entry["cam_R_m2c"], (3, 3))
        pose = np.column_stack([turn, np.array(entry["cam_t_m2c"]) / 1000])
        off = off_the_ape(depth / 1000, mask[..., 0] > 0, LINEMOD_CAMERA, pose)
        assert len(off) > 100
        assert np.median(np.abs(off)) < 0.002


@pytest.mark.parametrize("kind", ["renders", "fuse"])
def test_pickles_show_the_ape_at_their_pose(linemod: Path, kind: str) -> None:
    files = sorted((linemod / kind / "ape").glob("*.pkl"))
    assert len(files) == 2
    for path in files:
        item = pickle.loads(path.read_bytes())
        assert item["rgb"].dtype == np.uint8
        assert item["depth"].dtype == np.float32
        assert item["rnd_typ"] == {"renders": "render", "fuse": "fuse"}[kind]
        mask = item["mask"] > 0 if kind == "renders" else item["mask"] == 1
        off = off_the_ape(item["depth"], mask, item["K"], item["RT"].astype(np.float64))
        assert len(off) > 100
        assert np.median(np.abs(off)) < 0.002


def test_the_mesh_is_the_ape_in_millimetres(linemod: Path) -> None:
    lines = (linemod / "models/obj_01.ply").read_text().splitlines()
    count = int(lines[3].split()[-1])
    first = lines.index("end_header") + 1
    vertices = np.array([line.split()[:3] for line in lines[first : first + count]], float)
    assert count >= 600
    assert len(np.unique(vertices, axis=0)) == count
    np.testing.assert_allclose(
        ((vertices / 1000 / ape().shape.half_extents) ** 2).sum(axis=1), 1, atol=1e-4
    )
    faces = np.array([line.split() for line in lines[first + count :]], int)
    assert (faces[:, 0] == 3).all()
    a, b, c = (vertices[faces[:, column]] for column in (1, 2, 3))
    # Seen from outside, every face turns the same way round.
    assert ((np.cross(b - a, c - a) * (a + b + c)).sum(axis=1) > 0).all()
