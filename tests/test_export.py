"""Exported networks give PyTorch's outputs for batches of any size, and run without ffreid's."""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ffreid
from ffreid import export as module
from ffreid.api import create_model
from ffreid.engine.checkpoints import io
from ffreid.engine.modules import evaluating
from ffreid.export import _agreement, export
from ffreid.pose.data.batch import Inputs
from ffreid.pose.predictor import PoseModel
from ffreid.pose.preparation import named_tensors
from tests.commands import exit_code, mistake
from tests.reid.command_line import use_tiny

RGB = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
DEPTH = np.random.default_rng(1).integers(700, 900, (40, 52)).astype(np.uint16)
CAMERA = np.array([[60.0, 0, 26], [0, 60, 20], [0, 0, 1]])


def write_checkpoint(path: Path, dataset: str, **settings: object) -> Path:
    pairs = {key.replace("__", "."): value for key, value in settings.items()}
    model = create_model(dataset, settings=pairs)
    network = model.net.state_dict()
    key = "model_state" if isinstance(model, PoseModel) else "model_state_dict"
    state: dict[str, Any] = {"task": model.cfg.TASK, "dataset": dataset, "parts": {"net": network}}
    if isinstance(model, PoseModel):
        state["classes"] = list(model.objects.names)
    io.save(path, {**state, key: network, "config": model.cfg.dump()})
    return path


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
def test_a_network_of_images_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    use_tiny(monkeypatch)
    best = write_checkpoint(tmp_path / "best.pth", "toy-reid")
    assert exit_code(f"export {best} {tmp_path / name}") == 0
    shown, said = capsys.readouterr()
    assert "3 x 4096" in shown
    assert said.startswith(f"written: {tmp_path / name} (")
    images = torch.randn(5, 3, 64, 32)
    with torch.no_grad():
        expected = ffreid.load_model(best)(images=images)["features"]
    found = run(tmp_path / name, {"images": images.numpy()})[0]
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pth", name]


def run(path: Path, arrays: dict[str, Any]) -> list[Any]:
    if path.suffix == ".pt2":
        outputs = torch.export.load(str(path)).module()(*map(torch.from_numpy, arrays.values()))
        return [
            t.detach().numpy()
            for t in (outputs if isinstance(outputs, tuple | list) else [outputs])
        ]
    onnxruntime = pytest.importorskip("onnxruntime")
    return list(onnxruntime.InferenceSession(str(path)).run(None, arrays))


def test_ffb6d_is_exported_with_its_indices(tmp_path: Path) -> None:
    best = write_checkpoint(tmp_path / "best.pth", "toy-pose", MODEL__POINTS=1024)
    assert export(best, tmp_path / "net.pt2", size="40x52")
    model = ffreid.load_model(best)
    assert isinstance(model, PoseModel)
    frames = [
        ffreid.prepare_frame(RGB, DEPTH, CAMERA, points=1024, fill_holes=True, index=n)
        for n in range(3)
    ]
    arrays = {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}
    found = run(tmp_path / "net.pt2", arrays)
    with torch.no_grad():
        expected = model({name: torch.from_numpy(array) for name, array in arrays.items()})
    for output, values in zip(found, expected.values(), strict=True):
        assert np.abs(output - values.numpy()).max() < 1e-3 * max(1, float(values.abs().max()))


def test_prepared_frames_are_those_of_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("toy-pose", settings={"MODEL.POINTS": 1024})
    assert isinstance(model, PoseModel)
    seen: list[Inputs] = []
    network = model.net

    def record(inputs: Inputs) -> Any:
        seen.append(inputs)
        with evaluating(network):
            return network(inputs)

    monkeypatch.setattr(model, "_network", lambda: record)
    model.predict(RGB, DEPTH, CAMERA, 1000, seed=3, index=5)
    prepared = ffreid.prepare_frame(
        RGB, DEPTH, CAMERA, 1000, points=1024, fill_holes=True, seed=3, index=5
    )
    (inputs,) = seen
    assert list(prepared) == [spec.name for spec in model.input_spec()]
    for name, tensor in named_tensors(inputs).items():
        assert torch.equal(torch.from_numpy(prepared[name]), tensor), name


def test_a_network_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_tiny(monkeypatch)
    best = write_checkpoint(tmp_path / "best.pth", "toy-reid")
    write = module._write_pt2

    def wrong(*args: Any) -> Any:
        run = write(*args)
        return lambda arrays: [values + 0.1 for values in run(arrays)]

    monkeypatch.setattr(module, "_write_pt2", wrong)
    assert exit_code(f"export {best} {tmp_path / 'net.pt2'}") == 1
    assert "differs from PyTorch's" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth"]


def test_agreement_is_the_least_of_a_batch() -> None:
    ours = np.array([[1.0, 0], [0, 2.0]])
    assert _agreement(ours, ours) == (1, 0)
    assert _agreement(ours, np.array([[1.0, 0], [2.0, 0]])) == (0, 2)
    assert np.isnan(_agreement(ours, ours[:1])).all()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("best.pth net.xyz", "cannot export to net.xyz"),
        ("best.pth net.pt2 --size 64x32", "--size has no effect for re-ID"),
        ("none.pth net.pt2", "no checkpoint none.pth"),
        ("best.pth net.pt2 DATA.HEIGHT 32 DATA.WIDTH", "'DATA.WIDTH' has no value"),
        ("best.pth missing.txt/net.pt2", "cannot write missing.txt/net.pt2"),
        ("best.pth missing.txt", "cannot export to missing.txt"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    error: str,
) -> None:
    use_tiny(monkeypatch)
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "best.pth", "toy-reid")
    (tmp_path / "missing.txt").touch()
    found, hint = mistake(capsys, f"export {arguments}")
    assert found.startswith(error)
    assert "--json" not in hint  # an option of other commands


def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("onnx", "no_such_package"))
    (tmp_path / "best.pth").touch()
    error, hint = mistake(capsys, f"export {tmp_path / 'best.pth'} {tmp_path / 'net.onnx'}")
    assert "no_such_package" in error
    assert "pip install 'ffreid[export]'" in hint


def test_the_documented_example_gives_the_features_of_embed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny(monkeypatch)
    monkeypatch.chdir(tmp_path)
    best = write_checkpoint(tmp_path / "best.pth", "toy-reid")
    assert export(best, tmp_path / "network.onnx")
    for seed, name in enumerate(("anna.png", "ben.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (90, 40, 3), np.uint8)
        Image.fromarray(pixels).save(name)
    text = (Path(module.__file__).parent / "README.md").read_text()
    (code,) = re.findall(
        r"^```python\n(# Features of two .*?)^```$", text, re.DOTALL | re.MULTILINE
    )
    assert len(ast.parse(code).body) == 10
    names: dict[str, Any] = {}
    exec(code, names)
    model = ffreid.load_model(best, settings={"DATA.DECODE": "pil"})
    assert isinstance(model, ffreid.ReidModel)
    expected = model.embed(["anna.png", "ben.png"]).numpy()
    assert np.abs(names["features"] - expected).max() < 1e-4
