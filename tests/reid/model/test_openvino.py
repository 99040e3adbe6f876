"""OpenVINO computes what torch computes, or is refused."""

import sys

import pytest
import torch
from torch import nn

from ffreid.errors import UserError
from ffreid.reid.model import NETWORKS
from ffreid.reid.model.openvino import OpenVinoNetwork
from ffreid.reid.model.resnet import Bottleneck

openvino = pytest.importorskip("openvino")


def small(net: nn.Module) -> nn.Module:
    """Keep one block of each stage, which compiles faster."""
    for module in list(net.modules()):
        for name, stage in list(module.named_children()):
            if isinstance(stage, nn.Sequential) and isinstance(stage[0], Bottleneck):
                setattr(module, name, nn.Sequential(stage[0]))
    return net.eval()


@pytest.mark.parametrize(
    ("name", "shape"), [("resnet50", (3, 3, 64, 32)), ("c2dres50", (3, 3, 2, 64, 32))]
)
def test_features_are_those_of_torch_for_full_and_smaller_batches(
    name: str, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    net = small(NETWORKS[name]())
    images = torch.randn(shape)
    compiled = OpenVinoNetwork(net, "fp32")
    with torch.no_grad():
        expected = net(images)
    scale = expected.abs().max()
    for count in (3, 2, 3):
        found = compiled(images[:count])
        assert (found - expected[:count]).abs().max() < 1e-5 * scale
    if images.dim() == 5:
        return
    half = OpenVinoNetwork(net, "bf16")(images)
    assert torch.nn.functional.cosine_similarity(half, expected).min() > 0.999


def test_wrong_features_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ffreid.reid.model.openvino._infer", lambda request, images, size: -images.flatten(1)
    )
    with pytest.raises(UserError, match=r"other features than torch: their cosine is -1\.0"):
        OpenVinoNetwork(nn.Sequential(nn.Flatten(), Scale()), "fp32")(torch.randn(2, 3, 4, 4))


class Scale(nn.Module):
    """A network with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def test_double_precision_and_a_missing_package_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match=r"in float32, not on cpu in torch\.float64"):
        OpenVinoNetwork(Scale().double(), "fp32")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="needs another package") as error:
        OpenVinoNetwork(Scale(), "fp32")
    assert "pip install 'ffreid[openvino]'" in error.value.hint
