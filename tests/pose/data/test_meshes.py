"""Mesh vertices: YCB-Video's points.xyz and LineMOD's .ply files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.errors import UserError
from ffreid.pose.data.meshes import read_linemod_mesh, read_ply, read_xyz_meshes
from ffreid.pose.objects import ycb_objects

OBJECTS = ycb_objects()
APE_MM = np.array(
    [[x, y, z] for x in (-37.9343, 37.9343) for y in (-38.7996, 38.7996) for z in (-45.885, 45.885)]
)
VERTICES = np.array([[-37.5, 0.25, 1], [38, 77.5, -40], [0, 1, 2]])
FACES = "element face 1\nproperty list uchar int vertex_indices\n"
XYZ = "property float x\nproperty float y\nproperty float z\n"


def header(form: str, properties: str, *, count: int = 3) -> bytes:
    text = f"ply\nformat {form} 1.0\ncomment test\nelement vertex {count}\n{properties}{FACES}"
    return f"{text}end_header\n".encode()


def ascii_ply(vertices: npt.NDArray[np.float64] = VERTICES) -> bytes:
    rows = "".join(f"{x} {y} {z} 200\n" for x, y, z in vertices)
    properties = XYZ + "property uchar red\n"
    return header("ascii", properties, count=len(vertices)) + rows.encode() + b"3 0 1 2\n"


def binary_ply() -> bytes:
    properties = "property uchar red\nproperty double z\nproperty float y\nproperty float x\n"
    record = np.dtype([("red", "u1"), ("z", "<f8"), ("y", "<f4"), ("x", "<f4")])
    rows = np.zeros(3, record)
    for axis, values in zip("xyz", VERTICES.T, strict=True):
        rows[axis] = values
    face = b"\x03" + np.array([0, 1, 2], "<i4").tobytes()
    return header("binary_little_endian", properties) + rows.tobytes() + face


@pytest.mark.parametrize(
    "content",
    [ascii_ply(), ascii_ply().replace(b"\n", b"\r\n"), binary_ply()],
    ids=["ascii", "ascii with CRLF", "binary"],
)
def test_vertices_are_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_ply(path), VERTICES)


def test_a_linemod_mesh_becomes_metres_and_must_be_in_millimetres(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    path = tmp_path / "models/obj_01.ply"
    path.write_bytes(ascii_ply(APE_MM))
    np.testing.assert_allclose(read_linemod_mesh(tmp_path, 1), APE_MM / 1000, rtol=1e-6)
    with pytest.raises(UserError, match=r"cannot read .*obj_05.ply"):
        read_linemod_mesh(tmp_path, 5)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"obj\nv 1 2 3\n", "is not a .ply file"),
        (b"ply\nformat ascii 1.0\n", "is not a .ply file"),
        (header("binary_big_endian", XYZ), "format 'binary_big_endian'"),
        (header("ascii", "property float x\n"), "properties x"),
        (header("ascii", XYZ), "cannot read"),
        (header("ascii", XYZ, count=0), "has no vertices"),
        (header("ascii", XYZ, count=9) + b"1 2 3\n4 5 6\n", "2 vertices instead of 9"),
        (header("ascii", XYZ) + b"1 2 3\n4 5\n6 7 8\n", "cannot read"),
        (header("ascii", XYZ) + b"1 2 3\n4 b 6\n6 7 8\n", "cannot read"),
        (header("binary_little_endian", XYZ) + b"\0" * 20, "cannot read"),
        (header("ascii", "property list uchar int n\n" + XYZ), "property of type 'list'"),
        (header("ascii", "", count=0).replace(b"vertex 0", b"edge 2"), "element 'edge' precedes"),
    ],
)
def test_an_invalid_ply_file_is_an_error(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    with pytest.raises(UserError, match=text) as raised:
        read_ply(path)
    assert "a.ply" in raised.value.message


def write_xyz(folder: Path, scale: float = 1.0) -> None:
    for row, name in enumerate(OBJECTS.names):
        path = folder / "models" / name / "points.xyz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, OBJECTS.corners[row] * scale)


def test_xyz_meshes_are_read_by_class_id_in_metres(tmp_path: Path) -> None:
    write_xyz(tmp_path)
    meshes = read_xyz_meshes(tmp_path, OBJECTS)
    assert list(meshes) == list(range(1, 22))
    np.testing.assert_allclose(meshes[5], OBJECTS.corners[4], rtol=1e-6)
    for scale, verb in ((1000.0, "divide"), (0.001, "multiply")):
        write_xyz(tmp_path, scale)
        with pytest.raises(UserError, match=r"points.xyz: the mesh is .* large") as raised:
            read_xyz_meshes(tmp_path, OBJECTS)
        assert raised.value.hint == f"{verb} the vertices by 1000 if their unit is not metres"


@pytest.mark.parametrize(
    ("change", "text", "hint"),
    [
        (
            lambda v: v * 3,
            "228 x 233 x 275, that of the keypoints is 75.9 x 77.6 x 91.8 milli",
            "dataset's own mesh, in milli",
        ),
        (lambda v: v / 10, "7.59 x 7.76 x 9.18, that", "dataset's own mesh, in milli"),
        (lambda v: v * 1.1, "83.5 x 85.4 x 101, that", "dataset's own mesh"),
        (lambda v: v[:, [2, 1, 0]], "91.8 x 77.6 x 75.9, that", "with the axes of the keypoints"),
        (lambda v: v * [1, 1, 0.8], "75.9 x 77.6 x 73.4, that", "dataset's own mesh"),
        (lambda v: v / 1000, "0.0759 x 0.0776 x 0.0918, that", "multiply the vertices by 1000"),
        (
            lambda v: v + np.eye(3)[2] * 60,
            "middle of the mesh is 60 millimetres",
            "another origin",
        ),
        (
            lambda v: v + 5,
            "middle of the mesh is 8.66 millimetres",
            "another origin",
        ),
        (lambda v: v + 1, None, ""),
        (lambda v: v * 1.02, None, ""),
    ],
)
def test_a_mesh_that_is_not_of_the_keypoints_is_refused(
    tmp_path: Path, change: Callable[[Any], Any], text: str | None, hint: str
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/obj_01.ply").write_bytes(ascii_ply(change(APE_MM)))
    if text is None:
        assert len(read_linemod_mesh(tmp_path, 1)) == 8
        return
    with pytest.raises(UserError, match=text) as raised:
        read_linemod_mesh(tmp_path, 1)
    assert hint in raised.value.hint


def test_a_missing_xyz_mesh_is_named_when_it_is_used(tmp_path: Path) -> None:
    write_xyz(tmp_path)
    (tmp_path / "models/003_cracker_box/points.xyz").unlink()
    meshes = read_xyz_meshes(tmp_path, OBJECTS)
    assert len(meshes) == 20
    assert len(meshes[1]) == 8
    with pytest.raises(UserError, match=r"no mesh vertices .*003_cracker_box/points.xyz"):
        _ = meshes[2]


@pytest.mark.parametrize("content", ["1 2\n3 4\n", "a b c\n", "1 2 nan\n"])
def test_an_invalid_xyz_mesh_is_named(tmp_path: Path, content: str) -> None:
    write_xyz(tmp_path)
    (tmp_path / "models" / OBJECTS.names[0] / "points.xyz").write_text(content)
    with pytest.raises(UserError, match=r"002_master_chef_can/points.xyz"):
        read_xyz_meshes(tmp_path, OBJECTS)
