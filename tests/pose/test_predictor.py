"""FFB6D as an object: its tensors are as reported, and it predicts what an evaluation computes."""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from ffreid.api import create_pose_model
from ffreid.cli import main
from ffreid.engine.checkpoints import io
from ffreid.engine.specs import TensorSpec
from ffreid.errors import UserError
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.predictor import PoseModel
from ffreid.pose.specs import COUNTS
from ffreid.pose.toy.dataset import toy_object_models
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
    return toy_folder(
        tmp_path_factory.mktemp("api"),
        frames=1,
        test_frames=FRAMES,
        synthetic=0,
        height=HEIGHT,
        width=WIDTH,
    )


@pytest.fixture(scope="module")
def frames(toy: Path) -> list[Frame]:
    reader = YcbReader(toy, toy_object_models("toy-pose"), intrinsics="meta")
    return [reader.read(name) for name in reader.test_names]


@pytest.fixture(scope="module")
def model(frames: list[Frame]) -> PoseModel:
    """A network that takes some points of the first frame for each of its objects."""
    found = create_pose_model("toy-pose", settings=VOTERS)
    fill(found.net)
    logits: list[Tensor] = []
    hook = found.net.register_forward_hook(lambda _, given, out: logits.append(out.segmentation))
    predicted(found, frames[0])
    hook.remove()
    bias = found.net.get_parameter("rgbd_seg_layer.3.conv.bias")
    with torch.no_grad():
        bias.sub_(logits[0].mean(dim=(0, 2)))
    return found


@pytest.fixture(scope="module")
def weights(model: PoseModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The network's checkpoint; it is large, so it is gone afterwards."""
    folder = tmp_path_factory.mktemp("weights")
    state = {
        "task": "pose",
        "dataset": "toy-pose",
        "parts": {"net": model.net.state_dict()},
        "classes": list(model.objects.names),
        "step": 7,
    }
    io.save(folder / "best.pth", state)
    yield folder / "best.pth"
    shutil.rmtree(folder)


def predicted(
    model: PoseModel, frame: Frame, *, seed: int = SEED, index: int = 0
) -> list[tuple[str, bool, int, list[list[float]]]]:
    poses = model.predict(
        frame.rgb, frame.depth, frame.intrinsics, frame.depth_scale, seed=seed, index=index
    )
    return [(p.name, p.solved, p.votes, p.camera_from_object.tolist()) for p in poses]


def test_it_predicts_what_an_evaluation_computes(
    toy: Path, frames: list[Frame], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    sizes = f"DATA.TOY.TRAIN 1 DATA.TOY.TEST {FRAMES} DATA.TOY.HEIGHT {HEIGHT} DATA.TOY.WIDTH"
    line = f"eval --dataset toy-pose --root {shlex.quote(str(toy))} --output {tmp_path} "
    line += f"--checkpoint {weights} {sizes} {WIDTH} DATA.WORKERS 0 SEED {SEED} VOTE.MAX_POINTS 8"
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(line))
    assert caught.value.code == 0
    rows = json.loads((tmp_path / "toy-pose/default/poses.json").read_text())["poses"]
    model = create_pose_model("toy-pose", weights, settings=VOTERS)
    found = [
        (frame.name, *pose)
        for index, frame in enumerate(frames)
        for pose in predicted(model, frame, index=index)
    ]
    keys = ("frame", "class", "solved", "votes", "camera_from_object")
    assert found == [tuple(row[key] for key in keys) for row in rows]
    assert len({row["class"] for row in rows if row["solved"]}) > 2


def test_other_seeds_draw_other_points(model: PoseModel, frames: list[Frame]) -> None:
    first = predicted(model, frames[0])
    assert predicted(model, frames[0]) == first
    assert predicted(model, frames[0], seed=SEED + 1) != first
    assert predicted(model, frames[0], index=1) != first


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


def test_predicting_leaves_modes_as_they_are(model: PoseModel, frames: list[Frame]) -> None:
    first = predicted(model, frames[0])
    model.train()
    try:
        assert predicted(model, frames[0]) == first
        assert model.net.training
    finally:
        model.eval()


@pytest.mark.parametrize("chosen", [{}, {"B": 2, "H": 16, "W": 24, "N": 1111}])
@torch.inference_mode()
def test_forward_takes_what_the_spec_tells_and_gives_it(
    model: PoseModel, chosen: dict[str, int]
) -> None:
    sizes = smallest(model.input_spec(), **chosen)
    outputs = model(**random_tensors(model.input_spec(), sizes))
    assert match(model.output_spec(), outputs, sizes)


@torch.inference_mode()
def test_a_mapping_gives_what_names_give(model: PoseModel) -> None:
    tensors = random_tensors(model.input_spec(), smallest(model.input_spec()))
    one, other = model(tensors), model(**tensors)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_index_has_a_range_and_is_no_larger(model: PoseModel) -> None:
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


def test_the_spec_is_of_the_tensors_that_frames_become(
    model: PoseModel, frames: list[Frame]
) -> None:
    seen = []
    hook = model.net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    predicted(model, frames[0])
    hook.remove()
    inputs = seen[0]
    tensors = {name: getattr(inputs, name) for name in ("rgb", "features", "choose")}
    for name, count in COUNTS.items():
        levels = getattr(inputs, name)
        assert len(levels) == count
        tensors |= {f"{name}_{i}": level for i, level in enumerate(levels)}
    sizes = {"B": 1, "H": HEIGHT, "W": WIDTH, "N": 1024}
    assert match(model.input_spec(), tensors, sizes)
    for spec in model.input_spec():
        assert within(spec, tensors[spec.name], sizes)


def within(spec: TensorSpec, tensor: Tensor, sizes: dict[str, int]) -> bool:
    bounds = bounds_of(spec, sizes)
    return bounds is None or bool((tensor >= bounds[0]).all() and (tensor < bounds[1]).all())


def test_a_frame_without_depth_is_refused(model: PoseModel) -> None:
    with pytest.raises(
        UserError, match="depth: 0 pixels have depth, at least 400 are needed"
    ) as caught:
        model.predict(RGB, np.zeros_like(DEPTH), CAMERA)
    assert "1000 units per metre" in caught.value.hint


@pytest.mark.parametrize(
    ("rgb", "depth", "error"),
    [
        (RGB[:12], DEPTH[:12], "rgb and depth are 12 x 24 pixels, not multiples of 8"),
        (RGB[..., 0], DEPTH, "rgb is"),
        (RGB, DEPTH[1:], "rgb is .*, depth is"),
    ],
)
def test_an_unusable_frame_is_refused(
    model: PoseModel, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.uint16], error: str
) -> None:
    with pytest.raises(UserError, match=error):
        model.predict(rgb, depth, CAMERA)


def test_a_negative_seed_is_named(model: PoseModel) -> None:
    with pytest.raises(UserError, match="seed is -1, index is 0"):
        model.predict(RGB, DEPTH, CAMERA, seed=-1)
