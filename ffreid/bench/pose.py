"""Time of each stage of a frame, against the plain form of the stages that are optimised."""

from typing import Any

import torch

from ffreid.bench.engine import engine_rows
from ffreid.bench.pose_data import data_rows
from ffreid.bench.pose_network import network_rows, training_rows
from ffreid.bench.pose_scoring import scoring_rows
from ffreid.bench.pose_voting import memory_rows, voting_rows


def bench(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time every stage on synthetic data, `quick` with small inputs and few repetitions.

    Rows are those of `engine.timing.row`; ``share`` is of a frame's time. On a GPU only stages that
    run there.
    """
    rows = [*network_rows(quick, device), *training_rows(quick, device)]
    rows += voting_rows(quick, device)
    if device.type == "cpu":
        rows = [*memory_rows(quick), *data_rows(quick), *rows, *scoring_rows(quick)]
        rows += engine_rows(quick)
    total = sum(line["milliseconds"] for line in rows if line["share"] is not None)
    for line in rows:
        if line["share"] is not None:
            line["share"] = line["milliseconds"] / total
    return rows
