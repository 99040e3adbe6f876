"""ImageNet weights in the image network and, inflated, in the clip networks."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, resnet50

from ffreid.errors import UserError
from ffreid.reid.defaults import VIDEO_NETWORKS
from ffreid.reid.model import NETWORKS
from ffreid.reid.model.backbone import load_imagenet
from ffreid.reid.model.image import ImageResNet50


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """ResNet-50 of torchvision with random statistics and another classifier."""
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
def file(reference: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(reference.state_dict(), path)
    return path


def test_image_features_equal_those_of_torchvision(reference: nn.Module, file: Path) -> None:
    net = ImageResNet50(pooling="avg", last_stride=2).eval()
    load_imagenet(net, str(file))
    images = torch.randn(2, 3, 64, 48)
    with torch.inference_mode():
        features = net.globalpooling(net.base(images))
        torch.testing.assert_close(reference.get_submodule("fc")(features), reference(images))


@pytest.mark.parametrize("name", VIDEO_NETWORKS)
def test_a_clip_of_equal_frames_has_the_features_of_the_image(name: str, file: Path) -> None:
    image_net = NETWORKS["resnet50"](pooling="max").eval()
    clip_net = NETWORKS[name]().eval()
    load_imagenet(image_net, str(file))
    load_imagenet(clip_net, str(file))
    clip_net.bn.load_state_dict(image_net.bn.state_dict())
    image = torch.randn(1, 3, 48, 32)
    with torch.inference_mode():
        torch.testing.assert_close(
            clip_net(image[:, :, None].expand(-1, -1, 3, -1, -1)),
            image_net(image),
            rtol=1e-4,
            atol=1e-5,
        )


def test_outer_slices_of_inflated_kernels_are_zero(file: Path) -> None:
    net = NETWORKS["i3dres50"]()
    weight: Tensor = net.get_parameter("layer2.0.conv2.conv3d.weight")
    nn.init.ones_(weight)
    load_imagenet(net, str(file))
    assert not weight[:, :, [0, 2]].any() and weight[:, :, 1].any()


def test_files_without_step_counters_are_loaded(reference: nn.Module, tmp_path: Path) -> None:
    state = {k: v for k, v in reference.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pth")
    net = NETWORKS["resnet50"]()
    load_imagenet(net, str(tmp_path / "old.pth"))
    torch.testing.assert_close(net.state_dict()["base.0.weight"], state["conv1.weight"])


@pytest.mark.parametrize("change", ["missing", "misshapen", "unknown", "no tensor"])
def test_weights_of_another_network_are_an_error(
    change: str, reference: nn.Module, tmp_path: Path
) -> None:
    state: dict[str, object] = dict(reference.state_dict())
    key = "layer3.5.conv2.weight"
    if change == "missing":
        del state[key]
    elif change == "unknown":
        state[key := "layer3.6.conv2.weight"] = torch.zeros(1)
    else:
        state[key] = torch.zeros(256, 256, 1, 1) if change == "misshapen" else "weights"
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(
        UserError, match=f"other.pth .MODEL.BACKBONE, --init. is not a ResNet-50.*{key}"
    ):
        load_imagenet(NETWORKS["resnet50"](), str(tmp_path / "other.pth"))


def test_a_failed_download_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no\nroute")

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", unreachable)
    with pytest.raises(UserError, match="could not be downloaded: no route") as caught:
        load_imagenet(NETWORKS["resnet50"](), "imagenet")
    assert "MODEL.BACKBONE" in caught.value.hint
