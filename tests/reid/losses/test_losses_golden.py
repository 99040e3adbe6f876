"""Losses against values and gradients recorded from the original."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from ffreid.engine.distributed.group import gather_with_grad
from ffreid.reid.losses.classification import arcface, circle, cosface, cross_entropy
from ffreid.reid.losses.clothes import ClothesMemory, cal
from ffreid.reid.losses.pairwise import contrastive, make_pairs, pair_circle, pair_cosface, triplet
from tests.engine.processes import in_processes
from tests.golden import arrays, cases, facts, recordings

pytestmark = pytest.mark.golden
Arrays = dict[str, npt.NDArray[Any]]
Step = tuple[Tensor, ...]

LOSSES: dict[str, Callable[..., Tensor]] = {
    "crossentropy": cross_entropy,
    "crossentropylabelsmooth": partial(cross_entropy, smoothing=0.1),
    "arcface": arcface,
    "cosface": cosface,
    "circle": circle,
    "cal": cal,
}
PAIRWISE: dict[str, Callable[..., Tensor]] = {
    "triplet": triplet,
    "contrastive": contrastive,
    "pair_cosface": pair_cosface,
    "pair_circle": pair_circle,
}
SETTINGS = {"s": "scale", "m": "margin", "e": "epsilon", "eps": "smoothing"}
UPDATES = {"asis": "asis", "meanfix": "mean"}


def prepared(case: str) -> Callable[..., Tensor]:
    """The loss of a case, with the settings that follow its name."""
    settings = re.findall(r"_(s|m|e|eps)(\d[\d.]*)(?=_|$)", case)
    name = re.sub(r"_(singleton|allsame)$", "", case)
    name = re.sub(r"(_(s|m|e|eps)[\d.]+)+$", "", name)
    options = {SETTINGS[key]: float(value) for key, value in settings}
    if name in PAIRWISE:
        return lambda *tensors: PAIRWISE[name](make_pairs(*tensors), **options)
    return partial(LOSSES[name], **options)


def as_argument(key: str, value: npt.NDArray[Any]) -> Tensor:
    argument = torch.from_numpy(value)
    return argument.bool() if key.endswith("posmask") else argument


@pytest.mark.parametrize(("stem", "case"), cases("ccreid", "losses.npz"))
def test_values_and_gradients(stem: str, case: str) -> None:
    data, meta = arrays("ccreid", stem), facts("ccreid", stem)[case]
    values = torch.from_numpy(data[meta["input"]]).double().requires_grad_()
    loss = prepared(case)(values, *(as_argument(key, data[key]) for key in meta["args"]))
    torch.autograd.backward(loss)
    assert values.grad is not None
    if meta["nan"]:
        assert loss.isfinite()
        assert values.grad.isfinite().all()
        assert values.grad.abs().max() > 0
        return
    assert loss.item() == pytest.approx(float(data[f"{case}/loss_f64"]), rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(values.grad, data[f"{case}/grad_f64"], rtol=1e-9, atol=1e-9)


def memory(meta: dict[str, Any], variant: str) -> ClothesMemory:
    return ClothesMemory(
        meta["num_clothes"],
        meta["feat_dim"],
        scale=meta["scale"],
        epsilon=meta["epsilon"],
        momentum=meta["momentum"],
        update=UPDATES[variant],
    )


def steps(data: Arrays) -> list[Step]:
    """Features, clothes and positives of each step."""
    identities = torch.from_numpy(data["inp/owner"])
    positives = torch.from_numpy(data["inp/pid2clothes"]).bool()
    return [
        (torch.from_numpy(features), torch.from_numpy(clothes), positives[identities[clothes]])
        for features, clothes in zip(data["inp/features"], data["inp/clothes"], strict=True)
    ]


def results(module: ClothesMemory, batches: list[Step]) -> dict[str, Tensor]:
    """Loss, gradient and memory of each step."""
    rows: dict[str, list[Tensor]] = {"loss": [], "grad": [], "memory": [], "label_memory": []}
    for values, clothes, positives in batches:
        features = values.clone().requires_grad_()
        loss = module(features, clothes, positives)
        torch.autograd.backward(loss)
        assert features.grad is not None
        rows["loss"].append(loss.detach())
        rows["grad"].append(features.grad)
        rows["memory"].append(module.feature_memory.clone())
        rows["label_memory"].append(module.label_memory.clone())
    return {key: torch.stack(values) for key, values in rows.items()}


@pytest.mark.parametrize(("stem", "case"), cases("ccreid", "memory_bank.npz"))
def test_memory_losses_gradients_and_state(stem: str, case: str) -> None:
    data, meta = arrays("ccreid", stem), facts("ccreid", stem)[case]
    module = memory(meta, case.rpartition("/")[2])
    entries = [[key, list(v.shape), str(v.dtype)] for key, v in module.state_dict().items()]
    assert sorted(entries) == sorted(meta["state_dict_keys"])
    assert len(steps(data)) == meta["steps"]
    for key, value in results(module, steps(data)).items():
        near = 1e-6 if key in ("loss", "grad") else 0.0
        np.testing.assert_allclose(value, data[f"{case}/{key}"], rtol=near, atol=near)


def results_of_process(rank: int, stem: str, pair_cases: list[str], memory_cases: list[str]) -> Any:
    """Results of this process for each case on half of the rows."""
    out: dict[str, Any] = {}
    data = arrays("ccreid", stem)
    count = len(data["inp/pids"]) // 2
    half = slice(rank * count, (rank + 1) * count)
    for case in pair_cases:
        features = torch.from_numpy(data["inp/feat"][half]).double().requires_grad_()
        loss = prepared(case)(features, torch.from_numpy(data["inp/pids"][half]))
        torch.autograd.backward(loss)
        out[case] = {"loss": loss.detach(), "grad": features.grad}
    for case in memory_cases:
        out[case] = with_memory(rank, case)
    out["rows"] = [
        gather_with_grad(torch.arange(5) + 100 * rank),
        gather_with_grad(torch.ones(5, 2) * rank),
    ]
    return out


def with_memory(rank: int, case: str) -> dict[str, Tensor]:
    momentum = case.partition("_m")[2]
    meta = next(
        value
        for key, value in facts("ccreid", "memory_bank").items()
        if key.startswith(f"m{momentum}_") and key.endswith("/asis")
    )
    batches = steps(arrays("ccreid", "memory_bank"))
    halves = [tuple(part.chunk(2)[rank] for part in step) for step in batches]
    values = results(memory(meta, "asis"), halves)
    return {key: values[key] for key in ("loss", "grad", "memory")}


@pytest.mark.parametrize("stem", recordings("ccreid", "world2.npz"))
def test_two_processes(stem: str, tmp_path: Path) -> None:
    data = arrays("ccreid", stem)
    names = sorted({key.split("/")[0] for key in data})
    memories = [name for name in names if name.startswith("calmem")]
    pairs = [name for name in names if name.startswith(("triplet", "contrastive", "pair"))]
    assert memories
    assert pairs
    assert {*memories, *pairs, "concat_all_gather"} == set(names)
    work = partial(results_of_process, stem="losses", pair_cases=pairs, memory_cases=memories)
    near = {"loss": 1e-6, "grad": 1e-6, "memory": 0.0}
    for rank, of_rank in enumerate(in_processes(work, tmp_path)):
        for name in pairs + memories:
            for key, value in of_rank[name].items():
                tolerance = 1e-9 if name in pairs else near[key]
                expected = data[f"{name}/rank{rank}/{key}"]
                np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
        for index, rows in enumerate(of_rank["rows"]):
            recorded = data[f"concat_all_gather/rank{rank}/{index}"]
            np.testing.assert_array_equal(rows[: len(recorded)], recorded)
