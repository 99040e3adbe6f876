"""The networks and classifiers against the numbers recorded from the original."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from ffreid.reid.model import NETWORKS
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from ffreid.reid.model.image import POOLINGS
from tests.golden import arrays, facts, manifest, recordings
from tests.reid.synthetic_weights import det_array, det_input, fill

pytestmark = pytest.mark.golden
RECORDED = recordings("ccreid", "models.npz")
MODELS = [
    "resnet50_maxavg",
    "resnet50_avg",
    "resnet50_max",
    "resnet50_gem",
    "resnet50_maxavg_stride2",
    "c2dres50",
    "i3dres50",
    "ap3dres50",
    "ap3dres50_T1_noatt",
    "nlres50",
    "ap3dnlres50",
]
FLOAT32 = {"nlres50": 1e-5, "ap3dnlres50": 5e-5}
STEM_AND_STAGES = {
    "stem": ("base.3", "maxpool"),
    **{f"layer{stage}": (f"base.{stage + 3}", f"layer{stage}") for stage in range(1, 5)},
}
CLASSIFIERS = {"Classifier": Classifier, "NormalizedClassifier": NormalizedClassifier}
SHORT = {"Classifier": "classifier", "NormalizedClassifier": "normclassifier"}
PREFIXES = {"Classifier": "identity_classifier.", "NormalizedClassifier": "clothes_classifier."}


@dataclass
class Run:
    """A network's results beside what was recorded of it."""

    name: str
    recorded: dict[str, Any]
    feature: Tensor
    stages: dict[str, Tensor]
    feature64: Tensor
    loss64: float
    gradients64: dict[str, Tensor]
    input_gradient64: Tensor


def build(name: str) -> nn.Module:
    """The network of a recorded name: its own name, then the settings that differ."""
    known, *settings = name.split("_")
    options: dict[str, Any] = {}
    for setting in settings:
        if setting in POOLINGS:
            options["pooling"] = setting
        elif setting.startswith("stride"):
            options["last_stride"] = int(setting.removeprefix("stride"))
        elif setting == "noatt":
            options["contrastive_attention"] = False
        else:
            assert setting.startswith("T"), setting
            options["temperature"] = float(setting.removeprefix("T"))
    return NETWORKS[known](**options)


@pytest.fixture(scope="module", params=MODELS if isinstance(RECORDED[0], str) else RECORDED)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    name: str = request.param
    recorded = facts("ccreid", "models")["models"][name]
    net = build(name)
    fill(net)
    net.eval()
    inputs = torch.from_numpy(det_input(recorded["input_name"], tuple(recorded["input_shape"])))
    stages: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, stage=stage: stages.update({stage: out}))
        for stage, names in STEM_AND_STAGES.items()
        for own, module in net.named_modules()
        if own in names
    ]
    with torch.inference_mode():
        feature = net(inputs)
    for hook in hooks:
        hook.remove()
    net.double()
    inputs64 = inputs.double().requires_grad_()
    feature64 = net(inputs64)
    weights = torch.from_numpy(det_input(f"{name}:proj", tuple(feature64.shape))).double()
    loss = (feature64 * weights).sum() / feature64.numel() ** 0.5
    loss.backward()
    assert inputs64.grad is not None
    gradients = {key: value.grad for key, value in net.named_parameters() if value.grad is not None}
    yield Run(
        name, recorded, feature, stages, feature64.detach(), loss.item(), gradients, inputs64.grad
    )


@pytest.mark.parametrize("stem", RECORDED)
def test_every_recorded_network_is_compared(stem: str) -> None:
    recorded = facts("ccreid", stem)["models"]
    assert set(recorded) - {"classifiers"} == set(MODELS)


@pytest.mark.parametrize("stem", RECORDED)
def test_the_recipe_gives_the_recorded_weights_and_inputs(stem: str) -> None:
    check = facts("ccreid", stem)["recipe_check"]
    inputs = check.pop("__inputs__")
    assert check and inputs
    made = [(det_array(key, tuple(fact["shape"])), fact) for key, fact in check.items()]
    made += [(det_input(key, tuple(fact["shape"])), fact) for key, fact in inputs.items()]
    for array, fact in made:
        first = fact["first4"]
        np.testing.assert_array_equal(array.ravel()[: len(first)], np.float32(first))
        # float32 sums differ in their last digits with the order of summation
        size = np.abs(array).sum(dtype=np.float64)
        assert abs(array.sum(dtype=np.float64) - fact["sum"]) <= 1e-6 * size


def test_features_in_double_precision_are_the_recorded_ones(run: Run) -> None:
    expected = arrays("ccreid", "models")[f"{run.name}/feature64"]
    ours = run.feature64[:, : expected.shape[1]].numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


