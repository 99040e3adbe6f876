"""Networks, classifiers and memories follow the configuration; invalid files are errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD, Adam, AdamW, Optimizer
from yacs.config import CfgNode

from ffreid.config import differing, lookup
from ffreid.engine.batchnorm import GroupedBatchNorm
from ffreid.engine.checkpoints import io
from ffreid.engine.task import Plan
from ffreid.engine.train_step import TrainStep
from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid import build
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.defaults import COSINE_LOSSES
from ffreid.reid.losses import CLASSIFICATION
from ffreid.reid.model import backbone
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from ffreid.reid.task import ReidTask
from tests.reid.command_line import Tiny, use_tiny
from tests.reid.synthetic_features import empty_source

CPU = torch.device("cpu")
IDENTITIES, OUTFITS = 3, 5
IDENTITY_OF_CLOTHES = (0, 0, 1, 1, 2)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch)


def source() -> Source:
    """Three identities with five clothes labels."""
    train = tuple(
        Record((f"{label}.png",), identity, 0, label)
        for label, identity in enumerate(IDENTITY_OF_CLOTHES)
    )
    return empty_source(
        EvalSplit(query=(), gallery=(), protocols=()),
        train=train,
        identities=tuple("abc"),
        clothes=tuple(f"outfit{record.clothes}" for record in train),
    )


def configuration(*pairs: str) -> CfgNode:
    return compose("toy-reid", pairs=pairs)


def built(*pairs: str) -> ReidTask:
    return build.build_task(configuration(*pairs), source(), CPU)


def train_step(task: ReidTask, cfg: CfgNode) -> TrainStep:
    optimisers = build.build_optimisers(cfg, task)
    rates = dict.fromkeys(optimisers, lambda step: 0.1)
    return TrainStep(task, optimisers, rates, device=CPU, seed=0)


def saved(path: Path, cfg: CfgNode) -> Path:
    """A checkpoint as runs write it."""
    step = train_step(build.build_task(cfg, source(), CPU), cfg)
    entries = build.original_entries(step, 3, {"rank1": 0.5})
    io.save(path, step.state() | entries | {"config": cfg.dump()})
    return path


@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_cosine_losses_have_a_classifier_with_unit_weights(loss: str) -> None:
    head = built("LOSS.CLA_LOSS", loss).net.classifier
    assert type(head) is (NormalizedClassifier if loss in COSINE_LOSSES else Classifier)
    assert head(torch.randn(2, 4096)).shape == (2, IDENTITIES)


@pytest.mark.parametrize(
    ("cal", "optimized", "extra"),
    [
        ("cal", ("clothes", "net"), ()),
        ("calwithmemory", ("net",), ("memory",)),
        ("none", ("net",), ()),
    ],
)
def test_cal_has_a_clothes_classifier_or_a_memory(
    cal: str, optimized: tuple[str, ...], extra: tuple[str, ...]
) -> None:
    task = built("LOSS.CAL", cal, "LOSS.MOMENTUM", "0.3")
    assert (task.optimized, task.extra_state) == (optimized, extra)
    assert task.clothes_of_identity.tolist() == [
        [i == identity for identity in IDENTITY_OF_CLOTHES] for i in range(IDENTITIES)
    ]
    if task.clothes is not None:
        assert task.clothes(torch.randn(2, 4096)).shape == (2, OUTFITS)
    if task.memory is not None:
        assert task.memory.feature_memory.shape == (OUTFITS, 4096)
        assert (task.memory.momentum, task.memory.scale) == (0.3, 16.0)


@pytest.mark.parametrize(
    ("pairs", "groups"),
    [
        (("TRAIN.BN_GROUPS", "2"), 2),
        (("TRAIN.BN_GROUPS", "4"), 4),
        (("TRAIN.BN_GROUPS", "1"), None),
        (("TRAIN.BN_GROUPS", "2", "TRAIN.BATCH_NORM", "sync"), None),
    ],
)
def test_batch_norm_has_the_configured_groups(pairs: tuple[str, ...], groups: int | None) -> None:
    task = built(*pairs)
    norm = task.net.model.get_submodule("bn")
    assert (norm.groups if isinstance(norm, GroupedBatchNorm) else None) == groups


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW), ("sgd", SGD)])
def test_each_part_has_the_configured_optimiser(name: str, kind: type[Optimizer]) -> None:
    cfg = configuration("TRAIN.OPTIMIZER.NAME", name, "TRAIN.OPTIMIZER.WEIGHT_DECAY", "0.01")
    result = build.build_optimisers(cfg, built())
    assert sorted(result) == ["clothes", "net"]
    for optimiser in result.values():
        assert type(optimiser) is kind
        assert [group["weight_decay"] for group in optimiser.param_groups] == [0.01]
    (group,) = result["net"].param_groups
    if name == "sgd":
        assert (group["momentum"], group["nesterov"]) == (0.9, True)


@pytest.mark.parametrize(
    ("cal", "expected"),
    [("cal", ["weight"]), ("calwithmemory", ["feature_memory", "label_memory"]), ("none", [])],
)
def test_checkpoint_entries_have_the_names_of_the_original(cal: str, expected: list[str]) -> None:
    cfg = configuration("LOSS.CAL", cal)
    entries = build.original_entries(train_step(built("LOSS.CAL", cal), cfg), 7, {"rank1": 0.25})
    names = ["model_state_dict", "classifier_state_dict", "clothes_classifier_state_dict"]
    assert list(entries) == [*names, "rank1", "epoch"]
    assert list(entries["clothes_classifier_state_dict"]) == expected
    assert not [key for key in entries["model_state_dict"] if key.startswith("model.")]
    assert (entries["rank1"], entries["epoch"]) == (0.25, 7)


def test_a_network_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    cfg = configuration()
    net, state = build.load_network(saved(tmp_path / "last.pth", cfg), cfg, CPU)
    assert not any(module.training for module in net.modules())
    assert state["epoch"] == 3
    expected = build.build_task(cfg, source(), CPU).net.model
    torch.testing.assert_close(net.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_the_authors_checkpoint_is_loaded(tmp_path: Path) -> None:
    cfg = configuration()
    net = build.build_task(cfg, source(), CPU).net.model.eval()
    content = {"model_state_dict": net.state_dict(), "rank1": np.float64(0.4), "epoch": 59}
    torch.save(content, tmp_path / "best_model.pth.tar")
    loaded, state = build.load_network(tmp_path / "best_model.pth.tar", cfg, CPU)
    torch.testing.assert_close(loaded.state_dict(), net.state_dict(), rtol=0, atol=0)
    assert (state["rank1"], state["epoch"]) == (0.4, 59)


def test_backbone_weights_are_downloaded_only_for_new_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: str) -> None:
        raise UserError("the weights cannot be fetched", "try again")

    path = saved(tmp_path / "last.pth", configuration())
    monkeypatch.setattr(backbone, "imagenet_weights", fail)
    with pytest.raises(UserError, match="cannot be fetched"):
        built("MODEL.BACKBONE", "imagenet")
    cfg = configuration("MODEL.BACKBONE", "imagenet")
    assert isinstance(build.build_task(cfg, source(), CPU, resumed=True).net.model, Tiny)
    assert isinstance(build.load_network(path, cfg, CPU)[0], Tiny)


def refusal(path: Path, cfg: CfgNode) -> UserError:
    with pytest.raises(UserError) as caught:
        build.load_network(path, cfg, CPU)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"task": "pose", "parts": {"net": {}}}, "is a pose checkpoint, not a reid checkpoint"),
        ({"model_state_dict": [1, 2]}, "no re-identification network"),
        ({}, "no re-identification network"),
    ],
)
def test_a_checkpoint_of_another_kind_is_an_error(
    tmp_path: Path, content: dict[str, Any], problem: str
) -> None:
    io.save(tmp_path / "pose.pth", content)
    error = refusal(tmp_path / "pose.pth", configuration())
    assert problem in error.message


def test_a_checkpoint_with_other_pooling_has_a_hint_with_the_setting(tmp_path: Path) -> None:
    path = saved(tmp_path / "avg.pth", configuration("MODEL.POOLING.NAME", "avg"))
    error = refusal(path, configuration())
    assert "does not match this network: 2 of wrong shape" in error.message
    assert error.hint == "the network was trained with other settings: add MODEL.POOLING.NAME avg"


def test_a_single_milestone_equals_a_list_of_one() -> None:
    rates = []
    for text in ("20", "[20]"):
        cfg = configuration("TRAIN.LR_SCHEDULER.STEPSIZE", text)
        plan = Plan(batch=4, steps_per_epoch=2, total=100, workers=0)
        rate = build.rates(cfg, plan)["net"]
        rates.append([rate(step) for step in (0, 39, 40, 99)])
    assert rates[0] == rates[1]
    assert rates[0][0] == rates[0][1] == pytest.approx(10 * rates[0][2])


@pytest.mark.parametrize("key", ["MODEL.POOLING.P", "MODEL.AP3D.TEMPERATURE"])
def test_float_settings_with_integral_defaults_accept_any_number(key: str) -> None:
    assert lookup(configuration(key, "2.5"), key) == 2.5
    default = configuration()
    dumped = f"{{{key.replace('.', ': {')}: {int(lookup(default, key))}{'}' * key.count('.')}}}"
    assert differing(default, dumped) == []  # checkpoints with integers resume
