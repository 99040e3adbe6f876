"""ImageNet weights: pictures, inflated clips, and files that are none."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, resnet50

from ffreid.errors import UserError
from ffreid.reid.model import IMAGE_NETWORKS, NETWORKS, VIDEO_NETWORKS
from ffreid.reid.model.backbone import backbone_names, load_backbone


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """ResNet-50 of torchvision with statistics that are not all alike, without classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net: nn.Module = resnet50(weights=None).eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.get_buffer("running_mean"), 0.0, 0.1)
                nn.init.uniform_(module.weight, 0.3, 0.6)
    net.register_module("fc", nn.Linear(2048, 3))
    return net


@pytest.fixture(scope="module")
def file(theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(theirs.state_dict(), path)
    return path


def test_features_of_pictures_are_those_of_torchvision(theirs: nn.Module, file: Path) -> None:
    ours = IMAGE_NETWORKS["resnet50"](pooling="avg", last_stride=2).eval()
    load_backbone(ours, str(file))
    images = torch.randn(2, 3, 64, 48)
    with torch.inference_mode():
        features = ours.globalpooling(ours.base(images))
        torch.testing.assert_close(theirs.get_submodule("fc")(features), theirs(images))


@pytest.mark.parametrize("name", VIDEO_NETWORKS)
def test_a_clip_of_equal_frames_has_the_features_of_the_picture(name: str, file: Path) -> None:
    pictures = IMAGE_NETWORKS["resnet50"](pooling="max").eval()
    clips = VIDEO_NETWORKS[name]().eval()
    load_backbone(pictures, str(file))
    load_backbone(clips, str(file))
    clips.bn.load_state_dict(pictures.bn.state_dict())
    image = torch.randn(1, 3, 48, 32)
    with torch.inference_mode():
        torch.testing.assert_close(
            clips(image[:, :, None].repeat(1, 1, 3, 1, 1)), pictures(image), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_every_entry_of_torchvision_has_one_place(name: str, theirs: nn.Module) -> None:
    with torch.device("meta"):
        places = backbone_names(NETWORKS[name]())
    expected = [key for key in theirs.state_dict() if not key.startswith("fc.")]
    assert sorted(places.values()) == sorted(expected)


def test_slices_before_and_after_are_emptied(file: Path) -> None:
    net = VIDEO_NETWORKS["i3dres50"]()
    weight: Tensor = net.get_parameter("layer2.0.conv2.conv3d.weight")
    nn.init.ones_(weight)
    load_backbone(net, str(file))
    assert not weight[:, :, [0, 2]].any() and weight[:, :, 1].any()


def test_random_leaves_the_network_as_it_is() -> None:
    net = IMAGE_NETWORKS["resnet50"]()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    load_backbone(net, "random")
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)


def test_files_without_step_counters_are_taken(theirs: nn.Module, tmp_path: Path) -> None:
    state = {k: v for k, v in theirs.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pth")
    net = IMAGE_NETWORKS["resnet50"]()
    load_backbone(net, str(tmp_path / "old.pth"))
    torch.testing.assert_close(net.state_dict()["base.0.weight"], state["conv1.weight"])


@pytest.mark.parametrize("change", ["missing", "misshapen", "unknown", "no tensor"])
def test_another_networks_file_is_refused(change: str, theirs: nn.Module, tmp_path: Path) -> None:
    state: dict[str, object] = dict(theirs.state_dict())
    key = "layer3.5.conv2.weight"
    if change == "missing":
        del state[key]
    elif change == "unknown":
        state[key := "layer3.6.conv2.weight"] = torch.zeros(1)
    else:
        state[key] = torch.zeros(256, 256, 1, 1) if change == "misshapen" else "weights"
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError, match=f"MODEL.BACKBONE .*other.pth is not a ResNet-50.*{key}"):
        load_backbone(IMAGE_NETWORKS["resnet50"](), str(tmp_path / "other.pth"))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"MODEL.BACKBONE: no file nowhere\.pth") as caught:
        load_backbone(IMAGE_NETWORKS["resnet50"](), "nowhere.pth")
    assert "MODEL.BACKBONE random" in caught.value.hint


def test_weights_that_cannot_be_fetched_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no\nroute")

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", unreachable)
    with pytest.raises(UserError, match="could not be downloaded: no route") as caught:
        load_backbone(IMAGE_NETWORKS["resnet50"](), "imagenet")
    assert "MODEL.BACKBONE" in caught.value.hint
