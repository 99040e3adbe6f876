"""The contents of checkpoints are identified without their file names."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ffreid.engine.checkpoints.contents import (
    describe_origin,
    identify,
    role_of,
    settings_as_yaml,
    strip_prefixes,
)
from tests.fuzz import is_equal
from tests.old_files import AMP, adam, lightning, prefixed


def tiny() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def state() -> dict[str, Tensor]:
    return dict(tiny().state_dict())


@pytest.mark.parametrize(
    "removed",
    [(), ("module.",), ("module.",) * 2, ("_orig_mod.",), ("model.", "_orig_mod.", "module.")],
)
def test_prefixes_of_all_keys_are_removed(removed: tuple[str, ...]) -> None:
    stripped, prefixes = strip_prefixes(prefixed(state(), "".join(removed)))
    assert is_equal(stripped, state())
    assert prefixes == removed


def test_wrappers_of_a_submodule_are_removed_unless_keys_would_collide() -> None:
    keys = {"base.module.0.weight": torch.ones(1), "bn.weight": torch.ones(1)}
    stripped, prefixes = strip_prefixes(keys)
    assert (list(stripped), prefixes) == (["base.0.weight", "bn.weight"], ("…module.",))
    keys = {"a.module.weight": torch.ones(1), "a.weight": torch.zeros(1)}
    assert strip_prefixes(keys) == (keys, ())


WRAPPED: dict[str, Any] = {
    "bare": lambda state: state,
    "ddp": lambda state: prefixed(state, "module."),
    "state_dict": lambda state: {"state_dict": state},
    "model_state": lambda state: {"model_state": prefixed(state, "module.module.")},
    "nested": lambda state: {"checkpoint": {"model": state}},
    "lightning": lightning,
    "ddp in lightning": lambda state: lightning(state, prefix="model.module."),
    "average": lambda _: torch.optim.swa_utils.AveragedModel(tiny()).state_dict(),
}


@pytest.mark.parametrize("form", WRAPPED)
def test_every_wrapper_gives_the_same_weights(form: str) -> None:
    contents = identify(WRAPPED[form](state()))
    assert is_equal(contents.weights["model"], state())
    assert form != "average" or contents.numbers == {"n_averaged": 0}


def test_a_bare_state_dict_may_have_other_entries() -> None:
    contents = identify({**state(), "epoch": 3, "arch": "tiny"})
    assert is_equal(contents.weights["model"], state())
    assert (contents.kind, contents.numbers) == ("a bare state dict", {"epoch": 3})
    assert contents.dropped == [("arch", "text: neither weights nor a number")]


@pytest.mark.parametrize(
    "value", [np.float64(0.5), np.float32(0.5), torch.tensor(0.5), torch.tensor(0.5).double(), 0.5]
)
def test_numbers_of_any_type_become_python_numbers(value: object) -> None:
    number = identify({"state_dict": state(), "best": value}).numbers["best"]
    assert (type(number), number) == (float, 0.5)


def test_other_entries_are_dropped_with_a_reason() -> None:
    raw = {"state_dict": state(), "amp": AMP, "scheduler": {"last_epoch": 3}, "none": None}
    raw |= {"args": {"lr": 0.1}, "names": ["a"], "empty": {}, "apex": AMP}
    contents = identify(raw)
    assert [name for name, _ in contents.dropped] == [name for name in raw if name != "state_dict"]
    assert dict(contents.dropped)["amp"] == dict(contents.dropped)["apex"]
    assert contents.numbers == {}


def test_other_modules_in_lightning_checkpoints_are_separate() -> None:
    contents = identify(lightning(state()))
    assert contents.kind == "a Lightning checkpoint"
    assert contents.numbers == {"epoch": 7, "global_step": 1234, "best_model_score": 0.25}
    assert list(contents.optimisers) == ["optimizer_states.0"]
    assert list(contents.weights) == ["model", "criterion"]
    assert contents.prefixes == {"model": ("model.",)}


EMA: dict[str, Any] = {
    "an entry": lambda state, ema: {"ema_state_dict": ema, "model": state},
    "timm": lambda state, ema: {"state_dict": state, "state_dict_ema": prefixed(ema, "module.")},
    "another module": lambda state, ema: {
        "state_dict": prefixed(ema, "ema.module.") | prefixed(state, "model.")
    },
    "a module next to bare keys": lambda state, ema: {**state, **prefixed(ema, "model_ema.")},
}


@pytest.mark.parametrize("form", EMA)
def test_ema_weights_are_separated(form: str) -> None:
    ema = {key: value + 1 for key, value in state().items()}
    contents = identify(EMA[form](state(), ema))
    assert list(contents.weights) == ["model", "ema"]
    assert is_equal(contents.weights["model"], state())
    assert is_equal(contents.weights["ema"], ema)


def test_repeated_and_deep_containers_are_read_once_and_to_a_limit() -> None:
    same = "the same as an earlier entry"
    optimisers: list[Any] = [adam(tiny().parameters())]
    optimisers.append(optimisers)
    raw: dict[str, Any] = {"state_dict": state(), "optimizers": optimisers}
    raw["self"] = raw
    contents = identify(raw)
    assert "optimizers.0" in contents.optimisers
    assert {("optimizers.1", same), ("self.self", same)} <= {*contents.dropped}
    nested: dict[str, Any] = {"epoch": "first"}
    for _ in range(5):
        nested = {str(index): nested for index in range(50)}
    assert len(identify({"nested": nested}).dropped) == 5 * 49 + 1
    deep: dict[str, Any] = {"epoch": 3}
    for _ in range(2000):
        deep = {"deep": deep}
    ((_, reason),) = identify(deep).dropped
    assert reason == "nested too deeply for weights"


def test_parameters_are_returned_without_gradients() -> None:
    contents = identify(dict(tiny().named_parameters()))
    assert not any(value.requires_grad for value in contents.weights["model"].values())


@pytest.mark.parametrize(("value", "count"), [(3, 3), (3.0, 3), (float("nan"), None)])
def test_only_finite_numbers_are_counts(value: float, count: int | None) -> None:
    assert identify({"it": value}).first_count(["step", "it"]) == count


def test_buffers_of_a_profiler_are_dropped() -> None:
    contents = identify({**state(), "0.total_ops": torch.zeros(1), "total_params": torch.zeros(1)})
    assert is_equal(contents.weights["model"], state())
    assert contents.dropped == [("2 x 0.total_ops", "operation counts of the profiler thop")]


def test_roles_follow_from_names() -> None:
    roles = {"model_state_dict": "model", "checkpoint.net": "model", "model_ema": "ema"}
    roles |= {name: name for name in ("schema", "discriminator")}
    roles |= {f"{name}_state_dict": name for name in ("classifier", "clothes")}
    roles["clothes_classifier_state_dict"] = "clothes"
    assert {name: role_of(name) for name in roles} == roles


def test_settings_are_written_as_a_tree() -> None:
    text = settings_as_yaml({"MODEL.NAME": "x", "MODEL.AP3D.T": 1})
    assert text == "MODEL:\n  AP3D:\n    T: 1\n  NAME: x\n"
    assert settings_as_yaml({}) == "{}\n"


@pytest.mark.parametrize(
    ("checkpoint", "text"),
    [
        ({"parts": {}, "task": "pose", "step": 7}, "a.pth, trained by ffreid, step 7"),
        ({"model_state_dict": {}}, "a.pth, not trained by ffreid"),
        (
            {"converted": {"from": "a state dict", "epoch": 3, "file": "old.pth.tar"}, "step": 9},
            "a.pth, converted from old.pth.tar: a state dict (epoch 3)",
        ),
    ],
)
def test_the_origin_of_weights_is_described(checkpoint: dict[str, Any], text: str) -> None:
    assert describe_origin(checkpoint, Path("a.pth")) == text


@pytest.mark.parametrize("entry", [dict.fromkeys(map(str, range(4000)), 1), [0] * 4000])
@pytest.mark.parametrize("last", ["", "loss_scaler0"])
def test_an_entry_under_many_names_is_read_once(entry: Any, last: str) -> None:
    if isinstance(entry, dict) and last:
        entry = {**entry, last: 0}
    started = time.monotonic()
    contents = identify({f"entry{number}": entry for number in range(4000)})
    assert time.monotonic() - started < 1
    assert contents.dropped[-1] == ("entry3999", "the same as an earlier entry")
