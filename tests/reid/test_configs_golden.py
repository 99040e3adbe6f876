"""Recipes, learning rates and evaluation epochs equal those of the original."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ffreid.config import lookup
from ffreid.engine.task import Plan
from ffreid.recipes import compose
from ffreid.reid.build import rates
from ffreid.reid.validation import due
from tests.golden import GOLDEN, manifest

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not (GOLDEN / "ccreid").is_dir(), reason="no recorded numbers"),
]
NOT_COMPARED = {"ROOT", "OUTPUT", "GPU", "EVAL_MODE", "RESUME", "TAG"}
"""Keys of paths and of the environment."""


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        elif key not in NOT_COMPARED:
            yield f"{prefix}{key}", value


def recorded() -> dict[str, Any]:
    actual: dict[str, Any] = manifest("ccreid", "manifests/configs.json")
    return actual


def merged() -> list[str]:
    return sorted(recorded()["merged"]) if (GOLDEN / "ccreid").is_dir() else []


def value_of(cfg: Any, key: str) -> Any:
    # The original's switch is a value of TRAIN.PRECISION.
    return cfg.TRAIN.PRECISION == "amp" if key == "TRAIN.AMP" else lookup(cfg, key)


def compare(cfg: Any, tree: dict[str, Any]) -> None:
    compared = {key: value_of(cfg, key) for key, _ in leaves(tree)}
    assert len(compared) > 25
    assert compared == dict(leaves(tree))


@pytest.mark.parametrize("case", merged())
def test_a_recipe_has_the_recorded_values(case: str) -> None:
    recipe, dataset = case.split("|")
    compare(compose(dataset, file=Path(f"configs/{recipe}.yaml")), recorded()["merged"][case])


@pytest.mark.parametrize("case", merged())
def test_a_dataset_selects_its_published_recipe(case: str) -> None:
    cfg = compose(case.split("|")[1])
    compare(cfg, recorded()["merged"][case])
    assert cfg.TRAIN.BN_GROUPS == 2


@pytest.mark.parametrize(("dataset", "tree"), [("ltcc", "default_img"), ("ccvid", "default_vid")])
def test_an_empty_file_gives_the_defaults_of_the_original(
    dataset: str, tree: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.yaml").write_text("")
    cfg = compose(dataset, file=tmp_path / "empty.yaml")
    compare(cfg, recorded()[tree])
    assert cfg.TRAIN.BN_GROUPS == 1


@pytest.mark.parametrize(("dataset", "kind"), [("ltcc", "img"), ("ccvid", "vid")])
def test_rates_and_evaluations_epoch_by_epoch(dataset: str, kind: str) -> None:
    cfg, facts = compose(dataset), recorded()
    steps = 7
    plan = Plan(batch=64, steps_per_epoch=steps, total=steps * cfg.TRAIN.MAX_EPOCH, workers=0)
    rate = rates(cfg, plan)
    expected = facts[f"lr_per_epoch_{kind}"]
    assert len(expected) == cfg.TRAIN.MAX_EPOCH
    for epoch, value in enumerate(expected):
        assert {rate["net"](epoch * steps), rate["net"](epoch * steps + steps - 1)} == {value}
        assert rate["clothes"](epoch * steps) == expected[0]
    actual = [done // steps for done in range(1, plan.total + 1) if due(cfg, plan, done)]
    assert actual == facts[f"eval_epochs_{kind}(1-based)"]
