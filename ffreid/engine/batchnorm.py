"""Batch norm over several processes, over groups of one process's batch, or frozen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn import functional as dist_functional
from torch.nn.modules.batchnorm import _BatchNorm

from ffreid.engine.precision import in_float32

all_reduce: Callable[[Tensor], Tensor] = dist_functional.all_reduce  # differentiable
Norm = TypeVar("Norm", bound=_BatchNorm)


class _AnyBatchNorm(_BatchNorm):
    """Batch norm of inputs (B, C, ...)."""

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() >= 2


class GatheredBatchNorm(_AnyBatchNorm):
    """Batch norm with the statistics of all processes' samples, on any device.

    torch.nn.SyncBatchNorm computes the same but refuses CPU tensors.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over B and ... of all processes, never in half precision."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        return self._normalise(x).to(x.dtype)

    @in_float32
    def _normalise(self, x: Tensor) -> Tensor:
        axes = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        count = torch.full((1,), x.numel() / x.shape[1], dtype=x.dtype, device=x.device)
        sums: Tensor = all_reduce(torch.cat([x.sum(axes), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = x - mean.view(shape)
        variance: Tensor = all_reduce(centred.square().sum(axes)) / total
        if self.track_running_stats:
            assert self.momentum is not None and self.running_mean is not None
            assert self.running_var is not None and self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.detach(), self.momentum)
            unbiased = variance.detach() * (total / (total - 1).clamp(min=1))
            self.running_var.lerp_(unbiased, self.momentum)
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal


class _NormalisedGroups(torch.autograd.Function):
    """`GroupedBatchNorm` on a CPU, bit for bit, without copying the groups' outputs together."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        groups: int,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """Write each group's output to its place in that of the batch."""
        output, saved = torch.empty_like(x), list[Tensor]()
        parts = zip(x.chunk(groups), output.chunk(groups), strict=True)
        for part, normalised in parts:
            mean, deviation = torch.empty_like(weight), torch.empty_like(weight)
            results = normalised, mean, deviation
            first = not saved
            torch.native_batch_norm(
                part,
                weight,
                bias,
                running_mean if first else None,
                running_var if first else None,
                True,
                momentum,
                eps,
                out=results,
            )
            saved += [mean, deviation]
        ctx.save_for_backward(x, weight, *saved)
        ctx.groups, ctx.eps = groups, eps
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Sum the parameters' gradients as autograd does: the first group's, then the last's."""
        x, weight, *saved = ctx.saved_tensors
        parts = zip(
            gradient.chunk(ctx.groups), x.chunk(ctx.groups), saved[::2], saved[1::2], strict=True
        )
        inputs, weights, biases = zip(
            *(
                torch.ops.aten.native_batch_norm_backward(
                    of_output, part, weight, None, None, mean, deviation, True, ctx.eps, [True] * 3
                )
                for of_output, part, mean, deviation in parts
            ),
            strict=True,
        )
        sums = (reduce(torch.add, (first, *reversed(rest))) for first, *rest in (weights, biases))
        return torch.cat(inputs), *sums, *[None] * 5


class GroupedBatchNorm(_AnyBatchNorm):
    """Batch norm of each of `groups` equal parts of the batch; running statistics of the first.

    One process with two groups trains as two processes with separate batch norms do.
    """

    groups = 1

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over B / groups and ...; B must be a multiple of the groups."""
        if not self.training or self.groups == 1:
            return super().forward(x)
        assert len(x) % self.groups == 0, (len(x), self.groups)
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            mean = var = None
            if self.track_running_stats:
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                mean, var = self.running_mean, self.running_var
            output: Tensor = _NormalisedGroups.apply(
                x, self.weight, self.bias, mean, var, self.groups, self.momentum, self.eps
            )
            return output
        first, *others = x.chunk(self.groups)
        normalised = [
            F.batch_norm(part, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for part in others
        ]
        return torch.cat([super().forward(first), *normalised])


def synchronise(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch norm by one over all processes; call it before building optimisers."""
    if device.type == "cuda":
        convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
        return convert(module)
    _replace(module, GatheredBatchNorm)
    return module


def group(module: nn.Module, groups: int) -> None:
    """Replace every batch norm by one over `groups`; call it before building optimisers."""
    _replace(module, GroupedBatchNorm)
    regroup(module, groups)


def regroup(module: nn.Module, groups: int) -> None:
    """Set the number of groups, which is lower in a short batch."""
    for norm in norms_of(module):
        if isinstance(norm, GroupedBatchNorm):
            norm.groups = groups


def _replace(module: nn.Module, kind: type[Norm]) -> None:
    """Replace every batch norm by one of `kind` with the same parameters and statistics."""
    for parent in list(module.modules()):
        for name, old in list(parent.named_children()):
            if isinstance(old, _BatchNorm):
                new = kind(old.num_features, old.eps, old.momentum)
                new.to(old.weight.device, old.weight.dtype)
                new.load_state_dict(old.state_dict())
                new.weight, new.bias = old.weight, old.bias
                setattr(parent, name, new.train(old.training))


def norms_of(module: nn.Module) -> list[_BatchNorm]:
    """Every batch norm of a module."""
    return [child for child in module.modules() if isinstance(child, _BatchNorm)]


def freeze(module: nn.Module) -> None:
    """Put every batch norm in evaluation mode: running statistics are used and kept."""
    for norm in norms_of(module):
        norm.eval()


def set_momentum(module: nn.Module, momentum: float) -> None:
    """Set the weight of a new batch in the running statistics of every batch norm."""
    for norm in norms_of(module):
        norm.momentum = momentum


@contextmanager
def keep_statistics(module: nn.Module, keep: bool = True) -> Iterator[None]:
    """Let no training batch norm change its running statistics in the block, if `keep`."""
    norms = [norm for norm in norms_of(module) if keep and norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
