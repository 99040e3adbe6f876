"""Recognising what checkpoints hold, by content alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ffreid.engine.checkpoints.contents import as_yaml, identify, origin, taking, whole
from ffreid.engine.checkpoints.io import compare, module_of
from ffreid.engine.checkpoints.keys import role_of, stripped
from ffreid.engine.checkpoints.repair import (
    completed,
    fitted_optimiser,
    mended,
    old_optimiser,
    total,
)
from tests.old_files import AMP, adam, lightning, prefixed


def tiny() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def state() -> dict[str, Tensor]:
    return dict(tiny().state_dict())


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("prefix", "taken"),
    [
        ("", ()),
        ("module.", ("module.",)),
        ("module.module.", ("module.", "module.")),
        ("_orig_mod.", ("_orig_mod.",)),
        ("model._orig_mod.module.", ("model.", "_orig_mod.", "module.")),
    ],
)
def test_prefixes_that_all_keys_have_are_taken_off(prefix: str, taken: tuple[str, ...]) -> None:
    plain, found = stripped(prefixed(state(), prefix))
    assert same(plain, state())
    assert found == taken


def test_wrappers_of_a_part_are_taken_out_of_the_middle() -> None:
    plain, found = stripped({"base.module.0.weight": torch.ones(1), "bn.weight": torch.ones(1)})
    assert list(plain) == ["base.0.weight", "bn.weight"]
    assert found == ("…module.",)


def test_keys_that_would_fall_together_stay_as_they_are() -> None:
    keys = {"a.module.weight": torch.ones(1), "a.weight": torch.zeros(1)}
    assert stripped(keys) == (keys, ())


WRAPPED: dict[str, Any] = {
    "bare": lambda own: own,
    "ddp": lambda own: prefixed(own, "module."),
    "state_dict": lambda own: {"state_dict": own},
    "model_state": lambda own: {"model_state": prefixed(own, "module.module.")},
    "nested": lambda own: {"checkpoint": {"model": own}},
    "lightning": lightning,
    "ddp in lightning": lambda own: lightning(own, prefix="model.module."),
}


@pytest.mark.parametrize("form", WRAPPED)
def test_every_wrapper_gives_the_same_weights(form: str) -> None:
    found = identify(WRAPPED[form](state()))
    assert same(found.weights["model"], state())


def test_a_bare_state_dict_may_have_entries_beside_its_tensors() -> None:
    found = identify({**state(), "epoch": 3, "arch": "tiny"})
    assert same(found.weights["model"], state())
    assert (found.kind, found.numbers) == ("a bare state dict", {"epoch": 3})
    assert found.dropped == (("arch", "text: no weights and no number"),)


@pytest.mark.parametrize(
    "value", [np.float64(0.5), np.float32(0.5), torch.tensor(0.5), torch.tensor(0.5).double(), 0.5]
)
def test_numbers_of_any_kind_become_plain_ones(value: object) -> None:
    number = identify({"state_dict": state(), "best": value}).numbers["best"]
    assert (type(number), number) == (float, 0.5)


def test_what_is_neither_weights_nor_a_number_is_dropped_with_its_reason() -> None:
    raw = {"state_dict": state(), "amp": AMP, "scheduler": {"last_epoch": 3}, "none": None}
    raw |= {"args": {"lr": 0.1}, "names": ["a"], "empty": {}, "apex": AMP}
    found = identify(raw)
    assert [name for name, _ in found.dropped] == [name for name in raw if name != "state_dict"]
    assert dict(found.dropped)["amp"] == dict(found.dropped)["apex"]
    assert found.numbers == {}


def test_lightning_s_other_modules_and_settings_are_no_weights_of_the_network() -> None:
    found = identify(lightning(state()))
    assert found.kind == "a checkpoint of Lightning"
    assert found.numbers == {"epoch": 7, "global_step": 1234, "best_model_score": 0.25}
    assert list(found.optimisers) == ["optimizer_states.0"]
    assert list(found.weights) == ["model", "criterion"]
    assert found.prefixes == {"model": ("model.",)}


AVERAGED: dict[str, Any] = {
    "an entry": lambda own, ema: {"ema_state_dict": ema, "model": own},
    "timm's": lambda own, ema: {"state_dict": own, "state_dict_ema": prefixed(ema, "module.")},
    "a module beside": lambda own, ema: {
        "state_dict": prefixed(ema, "ema.module.") | prefixed(own, "model.")
    },
    "a module beside plain keys": lambda own, ema: {**own, **prefixed(ema, "model_ema.")},
}


@pytest.mark.parametrize("form", AVERAGED)
def test_averaged_copies_are_told_from_the_weights(form: str) -> None:
    ema = {key: value + 1 for key, value in state().items()}
    found = identify(AVERAGED[form](state(), ema))
    assert list(found.weights) == ["model", "ema"]
    assert same(found.weights["model"], state())
    assert same(found.weights["ema"], ema)
    assert same(taking(found, "ema").weights["model"], ema)


def test_an_averaged_model_of_pytorch_is_read() -> None:
    average = torch.optim.swa_utils.AveragedModel(tiny())
    found = identify(average.state_dict())
    assert same(found.weights["model"], state())
    assert found.numbers == {"n_averaged": 0}


def test_a_mapping_that_holds_itself_ends() -> None:
    raw: dict[str, Any] = {"state_dict": state()}
    raw["self"] = raw
    assert ("self.self", "the same as an entry before it") in identify(raw).dropped


def test_a_list_that_holds_itself_ends() -> None:
    optimisers: list[Any] = [adam(tiny().parameters())]
    optimisers.append(optimisers)
    found = identify({"state_dict": state(), "optimizers": optimisers})
    assert list(found.optimisers) == ["optimizers.0"]
    assert found.dropped == (("optimizers.1", "the same as an entry before it"),)


def test_mappings_that_are_held_again_and_again_are_looked_into_once() -> None:
    held: dict[str, Any] = {"epoch": "first"}
    for _ in range(5):
        held = {str(place): held for place in range(50)}
    assert len(identify({"held": held}).dropped) == 5 * 49 + 1


def test_mappings_are_looked_into_only_so_deeply() -> None:
    held: dict[str, Any] = {"epoch": 3}
    for _ in range(2000):
        held = {"held": held}
    ((_, why),) = identify(held).dropped
    assert why == "nested too deeply for weights"


def test_parameters_come_without_their_gradients() -> None:
    found = identify(dict(tiny().named_parameters()))
    assert not any(value.requires_grad for value in found.weights["model"].values())


@pytest.mark.parametrize(("value", "count"), [(3, 3), (3.0, 3), (float("nan"), None)])
def test_only_finite_numbers_count(value: float, count: int | None) -> None:
    assert whole(identify({"it": value}), ["step", "it"]) == count


def test_counts_of_a_profiler_are_dropped() -> None:
    found = identify({**state(), "0.total_ops": torch.zeros(1), "total_params": torch.zeros(1)})
    assert same(found.weights["model"], state())
    assert found.dropped == (("2 x 0.total_ops", "counts of the profiler thop"),)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model_state_dict", "model"),
        ("checkpoint.net", "model"),
        ("clothes_classifier_state_dict", "clothes"),
        ("classifier_state_dict", "classifier"),
        ("model_ema", "ema"),
        ("schema", "schema"),
        ("discriminator", "discriminator"),
    ],
)
def test_names_say_what_entries_hold(name: str, role: str) -> None:
    assert role_of(name) == role


def test_keys_are_compared_and_grouped_by_module() -> None:
    other = state()
    del other["1.weight"], other["1.bias"]
    other |= {"extra.weight": torch.ones(1), "2.bias": torch.ones(3)}
    found = compare(tiny(), other)
    assert not found.fits
    assert found.rows() == [
        ("1", 2, 0, 0, "1.weight"),
        ("extra", 0, 1, 0, "extra.weight"),
        ("2", 0, 0, 1, "2.bias (3,) for (2,)"),
    ]
    assert compare(tiny(), state()).fits


def test_a_module_is_its_first_name_with_a_number() -> None:
    assert module_of("stages.3.1.weight") == "stages.3"
    assert module_of("bn.weight") == "bn"


def test_counters_that_old_files_lack_are_zero() -> None:
    old = {key: value for key, value in state().items() if "num_batches" not in key}
    new, notes = mended(old, {})
    assert same(new, state())
    assert len(notes) == 1 and "num_batches_tracked" in notes[0]


def test_names_of_forks_are_todays() -> None:
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean"}
    old = {
        f"1.{names.get(k[2:], k[2:])}" if k.startswith("1.") else k: v for k, v in state().items()
    }
    assert "1.gamma" in old
    new, notes = mended(old, {})
    assert same(new, state())
    assert notes == ["1.gamma is 1.weight today", "… and 2 more"]


def test_a_missing_alias_is_written_and_the_last_of_two_counts() -> None:
    one, other = torch.ones(2), torch.zeros(2)
    new, notes = mended({"a.weight": one}, {"b.weight": "a.weight"})
    assert new["b.weight"] is one and "b.weight is the same tensor" in notes[0]
    new, notes = mended({"b.weight": one}, {"b.weight": "a.weight"})
    assert new["a.weight"] is one and "a.weight is the same tensor" in notes[0]
    new, notes = mended({"a.weight": one, "b.weight": other}, {"b.weight": "a.weight"})
    assert new["a.weight"] is other and "differ in the file" in notes[0]


def test_an_old_adam_goes_on_in_todays() -> None:
    net = tiny()
    old = adam(net.parameters())
    fitted, why = fitted_optimiser(old, net, state())
    assert fitted is not None and not why
    optimiser = torch.optim.Adam(net.parameters(), lr=1.0)
    optimiser.load_state_dict(fitted)
    for parameter, then in zip(net.parameters(), old["state"].values(), strict=True):
        now = optimiser.state[parameter]
        assert now["step"] == 83496
        assert torch.equal(now["exp_avg"], then["exp_avg"])
    assert optimiser.param_groups[0]["lr"] == 2.1e-4


def test_todays_adam_is_written_as_an_old_one() -> None:
    net = tiny()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    net[0](torch.ones(1, 3, 3, 3)).sum().backward()
    optimiser.step()
    old = old_optimiser(optimiser.state_dict())
    assert {type(own["step"]) for own in old["state"].values()} == {int}
    group = ["lr", "betas", "eps", "weight_decay", "amsgrad", "params"]
    assert sorted(old["param_groups"][0]) == sorted(group)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda old: old["param_groups"].append(old["param_groups"][0]), "2 groups"),
        (lambda old: old["param_groups"][0]["params"].pop(), "of 5 parameters"),
        (lambda old: old["state"].update({7: {}}), "in no group"),
        (lambda old: next(iter(old["state"].values())).update(exp_avg=torch.ones(2)), "shape"),
        (lambda old: next(iter(old["state"].values())).update(step=float("nan")), "no number"),
        (lambda old: next(iter(old["state"].values())).update(step="7"), "no number"),
        (lambda old: next(iter(old["state"].values())).update(step=torch.ones(2)), "no number"),
        (lambda old: next(iter(old["state"].values())).pop("exp_avg"), "it is not Adam's"),
        (lambda old: old["param_groups"][0].pop("betas"), "it is not Adam's"),
    ],
)
def test_an_optimiser_that_does_not_fit_is_left_out_with_the_reason(change: Any, why: str) -> None:
    net = tiny()
    old = adam(net.parameters())
    change(old)
    fitted, reason = fitted_optimiser(old, net, state())
    assert fitted is None
    assert why in reason


def test_an_optimiser_of_another_kind_is_left_out() -> None:
    net = tiny()
    other = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net[0](torch.ones(1, 3, 3, 3)).sum().backward()
    other.step()
    assert fitted_optimiser(other.state_dict(), net, state()) == (None, "it is not Adam's")


def test_an_optimiser_of_parameters_in_another_order_is_left_out() -> None:
    fitted, reason = fitted_optimiser(adam(tiny().parameters()), tiny(), [*state()][::-1])
    assert (fitted, reason) == (None, "the network's parameters came in another order")


def test_settings_are_written_as_a_tree() -> None:
    assert (
        as_yaml({"MODEL.NAME": "x", "MODEL.AP3D.T": 1}) == "MODEL:\n  AP3D:\n    T: 1\n  NAME: x\n"
    )
    assert as_yaml({}) == "{}\n"


def test_shared_tensors_are_counted_once() -> None:
    one = torch.ones(5)
    assert total([one, one, torch.ones(2)]) == 7


def test_a_converted_file_is_completed_for_a_run() -> None:
    run = {"classes": ["a", "b"], "total": 90, "steps_per_epoch": 10}
    converted: dict[str, Any] = {"converted": {}, "epoch": 3, "class_count": 2}
    filled = completed(converted, **run)  # type: ignore[arg-type]
    assert (filled["step"], filled["total"], filled["classes"]) == (40, 90, ["a", "b"])
    assert filled["optimisers"] == {}
    other = completed({**converted, "class_count": 3, "step": 7}, **run)  # type: ignore[arg-type]
    assert other["step"] == 7 and other["classes"] != run["classes"]
    ours = {"step": 1}
    assert completed(ours, **run) == ours  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"parts": {}, "task": "pose", "step": 7}, "a.pth, trained by ffreid, step 7"),
        ({"model_state_dict": {}}, "a.pth, of others"),
        (
            {"converted": {"from": "a state dict", "epoch": 3, "file": "old.pth.tar"}, "step": 9},
            "a.pth, converted from old.pth.tar: a state dict (epoch 3)",
        ),
    ],
)
def test_the_origin_of_weights_is_said(state: dict[str, Any], said: str) -> None:
    assert origin(state, Path("a.pth")) == said
