"""``ffreid objects``: sets from meshes, and meshes that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("trimesh")

import trimesh as untyped

import ffreid
from ffreid.pose.object_set import make, mesh_files
from tests.commands import exit_code, mistake, quoted, read
from tests.pose.object_set.makers import BOX, textured_box, write_meshes
from tests.pose.stand_ins import drill

trimesh: Any = untyped


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_meshes(tmp_path_factory.mktemp("objects") / "meshes")


@pytest.fixture(scope="module")
def made(meshes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of the drill, the textured case and the box, by the command."""
    out = tmp_path_factory.mktemp("set") / "tools"
    files = " ".join(quoted(meshes[name]) for name in ("drill.ply", "case.obj", "box.stl"))
    assert exit_code(f"objects {files} --out {out} --json {out.parent / 'objects.json'}") == 0
    assert read(out / "objects.json") == read(out.parent / "objects.json")
    return out


def without_search(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(make, "find_symmetries", lambda surface, size: ([], [], surface.centroid()))
    patch.setattr(make, "draw_sheet", lambda *_: np.zeros((9, 9, 3), np.uint8))


def test_a_set_holds_metres_models_in_millimetres_and_a_sheet_of_each(made: Path) -> None:
    content, infos = read(made / "objects.json"), read(made / "models/models_info.json")
    drill_, case, box = content["objects"]
    assert [(o["number"], o["name"], o["unit"]) for o in content["objects"]] == [
        (1, "drill", "m"),
        (2, "case", "m"),
        (3, "box", "mm"),
    ]
    assert [o["colour"] for o in content["objects"]] == ["vertices", "texture", "none"]
    assert box["diameter"] == pytest.approx(np.linalg.norm(BOX) / 1000)
    assert np.ptp(np.array(box["corners"]), axis=0) == pytest.approx(np.array(BOX) / 1000)
    assert len(infos["3"].pop("symmetries_discrete")) == 3
    assert infos["3"]["size_x"] == pytest.approx(80)
    # Of the case's half turns its colours leave that about x, of the drill nothing is left.
    assert len(infos["2"]["symmetries_discrete"]) == 1
    assert case["symmetries"] == "180° about x"
    assert drill_["symmetries"] == "none"
    for entry in content["objects"]:
        name = f"obj_{entry['number']:06d}"
        points = np.array(entry["keypoints"])
        corners = np.array(entry["corners"])
        assert points.shape == (8, 3)
        assert (points >= corners.min(axis=0) - 1e-9).all()
        assert (points <= corners.max(axis=0) + 1e-9).all()
        sheet: Any = cv2.imread(str(made / f"{name}.png"))
        assert sheet.shape == (720, 720, 3)
        assert (sheet[:, :, 2] > 200).mean() < 1
        # The model, read again, is the same surface in millimetres.
        again = mesh_files.read_mesh_file(made / f"models/{name}.ply")
        assert again.unit == "mm"
        assert again.diameter == pytest.approx(entry["diameter"], rel=1e-5)
        assert len(again.surface.faces) == entry["faces"]
    texture = again_texture(made)
    assert texture.shape == (8, 64, 3)


def again_texture(made: Path) -> Any:
    surface: Any = mesh_files.read_mesh_file(made / "models/obj_000002.ply").surface
    original = textured_box()
    np.testing.assert_allclose(surface.uv, original.visual.uv, atol=1e-6)
    return surface.texture


def test_numbers_of_files_are_kept_and_the_api_makes_the_same(
    meshes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_search(monkeypatch)
    numbered = tmp_path / "obj_000001.stl"
    numbered.write_bytes(meshes["box.stl"].read_bytes())
    content = ffreid.make_objects(
        [meshes["case.glb"], numbered, meshes["drill.ply"]], tmp_path / "set", keypoints=12
    )
    assert [(o["number"], o["name"]) for o in content["objects"]] == [
        (1, "obj_000001"),
        (2, "case"),
        (3, "drill"),
    ]
    assert np.shape(content["objects"][0]["keypoints"]) == (12, 3)
    assert content["objects"][1]["colour"] == "texture"


def test_a_set_is_replaced_only_with_force(
    made: Path, meshes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_search(monkeypatch)
    command = f"objects {meshes['box.stl']} --out {tmp_path / 'set'}"
    assert exit_code(command) == 0
    assert exit_code(command) == 2
    assert exit_code(command.replace("box.stl", "drill.ply") + " --force") == 0
    assert [o["name"] for o in read(tmp_path / "set/objects.json")["objects"]] == ["drill"]


@pytest.mark.parametrize(
    ("scale", "unit", "expected"),
    [
        (1, None, "mm"),
        (0.001, None, "m"),
        (0.01, None, "m"),
        (0.05, None, "cannot be told"),
        (0.1, None, "cannot be told"),
        (0.0001, None, "m"),
        (100, None, "cannot be told"),
        (0.05, "mm", "mm"),
        (0.03, "m", "m"),
        (1, "m", "use --unit mm"),
        (1e-6, "m", "scale it"),
        (1, "cm", "unknown unit"),
    ],
)
def test_the_unit_is_found_or_asked_for(
    tmp_path: Path, scale: float, unit: str | None, expected: str
) -> None:
    path = tmp_path / "box.stl"
    trimesh.creation.box(np.array(BOX) * scale).export(path)
    try:
        if unit == "cm":
            make.make_objects([path], tmp_path / "set", unit=unit)
        found = mesh_files.read_mesh_file(path, unit).unit
    except ffreid.UserError as error:
        found = f"{error.message} {error.hint}"
    assert expected in found.split() or expected in found


def points_only(path: Path) -> None:
    trimesh.PointCloud(np.random.default_rng(0).random((20, 3))).export(path)


def with_nan(path: Path) -> None:
    mesh = trimesh.creation.box(BOX)
    vertices = np.array(mesh.vertices)
    vertices[3, 1] = np.nan
    trimesh.Trimesh(vertices, mesh.faces, process=False).export(path)


def flattened(scale: tuple[float, float, float]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        mesh = trimesh.creation.box(BOX)
        mesh.vertices *= scale
        mesh.export(path)

    return write


def edited(old: str, new: str) -> Callable[[Path], None]:
    """A box as text with a change."""

    def write(path: Path) -> None:
        content = trimesh.creation.box(BOX).export(file_type="ply", encoding="ascii")
        path.write_bytes(content.replace(old.encode(), new.encode()))

    return write


def moved(path: Path) -> None:
    trimesh.creation.box(BOX).apply_translation([1e6, 0, 0]).export(path)


def textured_in_16_bits(path: Path) -> None:
    textured_box().export(path)
    picture = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(picture).save(path.parent / "material_0.png")


@pytest.mark.parametrize(
    ("name", "write", "error", "hint"),
    [
        ("a.ply", edited("element face 12", "element face 99"), "12 of 99 faces", "export"),
        ("a.ply", edited("3 1 3 0", "3 1 3 70"), "a vertex that is not there", "export"),
        ("a.ply", moved, "its origin is", "move"),
        ("a.obj", textured_in_16_bits, "more than 8 bits", "8 bits"),
        ("a.obj", lambda path: path.touch(), "is empty", ".glb"),
        ("a.ply", points_only, "has no faces", "reconstruct"),
        ("a.ply", with_nan, "1 vertices are not finite, the first is number 4", "export"),
        ("a.ply", flattened((0, 0, 0)), "in one place", "mesh of an object"),
        ("a.ply", flattened((1, 0, 0)), "on one line", "mesh of an object"),
        ("a.ply", lambda path: path.write_bytes(b"ply\nformat"), "cannot read", ".glb"),
        ("a.obj", lambda path: path.write_bytes(b"\x00\xff" * 9), "a.obj", ""),
        ("a.glb", lambda path: path.write_bytes(b"glTF" * 9), "cannot read", ".glb"),
        ("a.stl", lambda path: path.write_bytes(b""), "a.stl", ""),
        ("a.fbx", lambda path: path.write_bytes(b"x"), ".fbx is not a known format", ".obj"),
        ("a.ply", Path.mkdir, "it is a folder", ".ply"),
        ("a.ply", lambda path: None, "no mesh", ".ply"),
        ("a.ply", lambda path: drill().export(path), " faces", "simplify"),
    ],
)
def test_meshes_that_cannot_be_used_are_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    write: Callable[[Path], Any],
    error: str,
    hint: str,
) -> None:
    if error == " faces":
        monkeypatch.setattr(mesh_files, "LARGEST_FACES", 50)
    write(tmp_path / name)
    found = mistake(capsys, f"objects {tmp_path / name} --out {tmp_path / 'set'}")
    assert error in found[0]
    assert hint in found[1]
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("{box} {box}", "two objects are named box"),
        ("{box} {copy}", "is the same mesh as"),
        ("{box} --keypoints 2", "2 keypoints"),
        ("{box} --out {meshes}", "holds something else"),
        ("{box} --out {box}", "is not a folder"),
        ("{box} --out {set}", "holds an object set"),
        ("{model} --out {set} --force", "is in the folder that --force replaces"),
        ("{one} {two}", "two files have the number 7"),
    ],
)
def test_sets_that_cannot_be_made_are_refused(
    made: Path,
    meshes: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    error: str,
) -> None:
    box = meshes["box.stl"]
    names = {"box": box, "meshes": box.parent, "set": made}
    names["model"] = made / "models/obj_000001.ply"
    for name, file in (("copy", "copy.stl"), ("one", "obj_7.stl"), ("two", "obj_000007.stl")):
        names[name] = tmp_path / file
        names[name].write_bytes(box.read_bytes())
    before = (made / "objects.json").read_bytes()
    command = "objects " + arguments.format(**{k: quoted(v) for k, v in names.items()})
    command += "" if "--out" in command else f" --out {tmp_path / 'new'}"
    assert error in mistake(capsys, command)[0]
    assert (made / "objects.json").read_bytes() == before


def test_what_may_surprise_is_noted(tmp_path: Path) -> None:
    mesh = trimesh.creation.box(BOX)
    mesh.update_faces(np.arange(12) != 5)
    mesh.export(tmp_path / "open.stl")
    (note,) = mesh_files.read_mesh_file(tmp_path / "open.stl").notes
    assert "3 edges of only one face" in note
    # A vertex that no face uses is left out.
    trimesh.Trimesh([*mesh.vertices, [9e3] * 3], mesh.faces, process=False).export(
        tmp_path / "unused.ply"
    )
    assert mesh_files.read_mesh_file(tmp_path / "unused.ply").unit == "mm"
    # Quads are triangulated; a texture whose image is missing is one colour.
    corners = [[x, y, z] for x in (0, 50) for y in (0, 50) for z in (0, 50)]
    quads = ["1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4"]
    lines = [f"v {x} {y} {z}" for x, y, z in corners] + [f"f {quad}" for quad in quads]
    (tmp_path / "quads.obj").write_text("\n".join(lines))
    file = mesh_files.read_mesh_file(tmp_path / "quads.obj")
    assert len(file.surface.faces) == 12
    assert file.notes == ()
    textured_box().export(tmp_path / "case.obj")
    (tmp_path / "material_0.png").unlink()
    (note,) = mesh_files.read_mesh_file(tmp_path / "case.obj").notes
    assert "image of its texture is not there" in note


def test_several_parts_of_a_scene_share_one_texture(tmp_path: Path) -> None:
    plain = trimesh.creation.box(np.array(BOX) / 1000)
    plain.apply_translation([0, 0, 0.04])
    plain.visual.vertex_colors = np.tile([20, 200, 30, 255], (8, 1))
    trimesh.Scene([textured_box(), plain]).export(tmp_path / "two.glb")
    surface = mesh_files.read_mesh_file(tmp_path / "two.glb").surface
    corners = surface.vertices[surface.faces]
    middle = np.full((len(corners), 3), 1 / 3)
    colours = surface.colours_at(np.arange(len(corners)), middle)
    assert colours is not None
    upper = corners[:, :, 2].max(axis=1) > 0.021
    assert (colours[upper] == [20, 200, 30]).all()
    left = (corners[:, :, 2].min(axis=1) < 0.019) & (corners.mean(axis=1)[:, 0] < -0.005)
    assert (np.abs(colours[left].astype(int) - [200, 30, 40]) < 3).all()


def test_the_package_for_meshes_is_named(
    meshes: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trimesh", None)
    _, hint = mistake(capsys, f"objects {meshes['box.stl']} --out {tmp_path / 'set'}")
    assert "ffreid[bop]" in hint


def test_written_sets_are_plain_json(made: Path) -> None:
    assert json.loads((made / "objects.json").read_text())["version"] == 1
