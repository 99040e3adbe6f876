"""Batch norm over several processes: torch's on CUDA, our own on CPU, and frozen statistics."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm


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
        """Normalise (B, C, ...) over B and ... of all processes."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        assert self.momentum is not None and self.running_mean is not None
        assert self.running_var is not None and self.num_batches_tracked is not None
        axes = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        count = torch.full((1,), x.numel() / x.shape[1], dtype=x.dtype, device=x.device)
        sums: Tensor = _SumOverProcesses.apply(torch.cat([x.sum(axes), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = x - mean.view(shape)
        variance: Tensor = _SumOverProcesses.apply(centred.square().sum(axes)) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            unbiased = variance * (total / (total - 1).clamp(min=1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal


def synchronise(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch norm in `module` by one over all processes; parameters are shared.

    Call it before optimisers are built.
    """
    if device.type == "cuda":
        convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
        return convert(module)
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            gathered = GatheredBatchNorm(
                child.num_features,
                child.eps,
                child.momentum,
                device=child.weight.device,
                dtype=child.weight.dtype,
            )
            gathered.load_state_dict(child.state_dict())
            gathered.weight, gathered.bias = child.weight, child.bias
            gathered.train(child.training)
            setattr(module, name, gathered)
        else:
            synchronise(child, device)
    return module


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
