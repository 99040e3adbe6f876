"""The Python API: models by dataset name, and checkpoints."""

from pathlib import Path

import pytest
import torch

import ffreid
from ffreid import api
from ffreid.api import create_model, create_pose_model, create_reid_model, load_checkpoint
from ffreid.engine.checkpoints import io
from ffreid.errors import UserError
from ffreid.recipes import recipes
from ffreid.reid.model.image import ImageResNet50
from ffreid.reid.predictor import ReidModel
from tests.reid.command_line import use_tiny

SMALL = {"DATA.HEIGHT": 32, "DATA.WIDTH": 16}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch)


def weights_of(model: ReidModel) -> torch.Tensor:
    return model.net.get_parameter("last.weight").detach()


def test_the_package_exports_exactly_its_api() -> None:
    for name in ffreid.__all__:
        assert name in dir(ffreid)
        exported = getattr(ffreid, name)
        assert exported is getattr(api, name, exported)
    with pytest.raises(AttributeError, match="has no attribute 'creat_model'"):
        ffreid.creat_model  # type: ignore[attr-defined]  # noqa: B018


WITH_OWN_MODELS = ("bop", "tless")


@pytest.mark.parametrize("dataset", [name for name in recipes() if name not in WITH_OWN_MODELS])
def test_every_dataset_has_a_model_that_needs_no_data(dataset: str) -> None:
    model = create_model(dataset, device="meta", cls="ape" if dataset == "linemod" else None)
    assert not model.training
    if recipes()[dataset].parent.name == "pose":
        assert isinstance(model, ffreid.PoseModel)
        counts = {"ycb": 21, "ycbv": 21, "linemod": 1, "lm": 13, "lmo": 8, "toy-pose": 5}
        assert len(model.objects) == counts[dataset]
        assert model.output_spec()[0].shape[1] == len(model.objects) + 1
    else:
        assert isinstance(model, ReidModel)
        assert model.video == (dataset in ("ccvid", "toy-reid-video"))


def test_typed_functions_refuse_the_other_task() -> None:
    assert len(create_pose_model("ycb", device="meta").objects) == 21
    with pytest.raises(UserError, match="toy-reid is a re-ID dataset"):
        create_pose_model("toy-reid", device="meta")
    with pytest.raises(UserError, match="ycb is a pose dataset"):
        create_reid_model("ycb", device="meta")


def test_weights_depend_on_the_seed_and_not_on_the_global_random_state() -> None:
    before = torch.get_rng_state()
    first, second = (weights_of(create_reid_model("ltcc")) for _ in range(2))
    other = weights_of(create_reid_model("ltcc", settings={"SEED": 9}))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_of_a_checkpoint_are_loaded(tmp_path: Path) -> None:
    trained = create_reid_model("ltcc", settings={"SEED": 9})
    network = trained.net.state_dict()
    state = {"task": "reid", "parts": {"net": network}, "model_state_dict": network}
    io.save(tmp_path / "best.pth", state)
    for path in (tmp_path / "best.pth", str(tmp_path / "best.pth")):
        assert torch.equal(weights_of(create_reid_model("ltcc", path)), weights_of(trained))


@pytest.mark.parametrize(
    ("dataset", "cls", "entry"),
    [("ltcc", None, "model_state_dict"), ("linemod", "ape", "model_state")],
)
def test_weights_of_an_old_checkpoint_are_loaded(
    dataset: str,
    cls: str | None,
    entry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.undo()  # old files are of the real networks
    trained = create_model(dataset, cls=cls, settings={"SEED": 9}).net.state_dict()
    old = tmp_path / "best.pth.tar"
    torch.save({entry: {f"module.{key}": value for key, value in trained.items()}}, old)
    loaded = create_model(dataset, old, cls=cls).net.state_dict()
    old.unlink()
    assert list(loaded) == list(trained)
    assert all(torch.equal(loaded[key], trained[key]) for key in trained)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(old) in line


def test_settings_override_a_file_which_overrides_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("MODEL: {POOLING: {NAME: avg}}\nDATA: {HEIGHT: 64}\n")
    cfg = create_reid_model("ltcc", cfg=file, settings={"DATA.HEIGHT": 128}).cfg
    assert (cfg.MODEL.POOLING.NAME, cfg.DATA.HEIGHT, cfg.DATA.WIDTH) == ("avg", 128, 192)


def test_precision_is_a_setting() -> None:
    model = create_reid_model("ltcc", settings={**SMALL, "TRAIN.PRECISION": "fp64"})
    assert model.input_spec()[0].dtype == torch.float64
    assert model.embed([]).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dataset": "ltc"}, "unknown dataset 'ltc'"),
        ({"device": "gpu"}, "cannot use device 'gpu'"),
        ({"device": "cuda:77"}, "cannot use device 'cuda:77'"),
        ({"checkpoint": "gone.pth"}, r"cannot read checkpoint gone\.pth"),
        ({"settings": {"DATA.HIGHT": 3}}, r"unknown key DATA\.HIGHT"),
        ({"settings": {"MODEL.BACKBONE": "imagenet"}}, r"MODEL\.BACKBONE is used only"),
        ({"cls": "ape", "dataset": "ycb"}, "not for ape alone"),
        ({"dataset": "linemod"}, "no LineMOD object given"),
    ],
)
def test_errors_have_a_hint(options: dict[str, object], error: str) -> None:
    with pytest.raises(UserError, match=error) as caught:
        create_model(**({"dataset": "ltcc"} | options))  # type: ignore[arg-type]
    assert caught.value.__notes__ == [f"hint: {caught.value.hint}"]  # shown in a traceback


def test_a_checkpoint_is_converted_only_for_a_task(tmp_path: Path) -> None:
    network = ImageResNet50(pooling="avg").state_dict()
    old = {f"module.{key}": value for key, value in network.items()}
    path = tmp_path / "best.pth.tar"
    torch.save({"model_state_dict": old, "rank1": 0.5, "epoch": 3}, path)
    state = load_checkpoint(str(path))
    assert (list(state["model_state_dict"]), state["epoch"]) == (list(old), 3)
    assert list(load_checkpoint(path, "reid")["model_state_dict"]) == list(network)
    path.unlink()
    with pytest.raises(UserError, match="task is 'poses'"):
        load_checkpoint(path, "poses")  # type: ignore[arg-type]
