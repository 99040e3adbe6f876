"""Time of each stage, against the plain form of the stages that are optimised."""

from typing import Any

import torch

from ffreid.bench.engine import engine_rows
from ffreid.bench.reid_data import feeding_rows
from ffreid.bench.reid_network import network_rows, training_rows
from ffreid.bench.reid_ranking import ranking_rows, reranking_rows


def bench(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time every stage on synthetic data, `quick` with small inputs and few repetitions.

    On a GPU only stages that run there.
    """
    stages = (network_rows, training_rows, ranking_rows)
    rows = [line for stage in stages for line in stage(quick, device)]
    if device.type == "cpu":
        rows = [*feeding_rows(quick), *rows, *reranking_rows(quick), *engine_rows(quick)]
    return rows
