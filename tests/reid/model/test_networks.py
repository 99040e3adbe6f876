"""The networks: recorded outputs, input sizes, poolings and classifiers."""

from typing import Any

import pytest
import torch

from ffreid.reid.defaults import VIDEO_NETWORKS
from ffreid.reid.model import NETWORKS
from ffreid.reid.model.classifier import NormalizedClassifier
from tests.reid.synthetic_weights import det_input, fill

# Options, size of the input, and the first features of the last item.
RECORDED: dict[str, tuple[dict[str, Any], tuple[int, ...], list[float]]] = {
    "resnet50": (
        {"pooling": "gem"},
        (2, 3, 128, 64),
        [1.74385793, 0.76289669, 2.52969201, 0.65055010],
    ),
    "ap3dnlres50": ({}, (1, 3, 4, 128, 64), [18.15279069, 22.01173282, 8.89684603, 8.26372614]),
    "i3dres50": ({}, (1, 3, 4, 128, 64), [0.73883120, 3.74124278, 0.96438750, 2.67068788]),
}
PARAMETERS = {
    "resnet50": 23_516_224,
    "c2dres50": 23_512_128,
    "i3dres50": 27_640_896,
    "ap3dres50": 24_243_328,
    "nlres50": 30_870_592,
    "ap3dnlres50": 31_601_792,
}


@pytest.mark.parametrize("name", RECORDED)
def test_features_equal_the_recorded(name: str) -> None:
    options, size, expected = RECORDED[name]
    net = NETWORKS[name](**options).eval()
    fill(net, split="public")
    inputs = det_input("img" if len(size) == 4 else "vid", size, split="public")
    with torch.inference_mode():
        features = net(torch.from_numpy(inputs))
    torch.testing.assert_close(features[-1, :4], torch.tensor(expected), rtol=0, atol=2e-4)


def test_numbers_of_parameters_equal_the_recorded() -> None:
    with torch.device("meta"):
        nets = {name: make() for name, make in NETWORKS.items()}
    counts = {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}
    assert counts == PARAMETERS


@pytest.mark.parametrize("size", [(1, 33, 35), (3, 32, 48)])
@pytest.mark.parametrize("name", VIDEO_NETWORKS)
def test_clips_may_have_any_length_and_size(name: str, size: tuple[int, int, int]) -> None:
    net = NETWORKS[name]().eval()
    with torch.inference_mode():
        features = net(torch.randn(2, 3, *size))
    assert features.shape == (2, net.feature_dim)
    assert features.isfinite().all()


def test_output_of_the_cosine_classifier_equals_the_recorded() -> None:
    classifier = NormalizedClassifier(64, 13)
    fill(classifier, "clothes_classifier.", "public")
    cosines = classifier(torch.from_numpy(det_input("clsfeat", (5, 64), "public")))
    expected = torch.tensor([0.13421345, -0.06157864, -0.23070830, -0.06417922])
    torch.testing.assert_close(cosines[0, :4], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cosines_are_computed_in_float32_also_under_autocast(dtype: torch.dtype) -> None:
    classifier, features = NormalizedClassifier(64, 13), 7.0 * torch.randn(5, 64).to(dtype)
    expected = torch.cosine_similarity(features.float()[:, None], classifier.weight[None], dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        cosines = classifier(features)
    assert cosines.dtype == torch.float32
    torch.testing.assert_close(cosines, expected, rtol=0, atol=1e-6)
