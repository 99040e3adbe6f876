"""Processes, micro-batches and precision do not change the losses of either task."""

from functools import partial
from pathlib import Path

import pytest
import torch

from ffreid import tasks
from ffreid.engine.distributed import group
from ffreid.engine.distributed.group import World
from ffreid.engine.loading import StepKeys, group_by_step, stream
from ffreid.engine.task import Progress
from ffreid.engine.trainer import Trainer
from ffreid.recipes import compose
from tests.engine.processes import SIZE, in_processes
from tests.reid.command_line import use_tiny

STEPS = 2
SETTINGS = {
    # Frozen statistics: from fresh weights, float32 through 100 batch norms multiplies rounding.
    "toy-pose": (
        "DATA.TOY.TRAIN 6 DATA.TOY.TEST 1 DATA.TOY.HEIGHT 48 DATA.TOY.WIDTH 64 DATA.WORKERS 0 "
        "TRAIN.BATCH 6 TRAIN.BATCH_NORM frozen MODEL.DROPOUT false TRAIN.LR_MAX 1e-4"
    ),
    # Six batch-norm groups, divided differently in each case; ResNet-50 in two processes is
    # compared in float64 in tests/reid/test_processes.py, here a small network replaces it.
    "toy-reid": (
        "DATA.TOY.IDENTITIES 6 DATA.TOY.TEST_IDENTITIES 2 DATA.TOY.CAMERAS 2 DATA.TOY.PICTURES 2 "
        "DATA.HEIGHT 48 DATA.WIDTH 24 DATA.TRAIN_BATCH 4 DATA.NUM_INSTANCES 2 DATA.NUM_WORKERS 0 "
        "TRAIN.BN_GROUPS 6 TRAIN.START_EPOCH_CC 0 TRAIN.START_EPOCH_ADV 0 "
        "TRAIN.OPTIMIZER.LR 1e-5"
    ),
}
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Relative: effect of rounding in a step of Adam."""
CASES = [
    (size, precision, parts)
    for size in (1, SIZE)
    for precision in ("fp32", "bf16")
    for parts in (1, 3)
]


def curve(root: Path, dataset: str, precision: str, count: int) -> list[float]:
    """Every step's loss, and the first gradient norms, which Adam's steps do not show."""
    pairs = [*SETTINGS[dataset].split(), "TRAIN.STEPS", str(STEPS)]
    pairs += ["TRAIN.PRECISION", precision, "TRAIN.ACCUMULATE", str(count)]
    cfg = compose(dataset, root=root, output=root, pairs=pairs)
    world = World(group.rank(), group.size(), torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        use_tiny(patch)
        trainer = Trainer(cfg, world, tasks.modules(cfg.TASK), root)
    keys = StepKeys(
        start=0,
        total=STEPS,
        plan=trainer.plan,
        micro_batches=count,
        rank=world.rank,
        size=world.size,
    )
    batches = stream(trainer.data, keys, trainer.build.collate, workers=0)
    values = []
    for step, micro_batches in zip(keys.steps, group_by_step(batches, count), strict=True):
        result = trainer.train_step.step(micro_batches, Progress(step, STEPS, 0))
        values += [result.terms["loss"], *(result.norms.values() if step == 0 else ())]
    return values


def curves_of(rank: int, root: Path, dataset: str, size: int) -> dict[str, list[float]]:
    return {f"{case}": curve(root, dataset, *case[1:]) for case in CASES if case[0] == size}


@pytest.fixture(scope="module", params=SETTINGS)
def curves(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[float]]:
    """Curves by case; all are compared with one process and one micro-batch."""
    root = tmp_path_factory.mktemp("data")
    single = curves_of(0, root, request.param, 1)
    work = partial(curves_of, root=root, dataset=request.param, size=SIZE)
    first, second = in_processes(work, tmp_path_factory.mktemp("two"))
    assert first == second  # the processes agree on what they log
    return {**single, **first}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_are_those_of_one_process_and_one_micro_batch(
    curves: dict[str, list[float]], case: tuple[int, str, int]
) -> None:
    expected = curves[f"{(1, case[1], 1)}"]
    assert len(set(expected)) > STEPS
    assert curves[f"{case}"] == pytest.approx(expected, rel=TOLERANCE[case[1]])


def test_half_precision_differs_slightly(curves: dict[str, list[float]]) -> None:
    half, single = (curves[f"{(1, name, 1)}"] for name in ("bf16", "fp32"))
    assert half != single
    assert half == pytest.approx(single, rel=0.1)
