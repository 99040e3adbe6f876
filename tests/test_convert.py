"""``convert-ckpt``: output, files and errors."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18, resnet34

from ffreid.convert import convert, default_target, load_any
from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.pretrained import name_of_resnet
from ffreid.errors import UserError
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.model.resnet import load_backbone
from ffreid.reid.model import NETWORKS
from tests import old_files
from tests.fuzz import is_equal
from tests.pose.realdata import real_folder


@cache
def state() -> dict[str, Tensor]:
    """Weights of FFB6D for one object in small files."""
    return old_files.light(FFB6D(2).state_dict())


def written(path: Path, new: Path | None = None, **options: Any) -> Path:
    """The path of the converted file."""
    result = convert(path, new, **options)
    assert result.written is not None
    return result.written


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return old_files.write(tmp_path / "old.pth.tar", old_files.ffb6d(state(), prefix="module."))


def test_the_contents_of_the_file_are_printed(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = convert(old, dry_run=True)
    out = capsys.readouterr().out
    parts = "FFB6D|classes 2|keypoints 8|linemod|module. removed|it 83496|all 684 match"
    for text in f"{parts}|apex loss scaler|DATA.CLS NAME".split("|"):
        assert text in " ".join(out.split()), text
    assert result.written is None
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize(
    ("name", "to", "new"),
    [
        ("best_model.pth.tar", "ffreid", "best_model.ffreid.pth"),
        ("a.b.ckpt", "ffreid", "a.b.ffreid.pth"),
        ("weights", "ffreid", "weights.ffreid.pth"),
        ("old.ffreid.pth", "original", "old.original.pth.tar"),
        ("old.th", "safetensors", "old.safetensors"),
    ],
)
def test_default_names(name: str, to: str, new: str) -> None:
    assert default_target(Path("x") / name, to) == Path("x") / new


def test_nothing_is_overwritten_without_force(old: Path) -> None:
    existing = old.parent / "existing.pth"
    existing.write_text("existing")
    with pytest.raises(UserError, match=r"existing\.pth already exists") as caught:
        convert(old, existing)
    assert "--force" in caught.value.hint
    assert existing.read_text() == "existing"
    assert written(old, existing, force=True) == existing
    with pytest.raises(UserError, match="is the input file"):
        convert(old, old, force=True)
    with pytest.raises(UserError, match="is a folder") as caught:
        convert(old, old.parent, force=True)
    assert caught.value.hint.endswith("/old.ffreid.pth")


@pytest.mark.parametrize("arguments", [{}, {"to": "original", "legacy": True}])
def test_a_file_that_cannot_be_written_is_an_error(old: Path, arguments: Any) -> None:
    (old.parent / "taken").write_text("a file, no folder")
    with pytest.raises(UserError, match=r"cannot write .*new\.pth") as caught:
        convert(old, old.parent / "taken/new.pth", **arguments)
    assert caught.value.hint == "free disk space or use another output file"


def test_the_check_runs_the_network(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = convert(old, check=True, dry_run=True)
    assert result.forward == {
        "segmentation": (1, 2, 1024),
        "keypoint_offsets": (1, 8, 1024, 3),
        "centre_offsets": (1, 1, 1024, 3),
    }
    assert "loaded strictly, one forward pass, all outputs finite" in capsys.readouterr().err
    broken = state() | {"rgbd_seg_layer.3.conv.bias": torch.full((2,), torch.nan)}
    old_files.write(old, broken)
    with pytest.raises(UserError, match="the network's segmentation is not finite"):
        convert(old, check=True)
    assert list(tmp_path.iterdir()) == [old]


def test_keys_that_do_not_match_are_shown_by_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {key: v for key, v in state().items() if not key.startswith("cnn_pre_stages.0")}
    changed |= {"extra.weight": torch.ones(3), "rgbd_seg_layer.0.conv.weight": torch.ones(2)}
    old = old_files.write(tmp_path / "old.pth", {"state_dict": changed})
    with pytest.raises(
        UserError, match=r"1 missing \(.*\), 1 unexpected \(.*\), 1 of wrong shape \("
    ):
        convert(old)
    out = capsys.readouterr().out
    assert all(name in out for name in ("cnn_pre_stages.0", "extra", "rgbd_seg_layer.0"))
    assert list(tmp_path.iterdir()) == [old]


def test_a_setting_adds_what_the_file_does_not_contain(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = io.load(written(old, settings=["DATA.CLS", "duck"]))
    assert (new["classes"], new["config"]) == (["duck"], "DATA:\n  CLS: duck\n")
    assert "setting DATA.CLS duck" in " ".join(capsys.readouterr().out.split())


def test_a_setting_cannot_contradict_the_file(tmp_path: Path) -> None:
    old = old_files.write(
        tmp_path / "old.pth", old_files.light(NETWORKS["resnet50"]().state_dict())
    )
    with pytest.raises(
        UserError, match=r"MODEL\.POOLING\.NAME is gem, but the file's keys imply maxavg"
    ):
        convert(old, settings=["MODEL.POOLING.NAME", "gem"])
    with pytest.raises(UserError, match="unknown key"):
        convert(old, settings=["MODEL.POOL", "gem"])


def test_ema_weights_are_converted_on_request(tmp_path: Path) -> None:
    ema = state() | {"rgbd_seg_layer.3.conv.bias": torch.ones(2)}
    old = old_files.write(tmp_path / "old.pth", {"model": state(), "model_ema": ema})
    net = io.load(written(old, weights="ema"))["parts"]["net"]
    assert torch.equal(net["rgbd_seg_layer.3.conv.bias"], torch.ones(2))
    assert convert(old, weights="ema", dry_run=True).notes == ()
    with pytest.raises(UserError, match="contains no weights named 'swa'"):
        convert(old, weights="swa")


def test_a_checkpoint_of_ffreid_is_only_converted_back(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = written(old)
    assert convert(new).written is None
    assert "nothing to convert" in capsys.readouterr().err
    with pytest.raises(UserError, match="saves EMA weights in separate files"):
        convert(new, to="original", weights="ema")
    back = written(new, to="original")
    assert back == old.parent / "old.original.pth.tar"
    assert list(io.load(back)) == list(io.load(old))


def test_impossible_formats_are_refused_and_the_legacy_one_is_written(old: Path) -> None:
    back = written(old, to="original", legacy=True)
    assert not back.read_bytes().startswith(b"PK")
    assert list(io.load(back)["model_state"]) == list(state())
    with pytest.raises(UserError, match="unknown format --to 'onnx'"):
        convert(old, to="onnx")
    with pytest.raises(UserError, match="--legacy needs --to original"):
        convert(old, legacy=True)


def test_safetensors_is_an_extra(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(UserError, match="needs the package safetensors") as caught:
        convert(old, to="safetensors")
    assert "pip install 'ffreid[safetensors]'" in caught.value.hint


@pytest.mark.skipif(
    importlib.util.find_spec("safetensors") is None, reason="safetensors is not installed"
)
def test_safetensors_holds_the_weights_under_all_their_names(old: Path) -> None:
    new = written(old, to="safetensors")
    assert new == old.parent / "old.safetensors"
    loaded = importlib.import_module("safetensors.torch").load_file(new)
    assert is_equal(dict(sorted(loaded.items())), dict(sorted(state().items())))


def test_a_resnet_of_torchvision_is_a_backbone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = resnet34(num_classes=10).state_dict()
    old = old_files.write(tmp_path / "resnet34.pth", weights)
    assert convert(old).written is None
    assert f"MODEL.BACKBONE {old} (pose datasets)" in capsys.readouterr().err
    wrapped = {"state_dict": old_files.prefixed(weights, "module.")}
    net = FFB6D(2)
    load_backbone(net, str(written(old_files.write(tmp_path / "mine.pth", wrapped))))
    assert torch.equal(net.state_dict()["cnn_pre_stages.0.weight"], weights["conv1.weight"])


def test_other_resnets_and_files_without_weights_are_refused(tmp_path: Path) -> None:
    weights = resnet18(num_classes=2).state_dict()
    assert name_of_resnet(weights) == "ResNet-18"
    old = old_files.write(tmp_path / "resnet18.pth", weights)
    with pytest.raises(UserError, match=r"is torchvision's ResNet-18, not a network of FFB6D"):
        convert(old)
    empty = old_files.write(tmp_path / "empty.pth", {"epoch": 3})
    with pytest.raises(UserError, match="contains no weights"):
        convert(empty)


def test_old_and_converted_files_load_equally(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = load_any(old, "pose")
    assert capsys.readouterr().err.count("\n") == 1
    path = written(old)
    capsys.readouterr()
    again = load_any(path, "pose")
    assert capsys.readouterr().err == ""
    assert again["parts"]["net"].keys() == new["parts"]["net"].keys()
    with pytest.raises(UserError, match="contains no re-identification network"):
        load_any(old, "reid")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet20-12fca82f.th", ["97 tensors", "module. removed", "best_prec1 91.78", "linear"]),
        ("version-RFB-320.pth", ["244 tensors", "base_net.0.0.weight (16, 3, 3, 3)"]),
        ("pnet.pt", ["13 tensors", "6,632 numbers", "conv4_2.bias (4,)"]),
    ],
)
def test_real_files_of_other_networks_are_described_and_refused(
    name: str, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = real_folder("checkpoints") / name
    with pytest.raises(UserError, match="is not a supported network: not FFB6D") as caught:
        convert(path, tmp_path / "new.pth")
    assert "not an image network of Simple-CCReID" in caught.value.message
    out = capsys.readouterr().out
    assert all(part in out for part in parts)
    assert list(tmp_path.iterdir()) == []
