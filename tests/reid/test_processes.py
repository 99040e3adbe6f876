"""Two processes train as one process does with two batch-norm groups."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from yacs.config import CfgNode

from ffreid.engine import precision
from ffreid.engine.distributed import group
from ffreid.engine.loading import StepKeys, stream
from ffreid.engine.task import Progress
from ffreid.engine.train_step import TrainStep
from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid import build, sources
from ffreid.reid.data.batch import ReidBatch
from tests.engine.processes import SIZE, in_processes

STEPS = 2
SETTINGS = (
    "DATA.TOY.IDENTITIES 6 DATA.TOY.TEST_IDENTITIES 2 DATA.TOY.OUTFITS 3 "
    "DATA.TOY.CAMERAS 2 DATA.TOY.PICTURES 2 "
    "DATA.HEIGHT 48 DATA.WIDTH 24 DATA.TRAIN_BATCH 6 DATA.NUM_INSTANCES 2 DATA.NUM_WORKERS 0 "
    "TRAIN.PRECISION fp64 TRAIN.BN_GROUPS 2 TRAIN.START_EPOCH_CC 0 TRAIN.START_EPOCH_ADV 0 "
    "TRAIN.OPTIMIZER.LR 0.00035 "  # the published recipes': a larger one multiplies rounding
)
CASES = {
    "cal with the triplet loss": "LOSS.PAIR_LOSS_WEIGHT 1.0 LOSS.PAIR_LOSS triplet",
    "cal with memory": "LOSS.CAL calwithmemory LOSS.MOMENTUM 0.2",
    "cal before the clothes train": "TRAIN.START_EPOCH_CC 9 TRAIN.START_EPOCH_ADV 9",
}
FIRST = next(iter(CASES))
EXACT = 1e-9


def configuration(root: Path, case: str, *more: str) -> CfgNode:
    pairs = [*(SETTINGS + CASES[case]).split(), *more]
    return compose("toy-reid", root=root, output=root, pairs=pairs)


def damaged(batch: ReidBatch) -> ReidBatch:
    """Report an unreadable file for every sample with some clothes labels."""
    return replace(batch, broken=("x.png",) * int((batch.clothes % 3 == 0).sum()))


def trained(cfg: CfgNode, steps: int = STEPS) -> dict[str, Any]:
    """State and losses after some steps of this process, or of a single one."""
    source = sources.open_source(cfg)
    sources.check_source(cfg, source)
    data = build.training_set(cfg, source)
    plan = build.plan(cfg, data)
    cpu = torch.device("cpu")
    task = build.build_task(cfg, source, cpu)
    train_step = TrainStep(
        task,
        build.build_optimisers(cfg, task),
        build.rates(cfg, plan),
        device=cpu,
        dtype=precision.dtype(cfg),
        seed=cfg.SEED,
        rank=group.rank(),
    )
    keys = StepKeys(start=0, total=steps, plan=plan, rank=group.rank(), size=group.size())
    batches = stream(data, keys, build.collate, workers=0)
    logged = [
        train_step.step([damaged(batch)], Progress(step, plan.total, step // plan.steps_per_epoch))
        for step, batch in zip(keys.steps, batches, strict=True)
    ]
    train_step.prepare_evaluation()
    parts = train_step.state()["parts"]
    tensors = {f"{part}.{key}": parts[part][key] for part in parts for key in parts[part]}
    return {"tensors": tensors, "logged": [stepped.terms for stepped in logged]}


def train_cases(rank: int, root: Path) -> dict[str, Any]:
    """All tensors of the first process; small ones and the memory of the second.

    Large weights are equal by construction, and writing them takes longer than training.
    """
    result = {case: trained(configuration(root, case)) for case in CASES}
    for state in result.values() if rank else ():
        state["tensors"] = {
            name: value
            for name, value in state["tensors"].items()
            if value.dim() < 2 or "memory" in name
        }
    return result


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sources.open_source(configuration(folder, FIRST))
    return folder


@pytest.fixture(scope="module")
def two_processes(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = in_processes(
        partial(train_cases, root=root), tmp_path_factory.mktemp("two")
    )
    return result


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_two_groups(
    root: Path, two_processes: list[dict[str, Any]], case: str
) -> None:
    single = trained(configuration(root, case))
    assert len(single["tensors"]) > 300
    assert sum(logged["broken"] for logged in single["logged"]) > 0
    assert set(two_processes[0][case]["tensors"]) == set(single["tensors"])
    for state in two_processes:
        assert len(state[case]["tensors"]) > 200
        for name, value in state[case]["tensors"].items():
            difference = (single["tensors"][name] - value).abs().max()
            assert difference <= EXACT * value.abs().max(), name
        for ours, expected in zip(state[case]["logged"], single["logged"], strict=True):
            assert ours == pytest.approx(expected, rel=EXACT)


def test_batch_norm_groups_change_the_losses(root: Path) -> None:
    grouped = trained(configuration(root, FIRST), 1)["logged"][0]
    synchronised = trained(configuration(root, FIRST, "TRAIN.BATCH_NORM", "sync"), 1)["logged"][0]
    assert grouped["classification"] != pytest.approx(synchronised["classification"], rel=1e-3)


@pytest.mark.parametrize(
    ("more", "error", "hint"),
    [
        ("", "2 processes cannot share 1 batch-norm group", "TRAIN.BATCH_NORM sync"),
        ("TRAIN.BATCH_NORM sync", "PAIR_GRADIENT own", "set LOSS.PAIR_GRADIENT full"),
    ],
)
def test_an_unsuitable_number_of_processes_is_refused(
    root: Path, more: str, error: str, hint: str
) -> None:
    with pytest.raises(UserError, match=error) as caught:
        sources.check_processes(
            configuration(root, FIRST, "TRAIN.BN_GROUPS", "1", *more.split()), SIZE
        )
    assert hint in caught.value.hint


def test_processes_may_split_a_group_without_a_pairwise_loss(root: Path) -> None:
    more = ("TRAIN.BN_GROUPS", "1", "TRAIN.BATCH_NORM", "sync")
    sources.check_processes(configuration(root, "cal before the clothes train", *more), SIZE)
