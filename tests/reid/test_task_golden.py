"""Consecutive training steps through the engine, against the original's."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from yacs.config import CfgNode

from ffreid.engine.optim import OPTIMISERS
from ffreid.engine.task import Progress
from ffreid.engine.train_step import TrainStep
from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.defaults import COSINE_LOSSES, defaults
from ffreid.reid.losses import ClothesMemory
from ffreid.reid.model import NETWORKS
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from ffreid.reid.task import NetworkWithClassifier, ReidTask
from tests.golden import arrays, cases, facts
from tests.reid.synthetic_weights import det_input, fill

pytestmark = pytest.mark.golden
SHORT = {"c2d": "c2dres50", "ap3dnl": "ap3dnlres50", "resnet50_maxavg": "resnet50"}
TERMS = {"cla": "classification", "pair": "pair", "clothes": "clothes", "adv": "adversarial"}


class Run:
    """The task of a recorded case, at the recipe's weights, and its one batch."""

    def __init__(self, case: str, meta: dict[str, Any], dtype: torch.dtype) -> None:
        cfg = configuration(meta)
        pids, clothes = torch.tensor(meta["pids"]), torch.tensor(meta["clothes"])
        clothes_of_identity = np.zeros((len(meta["counts"]), sum(meta["counts"])), bool)
        ends = np.cumsum(meta["counts"])
        for identity, (end, count) in enumerate(zip(ends, meta["counts"], strict=True)):
            clothes_of_identity[identity, end - count : end] = True
        model = NETWORKS[SHORT.get(meta["model"], meta["model"])]()
        features, classes = int(model.feature_dim), clothes_of_identity.shape[1]
        kind = NormalizedClassifier if cfg.LOSS.CLA_LOSS in COSINE_LOSSES else Classifier
        head = kind(features, len(clothes_of_identity))
        fill(model)
        fill(head, "identity_classifier.")
        self.clothes = NormalizedClassifier(features, classes)
        fill(self.clothes, "clothes_classifier.")
        self.memory: ClothesMemory | None = None
        if cfg.LOSS.CAL == "calwithmemory":
            loss = cfg.LOSS
            self.memory = ClothesMemory(
                classes, features, scale=loss.CLA_S, epsilon=loss.EPSILON, momentum=loss.MOMENTUM
            )
        self.task = ReidTask(
            NetworkWithClassifier(model, head),
            cfg,
            clothes=None if self.memory else self.clothes,
            memory=self.memory,
            clothes_of_identity=torch.from_numpy(clothes_of_identity),
        ).to(dtype)
        self.features: list[Tensor] = []
        model.register_forward_hook(lambda *args: self.features.append(args[2].detach()))
        make = OPTIMISERS[meta["optimizer"]]
        optimisers = {
            name: make(
                self.task.get_submodule(name).parameters(),
                lr=meta["lr"],
                weight_decay=meta["weight_decay"],
            )
            for name in self.task.optimized
        }
        self.train_step = TrainStep(
            self.task,
            optimisers,
            dict.fromkeys(optimisers, lambda step: float(meta["lr"])),
            device=torch.device("cpu"),
            dtype=dtype,
            seed=0,
        )
        images = torch.from_numpy(det_input(f"train:{case}", tuple(meta["input_shape"])))
        self.batch = ReidBatch(images, pids, clothes)
        self.epoch = meta["epoch"]

    def step(self, number: int) -> dict[str, float]:
        """Run a training step; return the recorded quantities by their names."""
        logged = self.train_step.step([self.batch], Progress(number, 3, self.epoch)).terms
        model, head = self.task.net.model, self.task.net.classifier
        neck = model.get_submodule("bn").state_dict()
        actual = {short: logged[name] for short, name in TERMS.items() if name in logged}
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        actual |= {
            "feature_l2": self.features[-1].norm().item(),
            "param_l2_model": norm(list(model.parameters())),
            "grad_l2_model": norm(gradients),
            "identity_classifier_l2": norm(list(head.parameters())),
            "clothes_classifier_l2": norm(list(self.clothes.parameters())),
            "bn.weight_sum": neck["weight"].sum().item(),
            "bn.running_mean_l2": neck["running_mean"].norm().item(),
            "bn.running_var_l2": neck["running_var"].norm().item(),
        }
        if self.memory is not None:
            actual["feature_memory_l2"] = self.memory.feature_memory.norm().item()
        return actual


def configuration(meta: dict[str, Any]) -> CfgNode:
    cfg = defaults()
    for key, value in meta["loss_cfg"].items():
        cfg.LOSS[key] = value
    for key, value in meta["train_cfg"].items():
        cfg.TRAIN[key] = value
    return cfg


def norm(tensors: list[Any]) -> float:
    return float(torch.stack([tensor.detach().norm() for tensor in tensors]).norm())


def compare(actual: dict[str, float], expected: dict[str, Any], tolerance: float) -> None:
    compared = 0
    for name, value in expected.items():
        if isinstance(value, float):
            assert actual[name] == pytest.approx(value, rel=tolerance), name
            compared += 1
    assert compared >= 8


def check_recorded(expected: dict[str, Any], meta: dict[str, Any]) -> None:
    """Check that the recording has every loss of the case."""
    memory = meta["loss_cfg"]["CAL"] == "calwithmemory"
    adversarial = not memory or meta["epoch"] >= meta["train_cfg"]["START_EPOCH_ADV"]
    recorded = {name for name in TERMS if isinstance(expected[name], float)}
    assert recorded == {"cla", "pair", *["clothes"] * (not memory), *["adv"] * adversarial}


@pytest.mark.parametrize(("stem", "case"), cases("ccreid", "train_steps.json"))
def test_steps_in_double_precision(stem: str, case: str) -> None:
    meta = facts("ccreid", stem)[case]
    run = Run(case, meta, torch.float64)
    for number, expected in enumerate(meta["steps_float64"]):
        check_recorded(expected, meta)
        compare(run.step(number), expected, 1e-6)
        if "label_memory" in expected:
            assert run.memory is not None
            assert run.memory.label_memory.tolist() == expected["label_memory"]
    features = arrays("ccreid", stem)[f"{case}/feature64_step0_first64"]
    np.testing.assert_allclose(run.features[0][:, :64], features, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("stem", "case"), cases("ccreid", "train_steps.json"))
def test_steps_in_single_precision(stem: str, case: str) -> None:
    meta = facts("ccreid", stem)[case]
    run = Run(case, meta, torch.float32)
    first, *others = meta["steps"]
    for number, expected in enumerate([first, *(others if meta["optimizer"] == "sgd" else [])]):
        check_recorded(expected, meta)
        actual = run.step(number)
        near = 5e-3 if number else 5e-4 if "ap3dnl" in meta["model"] else 2e-4
        for name in TERMS:
            if expected[name] is not None:
                assert actual[name] == pytest.approx(expected[name], rel=near), (number, name)
