"""Processes over NCCL; skipped without a CUDA device."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine import batchnorm
from ffreid.engine.distributed import group
from tests.engine.processes import in_processes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())


def inputs() -> Tensor:
    return torch.randn(8, 3, 6, 5, generator=torch.Generator().manual_seed(2))


def work(rank: int) -> dict[str, Tensor]:
    device = torch.device("cuda", rank)
    net = batchnorm.synchronise(network(), device).to(device)
    outputs = net(inputs().chunk(group.size())[rank].to(device))
    assert group.gather_rows([rank]) == list(range(group.size()))
    return {
        "mean": group.mean(outputs.square().mean().detach()).cpu(),
        "outputs": group.gather_with_grad(outputs).detach().cpu(),
        "statistics": net.state_dict()["1.running_var"].cpu(),
    }


@pytest.mark.parametrize("size", [1, 2])
def test_processes_over_nccl_share_what_one_process_has(size: int, tmp_path: Path) -> None:
    if torch.cuda.device_count() < size:
        pytest.skip(f"fewer than {size} CUDA devices")
    net = network()
    outputs = net(inputs()).detach()
    expected = {"mean": outputs.square().mean(), "outputs": outputs}
    expected["statistics"] = net.state_dict()["1.running_var"]
    for result in in_processes(work, tmp_path, size=size, backend="nccl"):
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-3)
