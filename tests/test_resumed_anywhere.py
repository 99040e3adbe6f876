"""A run of either task, resumed after each step, ends bitwise like an uninterrupted one."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from yacs.config import CfgNode

from ffreid import tasks
from ffreid.engine.checkpoints.io import Saved
from ffreid.engine.checkpoints.manager import CheckpointManager
from ffreid.engine.distributed.group import World
from ffreid.engine.trainer import Trainer
from ffreid.recipes import compose
from tests.reid.command_line import use_tiny
from tests.states import differences, without_clocks

STEPS = 6
SETTINGS = {
    # Three steps an epoch, each evaluated.
    "toy-pose": (
        "DATA.TOY.TRAIN 6 DATA.TOY.TEST 1 DATA.TOY.HEIGHT 48 DATA.TOY.WIDTH 64 "
        "TRAIN.BATCH 2 TRAIN.ACCUMULATE 2 DATA.WORKERS 1 TRAIN.CLIP_NORM 1 TRAIN.PRECISION fp32 "
        "DATA.AUGMENT true MODEL.DROPOUT true"
    ),
    # Two steps an epoch; the clothes train from the second on.
    "toy-reid": (
        "DATA.TOY.IDENTITIES 4 DATA.TOY.TEST_IDENTITIES 2 DATA.TOY.CAMERAS 2 DATA.TOY.PICTURES 2 "
        "DATA.TOY.OUTFITS 2 DATA.HEIGHT 32 DATA.WIDTH 16 DATA.TRAIN_BATCH 4 DATA.NUM_INSTANCES 2 "
        "DATA.NUM_WORKERS 1 TRAIN.ACCUMULATE 2 TRAIN.START_EPOCH_CC 1 TRAIN.START_EPOCH_ADV 1 "
        "TEST.EVAL_STEP 1 TRAIN.EMA 0.9"
    ),
}


def trained(cfg: CfgNode, folder: Path, state: Any = None, stop_at: int | None = None) -> None:
    folder.mkdir(exist_ok=True)
    world = World(0, 1, torch.device("cpu"))
    origin = str(folder / "last.pth")
    Trainer(cfg, world, tasks.modules(cfg.TASK), folder, state=state, origin=origin).fit(stop_at)


@pytest.mark.parametrize("dataset", SETTINGS)
@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_a_run_resumed_after_every_step_ends_bitwise_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, precision: str
) -> None:
    saved: dict[Path, Any] = {}

    def keep(
        self: CheckpointManager, name: str, state: dict[str, Any], *, epoch: int | None = None
    ) -> Saved:
        """Keep a copy instead of a file of half a gigabyte."""
        if state["evaluated"]:
            saved[self.folder / name] = deepcopy(state)
        (self.folder / name).touch()
        return Saved(name, 0.0, 0.0)

    monkeypatch.setattr(CheckpointManager, "save", keep)
    use_tiny(monkeypatch)
    pairs = [*SETTINGS[dataset].split(), "TRAIN.STEPS", str(STEPS)]
    pairs += ["MODEL.BACKBONE", "random", "TRAIN.PRECISION", precision]
    cfg = compose(dataset, root=tmp_path, output=tmp_path, pairs=pairs)
    uninterrupted, cut = tmp_path / "full", tmp_path / "cut"
    trained(cfg, uninterrupted)
    trained(cfg, cut, stop_at=1)
    for step in range(1, STEPS):
        state = deepcopy(saved[cut / "last.pth"])
        assert state["step"] == step
        trained(cfg, cut, state, step + 1)
    names = {path.name for path in saved if path.parent == uninterrupted}
    assert names >= {"last.pth", "best.pth"}
    for name in names:
        one, other = without_clocks(saved[cut / name]), without_clocks(saved[uninterrupted / name])
        assert differences(one, other) == []
    assert saved[cut / "last.pth"]["step"] == STEPS
