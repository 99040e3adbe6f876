"""Settings: defaults, choices, and errors before anything heavy is imported."""

from pathlib import Path
from typing import Any

import pytest
from yacs.config import CfgNode

from ffreid.engine.optim import OPTIMISERS
from ffreid.errors import UserError
from ffreid.recipes import compose, recipes
from ffreid.reid import defaults, model
from ffreid.reid.datasets import DATASETS
from ffreid.reid.losses import CLASSIFICATION, CLOTHES, PAIRWISE
from ffreid.reid.losses.clothes import MEMORY_UPDATES
from ffreid.reid.model.image import ImageResNet50


def changed(**values: Any) -> CfgNode:
    """Defaults with other values; ``__`` in a name stands for a dot."""
    cfg = defaults.defaults()
    for name, value in values.items():
        node, parts = cfg, name.split("__")
        for part in parts[:-1]:
            node = node[part]
        node[parts[-1]] = value
    return cfg


def refusal(**values: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        defaults.check(changed(**values))
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("LOSS.CLA_LOSS", CLASSIFICATION),
        ("LOSS.CLOTHES_CLA_LOSS", CLOTHES),
        ("LOSS.PAIR_LOSS", PAIRWISE),
        ("LOSS.MEMORY_UPDATE", MEMORY_UPDATES),
        ("MODEL.NAME", model.NETWORKS),
        ("TRAIN.OPTIMIZER.NAME", OPTIMISERS),
    ],
)
def test_choices_are_those_implemented(key: str, known: dict[str, Any]) -> None:
    assert set(defaults.CHOICES[key]) == set(known)
    assert len(defaults.CHOICES[key]) == len(known)


def test_the_feature_length_is_that_of_the_network() -> None:
    for pooling in defaults.CHOICES["MODEL.POOLING.NAME"]:
        cfg = compose("ltcc", pairs=["MODEL.POOLING.NAME", pooling])
        assert ImageResNet50(pooling=pooling).feature_dim == cfg.MODEL.FEATURE_DIM


@pytest.mark.parametrize("key", defaults.CHOICES)
def test_a_value_outside_its_choices_is_refused(key: str) -> None:
    error = refusal(**{key.replace(".", "__"): "xyzzy"})
    assert error.message == f"{key} is 'xyzzy'"
    assert all(str(choice) in error.hint for choice in defaults.CHOICES[key])


@pytest.mark.parametrize("key", defaults.LEAST)
def test_a_number_below_its_minimum_is_refused(key: str) -> None:
    least = defaults.LEAST[key]
    error = refusal(**{key.replace(".", "__"): least - 1})
    assert error.message == f"{key} is {least - 1}"
    assert error.hint == f"set {key} to {least} or more"


@pytest.mark.parametrize("key", defaults.FRACTIONS)
@pytest.mark.parametrize("value", [1.5, -0.1])
def test_a_fraction_is_between_0_and_1(key: str, value: float) -> None:
    error = refusal(**{key.replace(".", "__"): value})
    assert error.message == f"{key} is {value}"
    assert error.hint == f"set {key} between 0 and 1"
    defaults.check(changed(**{key.replace(".", "__"): 1.0}))


@pytest.mark.parametrize(
    ("layout", "name", "takes", "has"),
    [("ltcc", "c2dres50", "clips", "images"), ("ccvid", "resnet50", "images", "tracklets")],
)
def test_a_network_of_the_other_kind_is_refused(
    layout: str, name: str, takes: str, has: str
) -> None:
    error = refusal(DATA__LAYOUT=layout, MODEL__NAME=name)
    assert f"{name} takes {takes}" in error.message
    assert f"has {has}" in error.message
    assert ("resnet50" in error.hint.split(": ")[1].split(", ")) is (layout == "ltcc")


@pytest.mark.parametrize("name", defaults.NON_LOCAL)
@pytest.mark.parametrize(("height", "width", "is_valid"), [(17, 17, True), (16, 64, False)])
def test_non_local_networks_need_a_minimum_image_size(
    name: str, height: int, width: int, is_valid: bool
) -> None:
    sizes = {"DATA__HEIGHT": height, "DATA__WIDTH": width}
    cfg = changed(DATA__LAYOUT="ccvid", MODEL__NAME=name, **sizes)
    if is_valid:
        defaults.check(cfg)
        return
    with pytest.raises(UserError, match=f"16 x DATA.WIDTH 64 is too small for {name}"):
        defaults.check(cfg)


@pytest.mark.parametrize(
    ("batch", "instances", "advice"), [(30, 8, "24"), (7, 2, "6"), (5, 8, "8")]
)
def test_a_batch_is_a_multiple_of_the_instances_per_identity(
    batch: int, instances: int, advice: str
) -> None:
    error = refusal(DATA__TRAIN_BATCH=batch, DATA__NUM_INSTANCES=instances)
    assert f"{batch} is not a multiple of DATA.NUM_INSTANCES {instances}" in error.message
    assert f"set DATA.TRAIN_BATCH {advice}, or" in error.hint


@pytest.mark.parametrize("dim", [2048, 512])
def test_another_feature_length_is_refused(dim: int) -> None:
    error = refusal(MODEL__FEATURE_DIM=dim)
    assert f"MODEL.FEATURE_DIM is {dim}, but resnet50 with maxavg pooling has 4096" in error.message
    error = refusal(DATA__LAYOUT="ccvid", MODEL__NAME="c2dres50", MODEL__FEATURE_DIM=512)
    assert "c2dres50 has 2048" in error.message


def test_a_start_epoch_is_refused_for_resuming() -> None:
    assert "--resume FILE" in refusal(TRAIN__START_EPOCH=3).hint


def test_only_datasets_with_a_validation_split_may_select_on_it() -> None:
    for layout in ("prcc", "last", "deepchange"):
        defaults.check(changed(DATA__LAYOUT=layout, TEST__SELECT_ON="val"))
    for layout in ("ltcc", "vcclothes", "folder", "market1501", "toy"):
        error = refusal(DATA__LAYOUT=layout, TEST__SELECT_ON="val")
        assert "has no validation split" in error.message


@pytest.mark.parametrize(
    "dataset", [name for name, path in recipes().items() if path.parent.name == "reid"]
)
def test_only_toy_datasets_need_no_root(dataset: str, tmp_path: Path) -> None:
    cfg = compose(dataset)
    if DATASETS[cfg.DATA.LAYOUT].is_toy:
        defaults.check_root(cfg)
        return
    with pytest.raises(UserError, match=f"no data folder for {dataset}") as caught:
        defaults.check_root(cfg)
    assert DATASETS[cfg.DATA.LAYOUT].tree in caught.value.hint
    with pytest.raises(UserError, match="no folder"):
        defaults.check_root(compose(dataset, root=tmp_path / "gone"))
    defaults.check_root(compose(dataset, root=tmp_path))
