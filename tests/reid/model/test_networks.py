"""The networks: outputs recorded from the original, any sizes, poolings, heads."""

from typing import Any

import pytest
import torch

from ffreid.reid.model import IMAGE_NETWORKS, NETWORKS, VIDEO_NETWORKS
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from ffreid.reid.model.image import POOLINGS
from tests.reid.synthetic_weights import det_input, fill

RECORDED: list[tuple[str, dict[str, Any], tuple[str, tuple[int, ...]], list[float]]] = [
    (
        "resnet50",
        {"pooling": "gem"},
        ("img", (2, 3, 128, 64)),
        [1.74385793, 0.76289669, 2.52969201, 0.65055010],
    ),
    (
        "ap3dnlres50",
        {},
        ("vid", (1, 3, 4, 128, 64)),
        [18.15279069, 22.01173282, 8.89684603, 8.26372614],
    ),
    ("i3dres50", {}, ("vid", (1, 3, 4, 128, 64)), [0.73883120, 3.74124278, 0.96438750, 2.67068788]),
]
PARAMETERS = {
    "resnet50": 23_516_224,
    "c2dres50": 23_512_128,
    "i3dres50": 27_640_896,
    "ap3dres50": 24_243_328,
    "nlres50": 30_870_592,
    "ap3dnlres50": 31_601_792,
}


@pytest.mark.parametrize(("name", "options", "inputs", "expected"), RECORDED)
def test_features_are_those_of_the_original(
    name: str, options: dict[str, Any], inputs: tuple[str, tuple[int, ...]], expected: list[float]
) -> None:
    net = NETWORKS[name](**options).eval()
    fill(net, split="public")
    with torch.inference_mode():
        features = net(torch.from_numpy(det_input(*inputs, split="public")))
    torch.testing.assert_close(features[-1, :4], torch.tensor(expected), rtol=0, atol=2e-4)


def test_parameters_are_as_many_as_the_originals() -> None:
    with torch.device("meta"):
        made = {name: make() for name, make in NETWORKS.items()}
    counted = {name: sum(p.numel() for p in net.parameters()) for name, net in made.items()}
    assert counted == PARAMETERS


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_of_pictures_are_as_long_as_feature_dim_says(pooling: str) -> None:
    net = IMAGE_NETWORKS["resnet50"](pooling=pooling).eval()
    with torch.inference_mode():
        assert net(torch.randn(2, 3, 40, 24)).shape == (2, net.feature_dim)


@pytest.mark.parametrize("size", [(1, 33, 35), (3, 32, 48)])
@pytest.mark.parametrize("name", VIDEO_NETWORKS)
def test_clips_may_have_any_length_and_size(name: str, size: tuple[int, int, int]) -> None:
    net = VIDEO_NETWORKS[name]().eval()
    with torch.inference_mode():
        features = net(torch.randn(2, 3, *size))
    assert features.shape == (2, net.feature_dim)
    assert features.isfinite().all()


@pytest.mark.parametrize(("stride", "expected"), [(1, (4, 2)), (2, (2, 1))])
def test_the_last_stride_sets_the_size_of_the_last_map(
    stride: int, expected: tuple[int, int]
) -> None:
    net = IMAGE_NETWORKS["resnet50"](last_stride=stride).eval()
    with torch.inference_mode():
        assert net.base(torch.randn(1, 3, 64, 32)).shape[2:] == expected


def test_generalised_mean_is_its_formula() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    pooled = POOLINGS["gem"](2.5).double()(x)
    powers = x.clamp(min=1e-6).pow(2.5).sum((2, 3)) / 20
    torch.testing.assert_close(pooled, powers.pow(1 / 2.5))


def test_generalised_mean_learns_its_power() -> None:
    pooling = POOLINGS["gem"](3.0)
    pooling(torch.rand(1, 2, 3, 3)).sum().backward()
    (power,) = pooling.parameters()
    assert power.grad is not None and power.grad.item() != 0.0


def test_largest_values_come_before_the_means() -> None:
    x = torch.randn(2, 3, 4, 5)
    pooled = POOLINGS["maxavg"](0.0)(x)
    torch.testing.assert_close(pooled, torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))


def test_clips_are_pooled_by_largest_value_then_mean_over_frames() -> None:
    net = VIDEO_NETWORKS["c2dres50"]().eval()
    maps = torch.randn(2, net.feature_dim, 3, 4, 2)
    net.layer4 = torch.nn.Sequential(_Constant(maps))
    with torch.inference_mode():
        features = net(torch.randn(2, 3, 3, 32, 32))
        torch.testing.assert_close(features, net.bn(maps.amax((3, 4)).mean(2)))


def test_cosine_classifier_gives_the_originals_outputs() -> None:
    classifier = NormalizedClassifier(64, 13)
    fill(classifier, "clothes_classifier.", "public")
    cosines = classifier(torch.from_numpy(det_input("clsfeat", (5, 64), "public")))
    expected = torch.tensor([0.13421345, -0.06157864, -0.23070830, -0.06417922])
    torch.testing.assert_close(cosines[0, :4], expected)


def test_cosine_classifier_gives_cosines_whatever_the_lengths() -> None:
    classifier = NormalizedClassifier(8, 5)
    features = torch.randn(3, 8)
    expected = torch.cosine_similarity(features[:, None], classifier.weight[None], dim=2)
    torch.testing.assert_close(classifier(7.0 * features), expected)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_cosine_classifier_computes_in_float32_whatever_autocast_does(kind: torch.dtype) -> None:
    classifier, features = NormalizedClassifier(64, 13), torch.randn(5, 64).to(kind)
    expected = classifier(features.float())
    with torch.autocast("cpu", torch.bfloat16):
        cosines = classifier(features)
    assert cosines.dtype == torch.float32
    torch.testing.assert_close(cosines, expected, rtol=0, atol=1e-6)


def test_cosine_classifier_starts_with_unit_vectors() -> None:
    torch.testing.assert_close(NormalizedClassifier(8, 5).weight.norm(dim=1), torch.ones(5))


def test_linear_classifier_starts_small_and_without_bias() -> None:
    layer = Classifier(256, 64).classifier
    assert layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not layer.bias.any()


class _Constant(torch.nn.Module):
    """Gives the same tensor whatever comes in."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.value
