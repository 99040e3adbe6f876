"""Processes, parts of a step and precision leave the losses of both systems what they are."""

from functools import partial
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

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
    # Six batch-norm groups, which every cell shares out otherwise; ResNet-50 in two processes is
    # compared in float64 in tests/reid/test_processes.py, here a small network takes its place.
    "toy-reid": (
        "DATA.TOY.IDENTITIES 6 DATA.TOY.TEST_IDENTITIES 2 DATA.TOY.CAMERAS 2 DATA.TOY.PICTURES 2 "
        "DATA.HEIGHT 48 DATA.WIDTH 24 DATA.TRAIN_BATCH 4 DATA.NUM_INSTANCES 2 DATA.NUM_WORKERS 0 "
        "TRAIN.BN_GROUPS 6 TRAIN.START_EPOCH_CC 0 TRAIN.START_EPOCH_ADV 0 "
        "TRAIN.OPTIMIZER.LR 1e-5"
    ),
}
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Relative: what rounding becomes in a step of Adam."""
CELLS = [
    (size, precision, parts)
    for size in (1, SIZE)
    for precision in ("fp32", "bf16")
    for parts in (1, 3)
]


def configuration(root: Path, dataset: str, precision: str, parts: int) -> CfgNode:
    pairs = [*SETTINGS[dataset].split(), "TRAIN.STEPS", str(STEPS)]
    pairs += ["TRAIN.PRECISION", precision, "TRAIN.ACCUMULATE", str(parts)]
    return compose(dataset, root=root, output=root, pairs=pairs)


def curve(root: Path, dataset: str, precision: str, parts: int) -> list[float]:
    """Every step's loss, and the first gradients' lengths, which Adam's steps do not show."""
    with pytest.MonkeyPatch.context() as patch:
        use_tiny(patch)
        return curve_of(configuration(root, dataset, precision, parts), root)


def curve_of(cfg: CfgNode, root: Path) -> list[float]:
    parts = cfg.TRAIN.ACCUMULATE
    world = World(group.rank(), group.size(), torch.device("cpu"))
    trainer = Trainer(cfg, world, tasks.modules(cfg.TASK), root)
    keys = StepKeys(
        start=0,
        total=STEPS,
        plan=trainer.plan,
        micro_batches=parts,
        rank=world.rank,
        size=world.size,
    )
    batches = stream(trainer.data, keys, trainer.build.collate, workers=0)
    found = []
    for step, cut in zip(keys.steps, group_by_step(batches, parts), strict=True):
        stepped = trainer.train_step.step(cut, Progress(step, STEPS, 0))
        found += [stepped.terms["loss"], *(stepped.norms.values() if step == 0 else ())]
    return found


def curves(rank: int, root: Path, dataset: str) -> dict[str, list[float]]:
    return {f"{cell}": curve(root, dataset, *cell[1:]) for cell in CELLS if cell[0] == SIZE}


@pytest.fixture(scope="module", params=SETTINGS)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[float]]:
    """Curves by cell; those of one process and one part are what the others are compared with."""
    root = tmp_path_factory.mktemp("data")
    mine = {f"{cell}": curve(root, request.param, *cell[1:]) for cell in CELLS if cell[0] == 1}
    work = partial(curves, root=root, dataset=request.param)
    together, others = in_processes(work, tmp_path_factory.mktemp("two"))
    assert together == others  # the processes agree on what they log
    found: dict[str, list[float]] = mine | together
    return found


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_curve_is_that_of_one_process_and_the_whole_step(
    found: dict[str, list[float]], cell: tuple[int, str, int]
) -> None:
    plain = found[f"{(1, cell[1], 1)}"]
    assert len(set(plain)) > STEPS
    assert found[f"{cell}"] == pytest.approx(plain, rel=TOLERANCE[cell[1]])


def test_half_precision_is_another_computation_of_the_same(found: dict[str, list[float]]) -> None:
    half, single = (found[f"{(1, name, 1)}"] for name in ("bf16", "fp32"))
    assert half != single
    assert half == pytest.approx(single, rel=0.1)
