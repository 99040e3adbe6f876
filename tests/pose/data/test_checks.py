"""What is told about a few frames of a dataset: labels, cameras, points that miss their objects."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.pose.data import checks
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.linemod import LinemodReader
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.objects import linemod_objects
from ffreid.pose.toy.dataset import toy_object_models
from tests.makers import toy_folder
from tests.pose.realdata import real_folder

Pose = npt.NDArray[np.float64]
OBJECTS = toy_object_models("toy-pose")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> YcbReader:
    folder = toy_folder(tmp_path_factory.mktemp("toy"), frames=4, test_frames=4)
    return YcbReader(folder, OBJECTS, intrinsics="meta")


@pytest.fixture(scope="module")
def frames(reader: YcbReader) -> list[Frame]:
    return [reader.read(name) for name in reader.test_names]


def posed(frame: Frame, change: Callable[[Pose], Pose]) -> Frame:
    poses = np.stack([change(pose.astype(np.float64)) for pose in frame.camera_from_object])
    return replace(frame, camera_from_object=poses.astype(np.float32))


def camera(frame: Frame, factor: float) -> Frame:
    return replace(frame, intrinsics=frame.intrinsics * np.array([[factor], [factor], [1]]))


def moved(scale: float = 1.0, shift: float = 0.0) -> Callable[[Frame], Frame]:
    def change(pose: Pose) -> Pose:
        return np.column_stack([pose[:, :3], pose[:, 3] * scale + shift])

    return lambda frame: posed(frame, change)


OTHERS = "that they are of the same frame"


def units(factor: str) -> str:
    return f"check the units: measured depth is {factor} times that of the poses"


def shifted(frame: Frame) -> Frame:
    return replace(frame, labels=np.roll(frame.labels, 40, axis=1))


MISTAKES: dict[str, tuple[Callable[[Frame], Frame], str]] = {
    "depth in another unit": (
        lambda f: replace(f, depth=f.depth * np.float32(0.1)),
        units("0.09.*"),
    ),
    "depth of another factor": (lambda f: replace(f, depth_scale=5000), units("1.9.*")),
    "poses in millimetres": (moved(scale=1000), units("0.0009.*")),
    "poses in centimetres": (moved(scale=100), units("0.009.*")),
    "objects moved": (moved(shift=0.05), OTHERS),
    "objects behind the camera": (
        moved(scale=-1),
        "poses lie behind the camera: are they inverted, or in OpenGL axes\\?",
    ),
    "labels of other pixels": (shifted, OTHERS),
    "half the camera": (lambda f: camera(f, 0.5), OTHERS),
    "twice the camera": (lambda f: camera(f, 2), OTHERS),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_points_that_miss_their_objects_are_told_with_class_and_distance(
    reader: YcbReader, frames: list[Frame], mistake: str
) -> None:
    change, told = MISTAKES[mistake]
    spoilt = {"test": [change(frame) for frame in frames]}
    note = checks.geometry_notes(spoilt, OBJECTS, reader.read_meshes())[0]
    assert re.search(f"{told}$", note)
    assert any(f"labelled points of {name} are " in note for name in OBJECTS.names)
    assert " m from its mesh at the true pose (median in " in note


def test_transposed_rotations_are_told(reader: YcbReader, frames: list[Frame]) -> None:
    spoilt = [posed(f, lambda p: np.column_stack([p[:, :3].T, p[:, 3]])) for f in frames]
    notes = checks.geometry_notes({"test": spoilt}, OBJECTS, reader.read_meshes())
    assert "the rotations are transposed (median 0.0" in notes[-1]


MESHES: dict[str, Callable[[Meshes], Meshes]] = {
    "as they are": lambda meshes: meshes,
    "boxes of 8 vertices": lambda meshes: {i: OBJECTS.corners[i - 1] for i in meshes},
    "not there": lambda meshes: {},
    "a flat one": lambda meshes: {**meshes, 1: meshes[1] * np.array([1, 1, 0], np.float32)},
}


@pytest.mark.parametrize("meshes", MESHES)
def test_nothing_is_told_of_sound_frames(reader: YcbReader, meshes: str) -> None:
    lists = {"training": reader.train_names, "test": reader.test_names}
    groups = {key: [reader.read(name) for name in names] for key, names in lists.items()}
    assert not checks.geometry_notes(groups, OBJECTS, MESHES[meshes](reader.read_meshes()))
    every = [frame for group in groups.values() for frame in group]
    assert not checks.camera_notes(every) + checks.label_notes(every, OBJECTS)


def test_nothing_is_told_of_real_frames() -> None:
    reader = LinemodReader(real_folder("Linemod_preprocessed"), linemod_objects("ape"))
    frames = [reader.read(name) for name in reader.train_names + reader.test_names]
    assert frames[0].stored_intrinsics is not None
    assert not checks.camera_notes(frames) + checks.label_notes(frames, reader.objects)
    assert not checks.geometry_notes({"test": frames}, reader.objects, reader.read_meshes())


def test_a_mistake_in_one_list_is_told(reader: YcbReader, frames: list[Frame]) -> None:
    groups = {"training": [camera(frame, 0.5) for frame in frames], "test": frames}
    (note,) = checks.geometry_notes(groups, OBJECTS, reader.read_meshes())
    assert "training frames" in note


def test_other_intrinsics_than_those_in_use_are_told(frames: list[Frame]) -> None:
    near, far = (camera(frames[0], factor).intrinsics for factor in (1.005, 2))
    assert not checks.camera_notes([replace(frames[0], stored_intrinsics=near)])
    (note,) = checks.camera_notes([replace(frames[0], stored_intrinsics=far), *frames[1:]])
    assert note.startswith("1 of 4 frames looked at are stored with other intrinsics, e.g. data/")
    assert "set DATA.INTRINSICS meta" in note


def test_labels_without_a_pose_are_told(frames: list[Frame]) -> None:
    ids, poses = frames[0].class_ids, frames[0].camera_from_object
    shorter = replace(frames[0], class_ids=ids[1:], camera_from_object=poses[1:])
    (note,) = checks.label_notes([shorter, *frames[1:]], OBJECTS)
    assert f"{shorter.name} of {OBJECTS.name(int(ids[0]))}: check the labels" in note


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("a", [1, 2], True), ("b", [], False)], []),
        ([("a", [1], False), ("b", [1], True)], ["1 of 2 frames have no labelled pixel"]),
        ([("a", [2, 1, 2], True), ("b", [2], True)], ["1 of 2 frames have several objects of a"]),
        ([("a", [1, 1], False)], ["have no labelled pixel", "several objects of a class, e.g. a"]),
    ],
)
def test_frames_without_labels_and_with_repeated_classes_are_counted(
    rows: list[tuple[str, list[int], bool]], told: list[str]
) -> None:
    notes = checks.count_notes([checks.Labels(*row) for row in rows], OBJECTS, looked_at=False)
    assert len(notes) == len(told)
    assert all(text in note for text, note in zip(told, notes, strict=True))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9, 1000])
def test_frames_are_looked_at_all_over_a_list(count: int) -> None:
    chosen = [int(name) for name in checks.spread([str(number) for number in range(count)])]
    assert len(chosen) == min(count, checks.FRAMES)
    assert chosen[:1] == [0][:count]
    assert all(b - a >= count // checks.FRAMES for a, b in pairwise(chosen))
