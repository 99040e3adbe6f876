"""bfloat16 on a CPU: memory format and optimiser by themselves, and losses near those of fp32."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from ffreid import tasks
from ffreid.engine.distributed.group import World
from ffreid.engine.loading import StepKeys, group_by_step, stream
from ffreid.engine.task import Progress
from ffreid.engine.trainer import Trainer
from ffreid.recipes import compose

STEPS = 16
SETTINGS = {
    "toy-pose": (
        "DATA.TOY.TRAIN 4 DATA.TOY.TEST 1 DATA.TOY.HEIGHT 48 DATA.TOY.WIDTH 64 DATA.WORKERS 0 "
        "TRAIN.BATCH 2"
    ),
    "toy-reid": (
        "DATA.TOY.IDENTITIES 4 DATA.TOY.TEST_IDENTITIES 2 DATA.TOY.CAMERAS 2 DATA.TOY.PICTURES 2 "
        "DATA.TOY.OUTFITS 2 DATA.HEIGHT 32 DATA.WIDTH 16 DATA.TRAIN_BATCH 4 DATA.NUM_INSTANCES 2 "
        "DATA.NUM_WORKERS 0 TRAIN.START_EPOCH_CC 0 TRAIN.START_EPOCH_ADV 0"
    ),
}
BOUND = 0.1
"""Relative difference of the mean loss of the last half."""


def trainer(root: Path, dataset: str, precision: str) -> Trainer:
    pairs = [*SETTINGS[dataset].split(), "TRAIN.STEPS", str(STEPS), "TRAIN.PRECISION", precision]
    cfg = compose(dataset, root=root, output=root, pairs=pairs)
    return Trainer(cfg, World(0, 1, torch.device("cpu")), tasks.modules(cfg.TASK), root)


def losses(run: Trainer) -> list[float]:
    """The loss of each step."""
    keys = StepKeys(start=0, total=STEPS, plan=run.plan, micro_batches=1, rank=0, size=1)
    batches = group_by_step(stream(run.data, keys, run.build.collate, workers=0), 1)
    steps = enumerate(islice(batches, STEPS))
    results = [run.train_step.step(batch, Progress(i, STEPS, 0)) for i, batch in steps]
    assert all(result.skipped is None for result in results)
    return [result.terms["loss"] for result in results]


@pytest.mark.parametrize("dataset", SETTINGS)
def test_bf16_trains_like_fp32_in_its_own_layout(tmp_path: Path, dataset: str) -> None:
    means = {}
    for precision in ("fp32", "bf16"):
        run = trainer(tmp_path, dataset, precision)
        kernels = [p for p in run.train_step.task.parameters() if p.dim() == 4 and p.shape[2] > 1]
        is_last = {p.is_contiguous(memory_format=torch.channels_last) for p in kernels}
        fused = {bool(o.defaults["fused"]) for o in run.train_step.optimisers.values()}
        assert is_last == fused == {precision == "bf16"}
        curve = losses(run)
        means[precision] = sum(curve[STEPS // 2 :]) / (STEPS // 2)
    assert means["bf16"] == pytest.approx(means["fp32"], rel=BOUND)
    assert means["bf16"] != means["fp32"]
