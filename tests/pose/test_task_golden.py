"""Five training steps through the engine, against the original's in float64."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ffreid.engine.task import Progress
from ffreid.engine.train_step import TrainStep
from ffreid.pose.data.batch import Inputs, PoseBatch
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.schedules import triangular
from ffreid.pose.task import PoseTask
from tests.golden import facts, recordings
from tests.pose.model.recipes import as_inputs, as_targets, fill, raw_inputs, without_dropout

pytestmark = pytest.mark.golden
TERMS = {
    "segmentation": ("loss_rgbd_seg", 2.0),
    "keypoints": ("loss_kp_of", 1.0),
    "centre": ("loss_ctr_of", 1.0),
}


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    """Sum in the recorded order: rounding errors grow a thousandfold per step."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


STEP_TOLERANCES = (1e-12, 1e-9, 1e-7)
"""Relative tolerance of the losses at steps 0, 1 and 2.

The recording has five steps. Adam divides by gradients near its epsilon, so rounding, which
differs between processor types, grows about a hundredfold a step: 1e-14 at step 0, 6e-12, 3e-10,
4e-7 at step 3, 6e-3 at step 4. What comes after step 2 cannot be compared across processors.
"""


@pytest.mark.parametrize("stem", recordings("ffb6d", "train_steps.json"))
@pytest.mark.parametrize("schedule", ["ignored", "effective"])
def test_losses_of_the_first_three_steps(stem: str, schedule: str) -> None:
    recorded = facts("ffb6d", stem)
    meta = recorded["meta"]
    steps = recorded["float64"][f"bn_momentum_schedule_{schedule}"]["steps"]
    train_step, batch = _train_step(meta, schedule == "effective")
    for step, tolerance in enumerate(STEP_TOLERANCES):
        at = Progress(step, len(steps), 0)
        logged, expected = train_step.step([batch], at).terms, steps[step]
        for name, (key, weight) in TERMS.items():
            assert logged[name] / weight == pytest.approx(expected[key], rel=tolerance), name
        assert logged["loss"] == pytest.approx(expected["loss_all"], rel=tolerance)
        assert logged["accuracy"] == pytest.approx(expected["acc_rgbd"], abs=1e-6)
        if "grad_norms" in steps[step]:
            norms = steps[step]["grad_norms"]
            parameters = train_step.task.get_submodule("net").named_parameters()
            ours = {name: p.grad.norm().item() for name, p in parameters if p.grad is not None}
            compared = {name: norms[name] for name in norms if name in ours}
            assert len(compared) > 300
            for name, norm in compared.items():
                assert ours[name] == pytest.approx(norm, rel=1e-6, abs=1e-9), name


def _train_step(meta: dict[str, Any], schedule: bool) -> tuple[TrainStep, PoseBatch]:
    net = FFB6D(meta["n_classes"])
    fill(net, meta["salt"])
    without_dropout(net)
    net.double()
    task = PoseTask(
        net,
        offset_samples=float(meta["bs"]),
        frozen=False,
        momentum_batch=meta["bs"] if schedule else None,
    )
    cycle = meta["cyclic"]
    low, high, half_period = (cycle[key] for key in ("base_lr", "max_lr", "step_size_up"))

    def rate(step: int) -> float:
        return triangular(max(0, step - 1), low=low, high=high, half_period=half_period)

    train_step = TrainStep(
        task,
        {"net": torch.optim.Adam(net.parameters(), lr=meta["adam_lr_arg"])},
        {"net": rate},
        device=torch.device("cpu"),
        dtype=torch.float64,
        seed=0,
    )
    raw = raw_inputs(
        meta["seed"], meta["bs"], meta["h"], meta["w"], meta["n_pts"], meta["n_classes"]
    )
    inputs: Inputs = as_inputs(raw)
    return train_step, PoseBatch(inputs, as_targets(raw), (None,) * meta["bs"])
