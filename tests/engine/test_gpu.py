"""Processes over NCCL; skipped where there is no CUDA device."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from ffreid.engine import batchnorm
from ffreid.engine.distributed import group

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SAMPLES = 8


def _net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())


def _inputs() -> Tensor:
    return torch.randn(SAMPLES, 3, 6, 5, generator=torch.Generator().manual_seed(2))


def _work(rank: int, size: int, folder: Path) -> None:
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl",
        init_method=(folder / "meeting").as_uri(),
        rank=rank,
        world_size=size,
        device_id=device,
    )
    try:
        net = batchnorm.synchronise(_net(), device).to(device)
        mine = _inputs().chunk(size)[rank].to(device)
        outputs = net(mine)
        mean = group.mean(outputs.square().mean().detach())
        everyones = group.gather_with_grad(outputs)
        found = {
            "mean": mean.cpu(),
            "outputs": everyones.detach().cpu(),
            "statistics": net.state_dict()["1.running_var"].cpu(),
        }
        assert group.gather_rows([rank]) == list(range(size))
        torch.save(found, folder / f"{rank}.pth")
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("size", [1, 2])
def test_processes_over_nccl_share_what_one_process_has(size: int, tmp_path: Path) -> None:
    if torch.cuda.device_count() < size:
        pytest.skip(f"fewer than {size} CUDA devices")
    spawn(_work, (size, tmp_path), nprocs=size)  # type: ignore[no-untyped-call]
    net = _net()
    outputs = net(_inputs()).detach()
    for rank in range(size):
        found = torch.load(tmp_path / f"{rank}.pth", weights_only=True)
        torch.testing.assert_close(found["outputs"], outputs, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found["mean"], outputs.square().mean(), rtol=1e-3, atol=0)
        torch.testing.assert_close(
            found["statistics"], net.state_dict()["1.running_var"], rtol=1e-3, atol=1e-3
        )
