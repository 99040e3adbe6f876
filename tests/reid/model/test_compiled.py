"""The networks for evaluation against the trainable ones."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid import build
from ffreid.reid.model import NETWORKS
from ffreid.reid.model.compiled import CompiledResNet50
from ffreid.reid.model.image import POOLINGS

SHAPES = dict.fromkeys(NETWORKS, (3, 3, 4, 64, 48)) | {"resnet50": (10, 3, 64, 48)}
CASES: list[tuple[str, dict[str, object]]] = [(name, {}) for name in NETWORKS]
CASES += [("resnet50", {"pooling": pooling, "last_stride": 2}) for pooling in POOLINGS]


def trained(net: nn.Module) -> nn.Module:
    """Random parameters and statistics everywhere, also where training starts from zeros."""
    draw = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0.0, 0.1, generator=draw)
            module.running_var.uniform_(0.5, 1.5, generator=draw)
            nn.init.uniform_(module.weight, 0.2, 0.6, generator=draw)
        elif isinstance(module, nn.Conv3d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02, generator=draw)
    return net.eval()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_features_are_those_of_the_trainable_network(name: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    net, images = trained(NETWORKS[name](**options)), torch.randn(SHAPES[name])
    with torch.inference_mode():
        expected = net(images)
        single = CompiledResNet50(net, torch.float32)(images)  # type: ignore[arg-type]
        half = CompiledResNet50(net, torch.bfloat16)(images)  # type: ignore[arg-type]
    assert single.shape == expected.shape
    assert single.dtype == half.dtype == torch.float32
    assert (single - expected).abs().max() < 2e-6 * expected.abs().max()
    assert cosine_similarity(half, expected).min() > 0.9999


def test_what_evaluates_follows_from_the_settings() -> None:
    torch.manual_seed(0)
    single, half = (compose("ltcc", pairs=["TEST.PRECISION", name]) for name in ("fp32", "bf16"))
    net = NETWORKS["resnet50"]().eval()
    weight = net.get_parameter("base.0.weight").detach().clone()
    for cfg, kind in ((single, torch.float32), (half, torch.bfloat16)):
        compiled = build.for_evaluation(cfg, net)
        assert isinstance(compiled, CompiledResNet50)
        assert compiled.dtype == kind
    assert torch.equal(net.get_parameter("base.0.weight"), weight)
    hook = net.get_submodule("bn").register_forward_hook(lambda *_: None)
    assert build.for_evaluation(single, net) is net
    hook.remove()
    assert build.for_evaluation(single, net.double()) is net
    with pytest.raises(UserError, match=r"ResNet-50 in float32, not .* torch\.float64"):
        build.for_evaluation(half, net)
