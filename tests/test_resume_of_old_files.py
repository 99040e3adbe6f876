"""Training resumes from files in the originals' format; missing optimiser states restart."""

from pathlib import Path
from typing import Any

import pytest
from yacs.config import CfgNode

from ffreid import runner
from ffreid.convert import convert
from ffreid.engine.checkpoints import io
from ffreid.recipes import compose
from tests.states import differences

SETTINGS = {
    "toy-pose": (
        "DATA.TOY.TRAIN 4 DATA.TOY.TEST 1 DATA.TOY.HEIGHT 48 DATA.TOY.WIDTH 64 DATA.WORKERS 0 "
        "TRAIN.BATCH 2 TRAIN.EPOCHS 2 MODEL.BACKBONE random TRAIN.CYCLE_DIVISOR 1 "
        "TRAIN.SCHEDULE triangular TRAIN.PRECISION fp32"
    ),
    "toy-reid": (
        "DATA.TOY.IDENTITIES 2 DATA.TOY.TEST_IDENTITIES 2 DATA.TOY.CAMERAS 2 DATA.TOY.PICTURES 2 "
        "DATA.TOY.OUTFITS 2 DATA.HEIGHT 32 DATA.WIDTH 16 DATA.TRAIN_BATCH 4 DATA.NUM_INSTANCES 2 "
        "DATA.NUM_WORKERS 0 MODEL.BACKBONE random TRAIN.MAX_EPOCH 2 TEST.EVAL_STEP 0"
    ),
}
HAS_NO_OPTIMISER = {"toy-pose": False, "toy-reid": True}
"""Whether the original saves no optimiser state."""


def configuration(root: Path, dataset: str, tag: str) -> CfgNode:
    return compose(dataset, root=root, output=root, tag=tag, pairs=SETTINGS[dataset].split())


@pytest.mark.parametrize("dataset", SETTINGS)
def test_training_resumes_from_a_file_in_the_originals_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str
) -> None:
    first = runner.train(configuration(tmp_path, dataset, "first"), stop_at=2) / "last.pth"
    old = tmp_path / "old.pth.tar"
    convert(first, old, to="original")
    original: Any = io.read(old)
    assert ("optimizer_state" in original) is not HAS_NO_OPTIMISER[dataset]
    capsys.readouterr()
    folder = runner.train(configuration(tmp_path, dataset, "second"), resume=old)
    output = capsys.readouterr().err
    assert f"{old} is a checkpoint with" in output
    assert (
        "contains no optimiser state: the optimisers start from scratch" in output
    ) is HAS_NO_OPTIMISER[dataset]
    last = io.load(folder / "last.pth")
    assert last["step"] == last["total"] == 4
    assert differences(dict(last["parts"]["net"]), dict(io.load(first)["parts"]["net"]))
