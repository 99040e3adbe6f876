"""Networks for evaluation on CPUs by OpenVINO."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ffreid.errors import UserError

PRECISIONS = {"fp32": ("f32", 0.999999), "bf16": ("bf16", 0.999)}
"""OpenVINO's name, and the least cosine between its features and the network's."""


class OpenVinoNetwork(nn.Module):
    """A network in evaluation mode, compiled by OpenVINO; later changes to it have no effect.

    It is compiled for the shape of the first inputs (seconds) and compared with the network on one
    of them. A smaller batch is filled up. Clips are computed one by one: OpenVINO 2026.4 computes
    batches of them wrongly.

    Raises:
        UserError: openvino is not installed, the network is not on a CPU in float32, or OpenVINO
            cannot convert it or computes something else.
    """

    def __init__(self, net: nn.Module, precision: str) -> None:
        super().__init__()
        try:
            import openvino
        except ImportError as error:
            raise UserError(
                f"TEST.ENGINE openvino needs another package: {error}",
                "pip install 'ffreid[openvino]', or remove --engine openvino",
            ) from error
        weight = next(net.parameters())
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise UserError(
                f"TEST.ENGINE openvino runs on CPUs in float32, not on {weight.device} in "
                f"{weight.dtype}",
                "remove --engine openvino",
            )
        self.openvino: Any = openvino
        # In a tuple it is not registered as a part of this module.
        self.net, self.precision = (net.eval(),), precision
        self.compiled: tuple[tuple[int, ...], Any] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) or (B, 3, T, H, W) to features (B, D) as the network does."""
        images = images.detach()
        size = 1 if images.dim() == 5 else len(images)
        if self.compiled is None or not _fits(self.compiled[0], size, images):
            shape = (size, *images.shape[1:])
            self.compiled = shape, self._compile(images[:size])
        shape, request = self.compiled
        return torch.cat(
            [_infer(request, part, shape[0]) for part in torch.split(images, shape[0])]
        )

    def _compile(self, images: Tensor) -> Any:
        net, (name, least) = self.net[0], PRECISIONS[self.precision]
        threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
        try:
            with torch.no_grad():
                model = self.openvino.convert_model(torch.export.export(net, (images.clone(),)))
            compiled = self.openvino.Core().compile_model(
                model, "CPU", {"INFERENCE_PRECISION_HINT": name} | threads
            )
        except RuntimeError as error:
            raise UserError(
                f"OpenVINO cannot compile {type(net).__name__}: {str(error)[:300]}",
                "remove --engine openvino",
            ) from error
        request = compiled.create_infer_request()
        with torch.no_grad():
            expected = net(images[:1])
        cosine = float(cosine_similarity(_infer(request, images, len(images))[:1], expected))
        if not cosine >= least:
            raise UserError(
                f"OpenVINO {self.openvino.__version__} computes other features than torch: their "
                f"cosine is {cosine:.6f}",
                "remove --engine openvino, or install another version of openvino",
            )
        return request


def _fits(shape: tuple[int, ...], size: int, images: Tensor) -> bool:
    return size <= shape[0] and tuple(images.shape[1:]) == shape[1:]


def _infer(request: Any, images: Tensor, size: int) -> Tensor:
    count = len(images)
    if count < size:
        images = torch.cat([images, images[:1].expand(size - count, *images.shape[1:])])
    (features,) = request.infer([np.ascontiguousarray(images.numpy())]).values()
    return torch.from_numpy(features[:count].copy())
