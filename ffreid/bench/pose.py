"""Time of each stage of a frame, against the plain form of the stages that are optimised."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ffreid.bench.engine import engine_rows
from ffreid.bench.pose_data import data_rows
from ffreid.bench.pose_network import network_rows, training_rows
from ffreid.bench.pose_render import render_rows
from ffreid.bench.pose_scoring import scoring_rows
from ffreid.bench.pose_voting import memory_rows, voting_rows
from ffreid.engine.timing import row


def bench(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time every stage on synthetic data, `quick` with small inputs and few repetitions.

    Rows are those of `engine.timing.row`; ``share`` is of a frame's time in fp32 with exact votes.
    On a GPU only stages that run there.
    """
    rows = [*network_rows(quick, device), *training_rows(quick, device)]
    rows += voting_rows(quick, device)
    if device.type == "cpu":
        rows = [*memory_rows(quick), *data_rows(quick), *rows, *scoring_rows(quick)]
        rows += render_rows(quick)
        rows += [*whole_rows(rows), *engine_rows(quick)]
    total = sum(line["milliseconds"] for line in rows if line["share"] is not None)
    for line in rows:
        if line["share"] is not None:
            line["share"] = line["milliseconds"] / total
    return rows


def whole_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum the stages from files to poses: in fp32 with exact votes, in bf16 with fast ones.

    Plain are trees for neighbours, the network as it is trained, exact votes.
    """

    def first(name: str) -> Mapping[str, Any]:
        return next(line for line in rows if name in line["stage"])

    prepared, voted = first("files to sample"), first("voting and poses")
    fast = first("VOTE.MODE fast")
    forms = {"fp32": voted["milliseconds"], "bf16": fast["milliseconds"]}
    plain = prepared["plain milliseconds"] + first(", fp32:")["plain milliseconds"]
    plain += voted["milliseconds"]
    result = []
    for name, votes in forms.items():
        time = prepared["milliseconds"] + first(f", {name}:")["milliseconds"] + votes
        stage = f"files to poses, {name}: {1000 / time:.2f} frames a second"
        result.append(row(stage, time, plain, part=True))
    return result
