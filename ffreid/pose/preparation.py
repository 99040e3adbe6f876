"""The inputs of FFB6D from one RGB-D frame, for networks that run without ffreid's."""

import numpy as np
import numpy.typing as npt
import torch

from ffreid.errors import UserError
from ffreid.pose import specs
from ffreid.pose.data.batch import Inputs, Sample, collate
from ffreid.pose.data.dataset import seeded_rng
from ffreid.pose.data.depth import downscale_frame
from ffreid.pose.data.frame import frame_from_arrays
from ffreid.pose.data.sample import MIN_POINTS, make_sample
from ffreid.pose.objects import ycb_objects


def prepare_frame(
    rgb: npt.ArrayLike,
    depth: npt.ArrayLike,
    intrinsics: npt.ArrayLike,
    depth_scale: float = 1000.0,
    *,
    points: int = 12800,
    fill_holes: bool = False,
    shrink: int = 1,
    seed: int = 0,
    index: int = 0,
) -> dict[str, npt.NDArray[np.generic]]:
    """Compute the inputs of FFB6D for one frame, as `PoseModel.predict` does.

    Args:
        rgb: (H, W, 3) uint8, RGB.
        depth: (H, W) integers or floats, registered to `rgb`; 0 where nothing was measured.
        intrinsics: (3, 3) camera matrix, pixels.
        depth_scale: units of `depth` per metre.
        points: MODEL.POINTS of the network.
        fill_holes: fill missing depth: true for networks of YCB-Video and toy-pose.
        shrink: DATA.SHRINK of the network.
        seed: the points are drawn with (seed, index).
        index: see `seed`.

    Returns:
        Arrays (1, …) by the names of `PoseModel.input_spec`; float32, and int64 indices.

    Raises:
        UserError: an argument has another shape or type, or too few pixels have depth.

    Example:
        >>> inputs = ffreid.prepare_frame(rgb, depth_mm, intrinsics)
        >>> outputs = onnxruntime.InferenceSession("pose.onnx").run(None, inputs)
    """
    frame = downscale_frame(frame_from_arrays(rgb, depth, intrinsics, depth_scale), shrink)
    rng = seeded_rng(seed, index)
    # The objects are those of labels, which the frame has none of.
    sample = make_sample(frame, ycb_objects(), points=points, rng=rng, fill_holes=fill_holes)
    if not isinstance(sample, Sample):
        raise UserError(f"depth: {sample.reason}", f"at least {MIN_POINTS} pixels need depth")
    inputs = collate([sample]).inputs.to(torch.device("cpu"))
    return {name: tensor.numpy() for name, tensor in named_tensors(inputs).items()}


def named_tensors(inputs: Inputs) -> dict[str, torch.Tensor]:
    """The tensors of `Inputs` by the names of `specs.inputs`, in that order."""
    levels = {
        f"{name}_{i}": getattr(inputs, name)[i]
        for name, count in specs.COUNTS.items()
        for i in range(count)
    }
    tensors = {"rgb": inputs.rgb, "features": inputs.features, "choose": inputs.choose, **levels}
    return {spec.name: tensors[spec.name] for spec in specs.inputs(inputs.rgb.dtype)}
