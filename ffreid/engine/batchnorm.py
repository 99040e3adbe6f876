"""Batch norm over several processes, over groups of one process's batch, or frozen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm

Norm = TypeVar("Norm", bound=_BatchNorm)


class _SumOverProcesses(Function):
    """All-reduce whose gradient is the all-reduce of the gradients."""

    @staticmethod
    def forward(_: object, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class GatheredBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of all processes' samples together, on any device.

    torch.nn.SyncBatchNorm computes the same and refuses CPU tensors. Works alone as plain batch
    norm does.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() >= 2

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over B and ... of all processes, never in half precision."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            return self._normalised(wide).to(x.dtype)

    def _normalised(self, x: Tensor) -> Tensor:
        axes = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        count = torch.full((1,), x.numel() / x.shape[1], dtype=x.dtype, device=x.device)
        sums: Tensor = _SumOverProcesses.apply(torch.cat([x.sum(axes), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = x - mean.view(shape)
        variance: Tensor = _SumOverProcesses.apply(centred.square().sum(axes)) / total
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * (total / (total - 1).clamp(min=1)))
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal

    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        assert self.momentum is not None and self.running_mean is not None
        assert self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)


class GroupedBatchNorm(_BatchNorm):
    """Batch norm of each of `groups` equal parts of the batch alone; running ones follow the first.

    One process with two groups trains as two processes do whose batch norms are their own.
    """

    groups = 1

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() >= 2

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over B / groups and ...; B must be divisible by the groups."""
        if not self.training or self.groups == 1:
            return super().forward(x)
        assert len(x) % self.groups == 0, (len(x), self.groups)
        first, *others = x.chunk(self.groups)
        return torch.cat([super().forward(first), *(self._alone(part) for part in others)])

    def _alone(self, part: Tensor) -> Tensor:
        return F.batch_norm(
            part, None, None, weight=self.weight, bias=self.bias, training=True, eps=self.eps
        )


def synchronise(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch norm in `module` by one over all processes; parameters are shared.

    Call it before optimisers are built.
    """
    if device.type == "cuda":
        convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
        return convert(module)
    for parent, name, child in _norms(module):
        setattr(parent, name, _like(child, GatheredBatchNorm))
    return module


def group(module: nn.Module, groups: int) -> None:
    """Replace every batch norm in `module` by one over `groups` parts; parameters are shared.

    Call it before optimisers are built.
    """
    for parent, name, child in _norms(module):
        grouped = _like(child, GroupedBatchNorm)
        grouped.groups = groups
        setattr(parent, name, grouped)


def regroup(module: nn.Module, groups: int) -> None:
    """Set how many parts the batch norms that `group` has made see: a short batch has fewer."""
    for child in module.modules():
        if isinstance(child, GroupedBatchNorm):
            child.groups = groups


def _norms(module: nn.Module) -> list[tuple[nn.Module, str, _BatchNorm]]:
    """Give every batch norm with its parent and its name there."""
    return [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, _BatchNorm)
    ]


def _like(old: _BatchNorm, kind: type[Norm]) -> Norm:
    """Give a batch norm of another kind with the same parameters and a copy of the statistics."""
    new = kind(
        old.num_features, old.eps, old.momentum, device=old.weight.device, dtype=old.weight.dtype
    )
    new.load_state_dict(old.state_dict())
    new.weight, new.bias = old.weight, old.bias
    return new.train(old.training)


def freeze(module: nn.Module) -> None:
    """Put every batch norm in evaluation mode, so that running statistics are used and kept."""
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.eval()


def set_momentum(module: nn.Module, momentum: float) -> None:
    """Set the share of a new batch in the running statistics, in every batch norm."""
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.momentum = momentum


@contextmanager
def keep_statistics(module: nn.Module, kept: bool = True) -> Iterator[None]:
    """Let no batch norm in `module` change its running statistics within the block.

    Args:
        module: training; its batch norms normalise by the batch's statistics as ever.
        kept: False changes nothing.
    """
    children = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    children = children if kept else []
    for child in children:
        child.track_running_stats = False
    try:
        yield
    finally:
        for child in children:
            child.track_running_stats = True
