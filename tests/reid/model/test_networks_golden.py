"""The networks and classifiers against the recorded numbers."""

from typing import Any

import numpy as np
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


def build(name: str) -> nn.Module:
    """Build the network of a recorded name: a network and its changed settings."""
    network, *settings = name.split("_")
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
    return NETWORKS[network](**options)


@pytest.mark.parametrize("stem", RECORDED)
def test_every_recorded_network_is_compared(stem: str) -> None:
    recorded = facts("ccreid", stem)["models"]
    assert set(recorded) - {"classifiers"} == set(MODELS)


@pytest.mark.parametrize("stem", RECORDED)
def test_weights_and_inputs_equal_the_recorded(stem: str) -> None:
    check = facts("ccreid", stem)["recipe_check"]
    inputs = check.pop("__inputs__")
    assert check and inputs
    rebuilt = [(det_array(key, tuple(fact["shape"])), fact) for key, fact in check.items()]
    rebuilt += [(det_input(key, tuple(fact["shape"])), fact) for key, fact in inputs.items()]
    for array, fact in rebuilt:
        first = fact["first4"]
        np.testing.assert_array_equal(array.ravel()[: len(first)], np.float32(first))
        # float32 sums differ in their last digits with the order of summation
        size = np.abs(array).sum(dtype=np.float64)
        assert abs(array.sum(dtype=np.float64) - fact["sum"]) <= 1e-6 * size


@pytest.mark.parametrize("name", MODELS if isinstance(RECORDED[0], str) else RECORDED)
def test_features_stages_and_gradients_equal_the_recorded(name: str) -> None:
    recorded, expected = facts("ccreid", "models")["models"][name], arrays("ccreid", "models")
    net = build(name)
    fill(net)
    net.eval()
    inputs = torch.from_numpy(det_input(recorded["input_name"], tuple(recorded["input_shape"])))
    stages: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, stage=stage: stages.update({stage: out}))
        for stage, modules in STEM_AND_STAGES.items()
        for module_name, module in net.named_modules()
        if module_name in modules
    ]
    with torch.inference_mode():
        feature = net(inputs).numpy()
    for hook in hooks:
        hook.remove()
    reference = expected[f"{name}/feature"]
    assert feature.shape == reference.shape
    assert np.abs(feature - reference).max() / np.abs(reference).max() <= FLOAT32.get(name, 5e-6)
    assert set(recorded["stages"]) == set(stages)
    for stage, fact in recorded["stages"].items():
        output = stages[stage]
        assert list(output.shape) == fact["shape"], stage
        bound = 1e-4 * fact["absmax"]
        first = output.flatten()[: len(fact["first8"])]
        torch.testing.assert_close(first, torch.tensor(fact["first8"]), rtol=0, atol=bound)
        assert output.double().mean().item() == pytest.approx(fact["mean"], abs=bound)

    net.double()
    inputs = inputs.double().requires_grad_()
    feature64 = net(inputs)
    reference = expected[f"{name}/feature64"]
    in_double = feature64[:, : reference.shape[1]].detach().numpy()
    np.testing.assert_allclose(in_double, reference, rtol=1e-9, atol=1e-9)
    weights = torch.from_numpy(det_input(f"{name}:proj", tuple(feature64.shape))).double()
    loss = (feature64 * weights).sum() / feature64.numel() ** 0.5
    loss.backward()
    assert loss.item() == pytest.approx(recorded["proj_loss_f64"], rel=1e-6)
    assert inputs.grad is not None
    norm = inputs.grad.norm().item()
    assert norm == pytest.approx(recorded["input_grad_l2_f64"], rel=1e-6)
    norms = {k: v.grad.norm().item() for k, v in net.named_parameters() if v.grad is not None}
    recorded_norms = recorded["param_grad_l2_f64"]
    assert recorded_norms and set(norms) == set(recorded_norms)
    floor = 1e-6 * max(recorded_norms.values())
    compared = {key: value for key, value in recorded_norms.items() if value > floor}
    assert compared and {key: norms[key] for key in compared} == pytest.approx(compared, rel=1e-6)


@pytest.mark.parametrize("name", MODELS if isinstance(RECORDED[0], str) else RECORDED)
def test_entries_of_the_state_dict_and_their_counts_equal_the_recorded(name: str) -> None:
    net = build(name)
    state = net.state_dict()
    entries = [[k, list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in state.items()]
    assert entries == manifest("ccreid", "manifests/state_dict_manifest.json")[name]
    assert {
        "params": sum(value.numel() for value in net.parameters()),
        "state_entries": len(state),
        "buffers": sum(value.numel() for value in net.buffers()),
        "trainable_tensors": sum(value.requires_grad for value in net.parameters()),
    } == manifest("ccreid", "manifests/param_counts.json")[name]


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_entries_of_the_classifiers_and_their_counts_equal_the_recorded(kind: str) -> None:
    keys = manifest("ccreid", "manifests/state_dict_manifest.json")
    counts = manifest("ccreid", "manifests/param_counts.json")
    names = [name for name in keys if name.startswith(f"{kind}_")]
    assert names
    for name in names:
        classifier = CLASSIFIERS[kind](*map(int, name.removeprefix(f"{kind}_").split("x")))
        shapes = [[key, list(value.shape)] for key, value in classifier.state_dict().items()]
        assert shapes == [entry[:2] for entry in keys[name]]
        assert sum(p.numel() for p in classifier.parameters()) == counts[name]["params"]


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("stem", RECORDED)
def test_outputs_and_gradients_of_the_classifiers_equal_the_recorded(stem: str, kind: str) -> None:
    recorded, short = arrays("ccreid", stem), SHORT[kind]
    batch, classes = recorded[f"{short}/out"].shape
    features = recorded["normclassifier/grad_x"].shape[1]
    classifier = CLASSIFIERS[kind](features, classes)
    fill(classifier, PREFIXES[kind])
    x = torch.from_numpy(det_input("clsfeat", (batch, features))).requires_grad_()
    out = classifier(x)
    results = {"out": out.detach()}
    if kind == "NormalizedClassifier":
        weights = torch.from_numpy(det_input("clsproj", tuple(out.shape)))
        torch.autograd.backward((out * weights).sum())
        (weight,) = classifier.parameters()
        assert x.grad is not None and weight.grad is not None
        results |= {"grad_x": x.grad, "grad_w": weight.grad}
    for name, value in results.items():
        rtol = 1e-5 if name == "out" else 1e-4
        np.testing.assert_allclose(value, recorded[f"{short}/{name}"], rtol=rtol, atol=1e-6)
