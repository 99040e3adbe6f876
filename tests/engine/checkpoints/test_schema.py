"""Each entry of a checkpoint, replaced by garbage of each kind, is refused by name."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.manager import latest_valid
from ffreid.errors import UserError
from tests.engine import example_task

SETTINGS = ("TRAIN.EMA", "0.9", "TRAIN.PRECISION", "fp16", "TRAIN.KEEP_EVERY", "1")
GARBAGE = {
    "text": "\x1b[31mgarbage",
    "list": [1, 2],
    "NaN": float("nan"),
    "negative": -1,
    "infinite": float("inf"),
    "huge": 10**30,
    "tensor": torch.zeros(7),
    "None": None,
    "mapping": {},
    "true": True,
}
NAMES = """
    task step total evaluated skipped lines classes classes/0 config best bests data data/0 data/1
    bests/best bests/best/name bests/best/value bests/best/step measured measured/rank1 epoch_sums
    epoch_sums/steps epoch_sums/seconds epoch_sums/waited epoch_sums/sums epoch_sums/sums/fit
    parts parts/net parts/net/0.weight parts/net/1.num_batches_tracked averages
    averages/net.0.weight scaler scaler/scale scaler/growth_interval optimisers optimisers/net
    optimisers/net/state optimisers/net/state/0 optimisers/net/state/0/step
    optimisers/net/state/0/exp_avg optimisers/net/param_groups optimisers/net/param_groups/0
    optimisers/net/param_groups/0/lr optimisers/net/param_groups/0/betas
    optimisers/net/param_groups/0/weight_decay optimisers/net/param_groups/0/maximize
    optimisers/net/param_groups/0/params
"""
ENTRIES = NAMES.split()
MEANT = {
    "best": "NaN negative infinite None",
    "bests/best/value": "NaN negative infinite",
    "bests/best/step": "None",
    "bests": "mapping",
    "measured": "mapping",
    "measured/rank1": "NaN negative infinite",
    "evaluated": "true",
    "epoch_sums": "mapping",
    "epoch_sums/sums": "mapping",
    "epoch_sums/sums/fit": "NaN negative infinite",
    "scaler": "mapping",  # none, as of a GPU with bfloat16
    "optimisers/net/state": "mapping",
    "optimisers/net/state/0": "mapping",
    "optimisers/net/param_groups/0/maximize": "None true",
}
"""Values above that the entry may have."""
CASES = [(entry, kind) for entry in ENTRIES for kind in GARBAGE]
REFUSED = [case for case in CASES if case[1] not in MEANT.get(case[0], "").split()]
SHALLOW = [(entry, kind) for entry, kind in REFUSED if "/" not in entry and kind != "mapping"]
"""Refused before there is a network."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("run")
    example_task.trainer(example_task.defaults(folder, *SETTINGS), folder).fit(5)
    return io.load(folder / "last.pth") | {"measured": {"rank1": 0.5}}


def altered(state: dict[str, Any], entry: str, value: Any) -> dict[str, Any]:
    state = deepcopy(state)
    node: Any = state
    *parents, last = (int(name) if name.isdigit() else name for name in entry.split("/"))
    for name in parents:
        node = node[name]
    assert node[last] is not None
    if isinstance(node, tuple):
        state["data"] = tuple(value if place == last else item for place, item in enumerate(node))
    else:
        node[last] = value
    return state


def resume(folder: Path) -> None:
    """Resume from ``last.pth`` and train to the end."""
    cfg = example_task.defaults(folder, *SETTINGS)
    example_task.trainer(cfg, folder, io.load(folder / "last.pth")).fit()


@pytest.mark.parametrize(("entry", "kind"), REFUSED)
def test_garbage_is_refused_by_the_name_of_its_entry(
    tmp_path: Path, state: dict[str, Any], entry: str, kind: str
) -> None:
    io.save(tmp_path / "last.pth", altered(state, entry, GARBAGE[kind]))
    with pytest.raises(UserError) as caught:
        resume(tmp_path)
    message = caught.value.message
    assert message.isprintable() and len(message) < 300
    assert str(tmp_path / "last.pth") in message
    words = {
        "classes/0": "classes",
        "data/0": "data",
        "data/1": "data",
        "parts": "parts" if kind != "mapping" else "entry 'head'",
        "optimisers/net/state/0": "optimisers.net",
        "optimisers/net/param_groups/0/params": "optimisers.net",
    }
    assert words.get(entry, entry.split("/")[-1]) in message


@pytest.mark.parametrize(("entry", "kind"), sorted({*CASES} - {*REFUSED}))
def test_what_an_entry_may_hold_is_read(
    tmp_path: Path, state: dict[str, Any], entry: str, kind: str
) -> None:
    io.save(tmp_path / "last.pth", altered(state, entry, GARBAGE[kind]))
    resume(tmp_path)
    assert io.load(tmp_path / "last.pth")["step"] == 6


@pytest.mark.parametrize(("entry", "kind"), SHALLOW)
def test_auto_takes_the_next_state(
    tmp_path: Path, state: dict[str, Any], entry: str, kind: str
) -> None:
    io.save(tmp_path / "epoch-0002.pth", state)
    io.save(tmp_path / "last.pth", altered(state, entry, GARBAGE[kind]))
    notes: list[str] = []
    checkpoint = latest_valid(tmp_path, notes.append)
    assert checkpoint is not None and checkpoint[0].name == "epoch-0002.pth"
    (note,) = notes
    assert note.startswith("note: skipped: ") and entry in note
