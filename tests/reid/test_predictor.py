"""The re-ID predictor returns the features that an evaluation saves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ffreid.api import create_reid_model
from ffreid.engine.checkpoints import io
from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid import sources
from ffreid.reid.data.records import Record
from ffreid.reid.predictor import ReidModel
from tests.commands import exit_code
from tests.random_tensors import match, random_tensors, smallest
from tests.reid.command_line import SETTINGS, line, make_toy_data, use_tiny

SIZES = dict(zip(SETTINGS.split()[::2], SETTINGS.split()[1::2], strict=True))
IMAGE, VIDEO = "toy-reid", "toy-reid-video"
RGB = np.arange(20 * 10 * 3, dtype=np.uint8).reshape(20, 10, 3)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch)


def model_of(dataset: str = "toy-reid", weights: Path | None = None) -> ReidModel:
    result = create_reid_model(dataset, weights, settings=SIZES)
    assert isinstance(result, ReidModel)
    return result


def saved(folder: Path, dataset: str) -> tuple[ReidModel, Tensor]:
    """A model from a checkpoint, and the features that ``ffreid eval`` saves with it."""
    weights, features = folder / "best.pth", folder / "features.npz"
    network = model_of(dataset).net.state_dict()
    state = {"task": "reid", "parts": {"net": network}, "model_state_dict": network}
    io.save(weights, state)
    flags = f"--checkpoint {weights} --save-features {features}"
    assert exit_code(line(f"eval {flags}", folder, "api", dataset=dataset)) == 0
    with np.load(features) as arrays:
        parts = [arrays[f"{side}_features"] for side in ("query", "gallery")]
    return model_of(dataset, weights), torch.from_numpy(np.concatenate(parts))


def records(root: Path, dataset: str) -> tuple[Path, list[Record]]:
    folder = make_toy_data(root, dataset)
    cfg = compose(dataset, root=root, pairs=SETTINGS.split())
    test = sources.open_source(cfg).test
    return folder, [*test.query, *test.gallery]


def test_features_of_images_are_those_of_an_evaluation(tmp_path: Path) -> None:
    folder, test_records = records(tmp_path / "data", "toy-reid")
    model, expected = saved(tmp_path, "toy-reid")
    features = model.embed([folder / record.frames[0] for record in test_records])
    assert features.dtype == torch.float32
    assert torch.equal(features, expected)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(test_records)))


def test_features_of_tracklets_are_those_of_an_evaluation(tmp_path: Path) -> None:
    folder, test_records = records(tmp_path / "data", "toy-reid-video")
    model, expected = saved(tmp_path, "toy-reid-video")
    tracklets = [[folder / name for name in record.frames] for record in test_records]
    assert torch.equal(model.embed(tracklets), expected)
    read = [np.stack([np.asarray(Image.open(path)) for path in some]) for some in tracklets[:2]]
    torch.testing.assert_close(model.embed(read), expected[:2])


def test_images_may_be_arrays_pillow_images_or_paths_and_grey(tmp_path: Path) -> None:
    path, grey = tmp_path / "a.png", Image.fromarray(RGB[..., 0])
    Image.fromarray(RGB).save(path)
    features = model_of().embed([RGB, Image.fromarray(RGB), path, str(path)])
    assert all(torch.equal(row, features[0]) for row in features)
    features = model_of().embed([grey, grey.convert("RGB")])
    assert torch.equal(features[0], features[1])


def test_exif_orientation_is_applied_to_files_and_open_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned to the right
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(RGB[..., 0].astype(np.uint16) * 257).save(tmp_path / "b.png")
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    arrays = [np.rot90(RGB, -1), np.repeat(RGB[..., :1], 3, 2)]
    expected = model_of().embed(arrays)
    assert torch.equal(model_of().embed(files), expected)
    opened = [Image.open(file) for file in files]
    assert torch.equal(model_of().embed(opened), expected)
    for image in opened:
        image.close()


def test_features_do_not_depend_on_batch_size_and_mode() -> None:
    model, images = model_of(), [RGB, RGB[::-1], RGB[:10]]
    first = model.embed(images)
    model.train()
    for size in (1, 2, 3):
        torch.testing.assert_close(model.embed(images, batch_size=size), first)
    assert torch.equal(model.embed(images), first)
    assert model.net.training
    (features,) = model.output_spec()
    assert model.embed([]).shape == (0, features.shape[1])


def test_an_error_gives_the_index_of_a_damaged_pillow_image(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "complete.png")
    content = (tmp_path / "complete.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    with (
        Image.open(tmp_path / "half.png") as image,
        pytest.raises(UserError, match=r"cannot read images\[0\]: image file is truncated"),
    ):
        model_of().embed([image])


@pytest.mark.parametrize(
    ("dataset", "images", "error"),
    [
        (IMAGE, [RGB, RGB * 1.0], r"images\[1\] has shape \(20, 10, 3\) and type float64"),
        (IMAGE, [RGB[..., 0]], r"images\[0\] has shape \(20, 10\) and type uint8"),
        (IMAGE, [RGB.transpose(2, 0, 1)], r"images\[0\] has shape \(3, 20, 10\) and type uint8"),
        (IMAGE, [Image.new("RGB", (0, 9))], r"images\[0\] is empty: 9 x 0 pixels"),
        (
            IMAGE,
            [Image.new("F", (5, 9))],
            r"images\[0\] \(mode F\) has grey values of unknown range",
        ),
        (IMAGE, [RGB[:0]], r"images\[0\] has shape \(0, 10, 3\): it is empty"),
        (IMAGE, [torch.zeros(3, 4, 4)], r"images\[0\] contains a Tensor"),
        (IMAGE, [Path("gone.png")], r"no image gone\.png"),
        (IMAGE, "gone.png", "images is a single str"),
        (VIDEO, ["a.png"], r"images\[0\] is a str, but this network takes tracklets"),
        (VIDEO, [RGB], r"images\[0\] has shape \(20, 10, 3\)"),
        (VIDEO, [[RGB], []], r"images\[1\] is a tracklet without frames"),
        (VIDEO, [[RGB, RGB[..., 0]]], r"images\[0\] has shape \(20, 10\) and type uint8"),
    ],
)
def test_invalid_images_and_tracklets_are_refused(dataset: str, images: Any, error: str) -> None:
    with pytest.raises(UserError, match=error):
        model_of(dataset).embed(images)


def test_a_batch_size_of_0_and_a_diverged_network_are_refused() -> None:
    model = model_of()
    with pytest.raises(UserError, match="batch_size is 0"):
        model.embed([RGB], batch_size=0)
    torch.nn.init.constant_(model.net.get_parameter("last.bias"), torch.nan)
    with pytest.raises(UserError, match="features are NaN"):
        model.embed([RGB])


@pytest.mark.parametrize(
    ("dataset", "settings", "chosen"),
    [
        ("ltcc", {"MODEL.POOLING.NAME": "avg"}, {"B": 3, "H": 40, "W": 24}),
        ("ltcc", {"MODEL.POOLING.NAME": "maxavg"}, {}),
        ("ccvid", {"MODEL.NAME": "c2dres50"}, {"B": 2, "T": 3, "H": 20, "W": 24}),
        ("ccvid", {"MODEL.NAME": "ap3dnlres50"}, {}),
    ],
)
@torch.inference_mode()
def test_forward_takes_and_returns_the_specified_tensors(
    dataset: str, settings: dict[str, str], chosen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # of the real networks
    model = create_reid_model(dataset, settings=settings)
    specs = model.input_spec()
    sizes = smallest(specs, **chosen)
    tensors = random_tensors(specs, sizes)
    outputs = model(tensors)
    assert match(model.output_spec(), outputs, sizes)
    assert torch.equal(model(**tensors)["features"], outputs["features"])
    assert model.output_spec()[0].shape[1] == (4096 if "maxavg" in settings.values() else 2048)
