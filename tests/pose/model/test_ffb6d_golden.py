"""The network against outputs recorded from the original."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ffreid.pose.model.compiled import CompiledFFB6D
from ffreid.pose.model.ffb6d import FFB6D, Outputs
from tests.golden import arrays, facts, manifest, recordings
from tests.pose.model.recipes import as_inputs, fill, raw_inputs, strided, without_dropout

pytestmark = pytest.mark.golden
CASES = recordings("ffb6d", "net_*.npz")
TOLERANCE = {"eval": 1e-4, "train": 2e-2, "train64": 1e-5}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """One recording with its weights and inputs rebuilt; `net` still in evaluation mode."""
    meta = facts("ffb6d", request.param)
    raw = raw_inputs(
        meta["seed"], meta["bs"], meta["h"], meta["w"], meta["n_pts"], meta["n_classes"]
    )
    net = FFB6D(meta["n_classes"])
    fill(net, meta["salt"])
    without_dropout(net)
    yield {"stem": request.param, "meta": meta, "raw": raw, "net": net}


def _run(case: dict[str, Any], mode: str) -> Outputs:
    net = FFB6D(case["meta"]["n_classes"])
    net.load_state_dict(case["net"].state_dict())
    without_dropout(net)
    net.train(mode != "eval")
    dtype = torch.float64 if mode == "train64" else torch.float32
    case["trained"] = net.to(dtype)
    with torch.no_grad():
        result: Outputs = net(as_inputs(case["raw"]).to(torch.device("cpu"), dtype))
    return result


def test_the_recipe_rebuilds_the_recorded_inputs_and_weights(case: dict[str, Any]) -> None:
    for key, digest in case["meta"]["input_sha256"].items():
        assert hashlib.sha256(case["raw"][key].tobytes()).hexdigest() == digest, key
    state = case["net"].state_dict()
    for key, norm in case["meta"]["weight_l2"].items():
        # the recorded sums were taken in an unknown order: compare to float32 accuracy
        assert state[key].double().norm().item() == pytest.approx(norm, rel=1e-5), key


@pytest.mark.parametrize("mode", TOLERANCE)
def test_outputs_are_the_recorded_ones(case: dict[str, Any], mode: str) -> None:
    recorded = {
        key.split("/")[1]: value
        for key, value in arrays("ffb6d", case["stem"]).items()
        if key.split("/")[0] == mode
    }
    if not recorded:
        pytest.skip(f"{case['stem']} holds no {mode} outputs")
    ours = strided(_run(case, mode), case["meta"]["point_stride"])
    for name, value in recorded.items():
        np.testing.assert_allclose(ours[name].numpy(), value, rtol=0, atol=TOLERANCE[mode])


def test_outputs_of_the_compiled_network_are_the_recorded_ones(case: dict[str, Any]) -> None:
    recorded = {k: v for k, v in arrays("ffb6d", case["stem"]).items() if k.startswith("eval/")}
    if not recorded:
        pytest.skip(f"{case['stem']} holds no eval outputs")
    outputs = CompiledFFB6D(case["net"])(as_inputs(case["raw"]).to(torch.device("cpu")))
    ours = strided(outputs, case["meta"]["point_stride"])
    for name, value in recorded.items():
        np.testing.assert_allclose(ours[name.split("/")[1]], value, rtol=0, atol=TOLERANCE["eval"])


def test_running_statistics_after_a_training_forward(case: dict[str, Any]) -> None:
    recorded = case["meta"].get("running_after_train_forward")
    if not recorded:
        pytest.skip(f"{case['stem']} holds no running statistics")
    _run(case, "train")
    state = case["trained"].state_dict()
    for key, value in recorded.items():
        assert state[key].double().norm().item() == pytest.approx(value["l2"], rel=2e-2), key


@pytest.mark.parametrize("classes", [2, 22])
def test_state_dict_has_the_originals_entries_in_order(classes: int) -> None:
    expected = manifest("ffb6d", f"state_dict_manifest_{classes}.json")
    net = FFB6D(classes)
    entries = [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in net.state_dict().items()
    ]
    assert entries == expected["entries"]
    assert sum(p.numel() for p in net.parameters()) == expected["n_params"]


def test_layers_have_the_originals_constants() -> None:
    expected = manifest("ffb6d", "module_attrs_22.json")
    net = FFB6D(22)
    checked = 0
    for name, facts_ in expected.items():
        if not facts_["type"].startswith(("BatchNorm", "Dropout", "Conv")):
            continue
        module: Any = net.get_submodule(name)
        if facts_["type"].startswith("BatchNorm"):
            assert (module.eps, module.momentum) == (facts_["eps"], facts_["momentum"]), name
        elif facts_["type"].startswith("Dropout"):
            assert module.p == facts_["p"], name
        else:
            assert list(module.kernel_size) == facts_["k"], name
            assert list(module.stride) == facts_["s"], name
            assert list(module.dilation) == facts_["d"], name
        checked += 1
    assert checked > 200