def test_features_in_single_precision_are_close_to_the_recorded_ones(run: Run) -> None:
    expected = arrays("ccreid", "models")[f"{run.name}/feature"]
    assert run.feature.shape == expected.shape
    difference = np.abs(run.feature.numpy() - expected).max() / np.abs(expected).max()
    assert difference <= FLOAT32.get(run.name, 5e-6)


def test_stages_have_the_recorded_shapes_and_values(run: Run) -> None:
    assert set(run.recorded["stages"]) == set(run.stages)
    for stage, fact in run.recorded["stages"].items():
        ours = run.stages[stage]
        assert list(ours.shape) == fact["shape"], stage
        bound = 1e-4 * fact["absmax"]
        first = ours.flatten()[: len(fact["first8"])]
        torch.testing.assert_close(first, torch.tensor(fact["first8"]), rtol=0, atol=bound)
        assert ours.double().mean().item() == pytest.approx(fact["mean"], abs=bound)


def test_gradients_of_the_weights_are_the_recorded_ones(run: Run) -> None:
    expected = run.recorded["param_grad_l2_f64"]
    assert expected and set(run.gradients64) == set(expected)
    floor = 1e-6 * max(expected.values())
    ours = {key: value.norm().item() for key, value in run.gradients64.items()}
    compared = [key for key, value in expected.items() if value > floor]
    assert compared
    assert {key: ours[key] for key in compared} == pytest.approx(
        {key: expected[key] for key in compared}, rel=1e-6
    )


def test_the_projection_and_its_input_gradient_are_the_recorded_ones(run: Run) -> None:
    assert run.loss64 == pytest.approx(run.recorded["proj_loss_f64"], rel=1e-6)
    norm = run.input_gradient64.norm().item()
    assert norm == pytest.approx(run.recorded["input_grad_l2_f64"], rel=1e-6)


def test_keys_their_order_and_shapes_are_the_originals(run: Run) -> None:
    expected = manifest("ccreid", "manifests/state_dict_manifest.json")[run.name]
    ours = build(run.name).state_dict()
    described = [[k, list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in ours.items()]
    assert described == expected


def test_counts_are_the_originals(run: Run) -> None:
    expected = manifest("ccreid", "manifests/param_counts.json")[run.name]
    net = build(run.name)
    assert {
        "params": sum(value.numel() for value in net.parameters()),
        "state_entries": len(net.state_dict()),
        "buffers": sum(value.numel() for value in net.buffers()),
        "trainable_tensors": sum(value.requires_grad for value in net.parameters()),
    } == expected


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifiers_have_the_originals_keys_and_counts(kind: str) -> None:
    keys = manifest("ccreid", "manifests/state_dict_manifest.json")
    counts = manifest("ccreid", "manifests/param_counts.json")
    found = [name for name in keys if name.startswith(f"{kind}_")]
    assert found
    for name in found:
        features, classes = map(int, name.removeprefix(f"{kind}_").split("x"))
        made = CLASSIFIERS[kind](features, classes)
        shapes = [[key, list(value.shape)] for key, value in made.state_dict().items()]
        assert shapes == [entry[:2] for entry in keys[name]]
        assert sum(p.numel() for p in made.parameters()) == counts[name]["params"]


def classified(stem: str, kind: str) -> tuple[Tensor, Tensor, nn.Module, dict[str, Any]]:
    """Inputs that want gradients, the outputs, the classifier and the recorded arrays."""
    recorded: dict[str, npt.NDArray[Any]] = arrays("ccreid", stem)
    short = SHORT[kind]
    batch, classes = recorded[f"{short}/out"].shape
    features = recorded["normclassifier/grad_x"].shape[1]
    made = CLASSIFIERS[kind](features, classes)
    fill(made, PREFIXES[kind])
    x = torch.from_numpy(det_input("clsfeat", (batch, features))).requires_grad_()
    ours = {key: value for key, value in recorded.items() if key.startswith(f"{short}/")}
    return x, made(x), made, {key.partition("/")[2]: value for key, value in ours.items()}


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("stem", RECORDED)
def test_classifier_outputs_are_the_recorded_ones(stem: str, kind: str) -> None:
    _, out, _, recorded = classified(stem, kind)
    np.testing.assert_allclose(out.detach().numpy(), recorded["out"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stem", RECORDED)
def test_cosine_classifier_gradients_are_the_recorded_ones(stem: str) -> None:
    x, out, made, recorded = classified(stem, "NormalizedClassifier")
    weights = torch.from_numpy(det_input("clsproj", tuple(out.shape)))
    torch.autograd.backward((out * weights).sum())
    (weight,) = made.parameters()
    assert x.grad is not None and weight.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), recorded["grad_x"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(weight.grad.numpy(), recorded["grad_w"], rtol=1e-4, atol=1e-6)
