"""The Python API's pose model: its tensors are as specified, its poses those of an evaluation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ffreid.api import create_pose_model
from ffreid.engine.checkpoints import io
from ffreid.errors import UserError
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.predictor import PoseModel
from ffreid.pose.specs import COUNTS
from ffreid.pose.toy.dataset import toy_object_models
from tests.commands import exit_code, quoted, read
from tests.makers import toy_folder
from tests.pose.model.recipes import fill
from tests.random_tensors import bounds_of, match, random_tensors, smallest

HEIGHT, WIDTH, FRAMES, SEED = 64, 96, 2, 3
VOTERS = {"VOTE.MAX_POINTS": 8}
RGB = np.zeros((16, 24, 3), np.uint8)
DEPTH = np.full((16, 24), 800, np.uint16)
CAMERA = np.array([[20.0, 0, 12], [0, 20, 8], [0, 0, 1]])


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"frames": 1, "test_frames": FRAMES, "synthetic": 0, "height": HEIGHT, "width": WIDTH}
    return toy_folder(tmp_path_factory.mktemp("api"), **sizes)


@pytest.fixture(scope="module")
def frames(toy: Path) -> list[Frame]:
    reader = YcbReader(toy, toy_object_models("toy-pose"), intrinsics="meta")
    return [reader.read(name) for name in reader.test_names]


@pytest.fixture(scope="module")
def model(frames: list[Frame]) -> PoseModel:
    """A network that labels some points of the first frame as each of its objects."""
    model = create_pose_model("toy-pose", settings=VOTERS)
    fill(model.net)
    logits: list[Tensor] = []
    hook = model.net.register_forward_hook(lambda _, args, out: logits.append(out.segmentation))
    predicted(model, frames[0])
    hook.remove()
    bias = model.net.get_parameter("rgbd_seg_layer.3.conv.bias")
    with torch.no_grad():
        bias.sub_(logits[0].mean(dim=(0, 2)))
    return model


@pytest.fixture(scope="module")
def weights(model: PoseModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of the network, deleted at the end because it is large."""
    path = tmp_path_factory.mktemp("weights") / "best.pth"
    state = {"task": "pose", "dataset": "toy-pose", "classes": list(model.objects.names), "step": 7}
    io.save(path, state | {"parts": {"net": model.net.state_dict()}})
    yield path
    path.unlink()


def predicted(
    model: PoseModel, frame: Frame, *, seed: int = SEED, index: int = 0
) -> list[tuple[str, bool, int, list[list[float]]]]:
    poses = model.predict(
        frame.rgb, frame.depth, frame.intrinsics, frame.depth_scale, seed=seed, index=index
    )
    return [(p.name, p.solved, p.votes, p.camera_from_object.tolist()) for p in poses]


def test_predictions_equal_those_of_an_evaluation(
    toy: Path, frames: list[Frame], weights: Path, tmp_path: Path
) -> None:
    sizes = f"DATA.TOY.TRAIN 1 DATA.TOY.TEST {FRAMES} DATA.TOY.HEIGHT {HEIGHT} DATA.TOY.WIDTH"
    line = f"eval --dataset toy-pose --root {quoted(toy)} --output {tmp_path} "
    line += f"--checkpoint {weights} {sizes} {WIDTH} DATA.WORKERS 0 SEED {SEED} VOTE.MAX_POINTS 8"
    assert exit_code(line) == 0
    rows = read(tmp_path / "toy-pose/default/poses.json")["poses"]
    model = create_pose_model("toy-pose", weights, settings=VOTERS)
    poses = [
        (frame.name, *pose)
        for index, frame in enumerate(frames)
        for pose in predicted(model, frame, index=index)
    ]
    keys = ("frame", "class", "solved", "votes", "camera_from_object")
    assert poses == [tuple(row[key] for key in keys) for row in rows]
    assert len({row["class"] for row in rows if row["solved"]}) > 2


def test_poses_depend_on_seed_and_index_but_not_on_the_mode(
    model: PoseModel, frames: list[Frame]
) -> None:
    first = predicted(model, frames[0])
    assert predicted(model, frames[0], seed=SEED + 1) != first
    assert predicted(model, frames[0], index=1) != first
    model.train()
    try:
        assert predicted(model, frames[0]) == first
        assert model.net.training
    finally:
        model.eval()


def test_poses_follow_the_weights_however_they_are_changed(
    model: PoseModel, frames: list[Frame]
) -> None:
    first = predicted(model, frames[0])
    weight = model.net.get_parameter("kp_ofst_layer.3.conv.weight").data
    weight.mul_(2)
    assert predicted(model, frames[0]) != first
    weight.div_(2)
    assert predicted(model, frames[0]) == first


def test_an_evaluation_in_bf16_says_so(
    toy: Path, frames: list[Frame], weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"eval --dataset toy-pose --root {quoted(toy)} --output {tmp_path} --precision bf16 "
    line += f"--checkpoint {weights} DATA.TOY.TRAIN 1 DATA.TOY.TEST {FRAMES} DATA.TOY.HEIGHT "
    line += f"{HEIGHT} DATA.TOY.WIDTH {WIDTH} DATA.WORKERS 0 SEED {SEED} VOTE.MAX_POINTS 8"
    assert exit_code(line) == 0
    assert "note: the network's precision is bfloat16" in capfd.readouterr().err
    folder = tmp_path / "toy-pose/default"
    assert read(folder / "results.json")["precision"].startswith("bfloat16")
    model = create_pose_model("toy-pose", weights, settings=VOTERS | {"TEST.PRECISION": "bf16"})
    rows = [row["camera_from_object"] for row in read(folder / "poses.json")["poses"]]
    poses = [p[3] for i, frame in enumerate(frames) for p in predicted(model, frame, index=i)]
    assert poses == rows


def test_bf16_needs_a_network_in_float32(frames: list[Frame]) -> None:
    model = create_pose_model(
        "toy-pose", settings={"TEST.PRECISION": "bf16", "TRAIN.PRECISION": "fp64"}
    )
    with pytest.raises(UserError, match="needs FFB6D in float32"):
        predicted(model, frames[0])


def test_a_pose_has_name_matrix_and_keypoints(model: PoseModel, frames: list[Frame]) -> None:
    frame = frames[0]
    poses = model.predict(frame.rgb, frame.depth, frame.intrinsics, frame.depth_scale)
    for pose in poses:
        assert model.objects.names[pose.class_id - 1] == pose.name
        assert pose.camera_from_object.shape == (3, 4)
        assert pose.keypoints_camera.shape == (9, 3)
        rotation = pose.camera_from_object[:, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert [pose.class_id for pose in poses] == sorted({pose.class_id for pose in poses})


@pytest.mark.parametrize("chosen", [{}, {"B": 2, "H": 16, "W": 24, "N": 1111}])
@torch.inference_mode()
def test_forward_takes_and_returns_the_specified_tensors(
    model: PoseModel, chosen: dict[str, int]
) -> None:
    sizes = smallest(model.input_spec(), **chosen)
    tensors = random_tensors(model.input_spec(), sizes)
    outputs, by_name = model(tensors), model(**tensors)
    assert match(model.output_spec(), outputs, sizes)
    assert all(torch.equal(outputs[name], by_name[name]) for name in outputs)


def test_indices_outside_of_their_range_are_errors(model: PoseModel) -> None:
    sizes = smallest(model.input_spec())
    tensors = random_tensors(model.input_spec(), sizes)
    for spec in model.input_spec():
        if spec.dtype == torch.int64:
            bounds = bounds_of(spec, sizes)
            assert bounds is not None
            tensors[spec.name].view(-1)[0] = bounds[1]
            with pytest.raises(RuntimeError, match="out of bounds"), torch.inference_mode():
                model(tensors)
            tensors[spec.name].view(-1)[0] = 0


def test_the_inputs_of_a_frame_are_as_specified(model: PoseModel, frames: list[Frame]) -> None:
    inputs = []
    hook = model.net.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    predicted(model, frames[0])
    hook.remove()
    tensors = {name: getattr(inputs[0], name) for name in ("rgb", "features", "choose")}
    for name, count in COUNTS.items():
        levels = getattr(inputs[0], name)
        assert len(levels) == count
        tensors |= {f"{name}_{i}": level for i, level in enumerate(levels)}
    sizes = {"B": 1, "H": HEIGHT, "W": WIDTH, "N": 1024}
    assert match(model.input_spec(), tensors, sizes)
    for spec in model.input_spec():
        if (bounds := bounds_of(spec, sizes)) is not None:
            assert tensors[spec.name].min() >= bounds[0]
            assert tensors[spec.name].max() < bounds[1]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"depth": np.zeros_like(DEPTH)}, "depth: 0 pixels have depth, at least 400 are needed"),
        ({"rgb": RGB[:12], "depth": DEPTH[:12]}, "depth: 288 pixels have depth"),
        ({"depth_scale": 1}, "median of the measured depth is 800 m"),
        ({"intrinsics": np.eye(3)}, "are not of an image of 16 x 24 pixels"),
        ({"rgb": RGB[..., 0]}, "rgb is"),
        ({"seed": -1}, "seed is -1, index is 0"),
        ({"seed": 1.5}, "seed is 1.5, index is 0"),
        ({"index": None}, "seed is 0, index is None"),
    ],
)
def test_unusable_arguments_are_errors(
    model: PoseModel, change: dict[str, Any], error: str
) -> None:
    with pytest.raises(UserError, match=error) as caught:
        model.predict(**dict[str, Any](rgb=RGB, depth=DEPTH, intrinsics=CAMERA) | change)
    assert "have depth" not in error or "1000 units per metre" in caught.value.hint
