"""FFB6D as an object: one RGB-D frame in, poses out; its tensors, told by name."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid.engine import precision
from ffreid.engine.modules import evaluating
from ffreid.engine.specs import TensorSpec, checked_inputs
from ffreid.errors import UserError
from ffreid.pose import build, specs
from ffreid.pose.data.batch import LEVELS, Inputs, SkippedFrame, collate
from ffreid.pose.data.dataset import seeded_rng
from ffreid.pose.data.depth import downscale_frame
from ffreid.pose.data.linemod import LinemodReader
from ffreid.pose.data.sample import MIN_POINTS, make_sample
from ffreid.pose.data.user_frame import check_size, frame_from_arrays
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.inference import estimate
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import ObjectModels, folder_objects, linemod_objects, ycb_objects
from ffreid.pose.toy.dataset import write_objects
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.voting.frame import ObjectPose
from ffreid.report import log


@dataclass(frozen=True, kw_only=True)
class Pose:
    """One object as found in a frame.

    Attributes:
        class_id: 1 … M, as the network counts its objects.
        name: the object's.
        camera_from_object: (3, 4) float64: rotation and translation, metres; a point p of the
            object's frame lies at ``camera_from_object @ [*p, 1]`` in the camera's, whose x points
            right, y down and z ahead.
        keypoints_camera: (K + 1, 3) float64 voted keypoints and centre, camera's frame, metres;
            (K, 3) with VOTE.USE_CENTRE false.
        votes: points that voted.
        solved: False where the class was seen and no point was left to vote: the pose is the
            identity then, as the original reports it, and means nothing.
    """

    class_id: int
    name: str
    camera_from_object: npt.NDArray[np.float64]
    keypoints_camera: npt.NDArray[np.float64]
    votes: int
    solved: bool


class PoseModel(nn.Module):
    """FFB6D with what belongs to it: its objects, and how frames are prepared and votes counted.

    Made by `ffreid.create_model`; in evaluation mode.

    Args:
        net: the network.
        objects: that it knows.
        cfg: MODEL.POINTS, DATA.SHRINK, DATA.LAYOUT (which depth is filled) and VOTE count.

    Example:
        >>> model = ffreid.create_model("ycb", checkpoint="best.pth", device="cuda")
        >>> for pose in model.predict(rgb, depth, intrinsics, depth_scale=10000):
        ...     print(pose.name, pose.camera_from_object)
    """

    def __init__(self, net: nn.Module, objects: ObjectModels, cfg: CfgNode) -> None:
        super().__init__()
        self.net, self.objects, self.cfg = net, objects, cfg
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return next(self.parameters()).dtype

    def input_spec(self) -> tuple[TensorSpec, ...]:
        """Tell the tensors that `forward` takes: names, shapes, types, units, ranges."""
        return specs.inputs(self.dtype)

    def output_spec(self) -> tuple[TensorSpec, ...]:
        """Tell the tensors that `forward` gives, in the dict's order."""
        keypoints = self.objects.keypoints.shape[1]
        return specs.outputs(len(self.objects) + 1, keypoints, self.dtype)

    def forward(
        self, inputs: Mapping[str, Tensor] | None = None, **tensors: Tensor
    ) -> dict[str, Tensor]:
        """Run the network alone, on tensors that are prepared already; see `input_spec`.

        Gradients are as the caller has them. That indices lie in their range is not checked.

        Args:
            inputs: all tensors by name, or give them as keywords.
            tensors: by name.

        Returns:
            ``segmentation``, ``keypoint_offsets`` and ``centre_offsets``, see `output_spec`.

        Raises:
            UserError: a tensor is missing, unknown, or of another type, shape or device.

        Example:
            >>> outputs = model(tensors)  # or model(rgb=…, features=…, choose=…, …)
            >>> labels = outputs["segmentation"].argmax(dim=1)
        """
        given = checked_inputs(self.input_spec(), inputs, tensors, self.device)
        levels = {
            name: tuple(given[f"{name}_{i}"] for i in range(specs.COUNTS[name])) for name in LEVELS
        }
        outputs = self.net(
            Inputs(rgb=given["rgb"], features=given["features"], choose=given["choose"], **levels)
        )
        return {spec.name: getattr(outputs, spec.name) for spec in self.output_spec()}

    def predict(
        self,
        rgb: npt.ArrayLike,
        depth: npt.ArrayLike,
        intrinsics: npt.ArrayLike,
        depth_scale: float = 1000.0,
        *,
        seed: int = 0,
        index: int = 0,
    ) -> list[Pose]:
        """Find the objects in one frame and their poses.

        Computes what ``ffreid eval`` computes for frame number `index` of its list with SEED
        `seed`; on a CPU bit for bit.

        Args:
            rgb: (H, W, 3) uint8, RGB.
            depth: (H, W), registered to the colours, `depth_scale` units a metre, whole or
                floating numbers; 0, NaN or infinity where nothing was measured.
            intrinsics: (3, 3) camera matrix, pixels.
            depth_scale: units a metre: 1000 for millimetres, 1 for metres, 10000 for YCB-Video.
            seed: the points that the network sees are drawn from (seed, index).
            index: see `seed`.

        Returns:
            At most one pose a class, in order of class; [] where nothing is seen.

        Raises:
            UserError: an argument has another shape or type than that; H or W (divided by
                DATA.SHRINK) is no multiple of 8; fewer than 400 pixels have depth.

        Example:
            >>> poses = model.predict(rgb, depth_mm, [[615, 0, 320], [0, 615, 240], [0, 0, 1]])
            >>> best = max(poses, key=lambda pose: pose.votes)
            >>> points_camera = points @ best.camera_from_object[:, :3].T
            >>> points_camera += best.camera_from_object[:, 3]
        """
        frame = frame_from_arrays(rgb, depth, intrinsics, depth_scale)
        check_size(frame, self.cfg.DATA.SHRINK)
        if min(seed, index) < 0:
            raise UserError(f"seed is {seed}, index {index}", "give numbers from 0 on")
        sample = make_sample(
            downscale_frame(frame, self.cfg.DATA.SHRINK),
            self.objects,
            points=self.cfg.MODEL.POINTS,
            rng=seeded_rng(seed, index),
            fill_holes=_READERS[self.cfg.DATA.LAYOUT].fill_holes,
        )
        if isinstance(sample, SkippedFrame):
            raise UserError(
                f"depth: {sample.reason}",
                f"at least {MIN_POINTS} pixels must be measured; check depth and depth_scale "
                f"({depth_scale:g} units a metre)",
            )
        batch = collate([sample]).to(self.device, self.dtype)
        with precision.flags(self.cfg), evaluating(self.net):
            (found,) = estimate(batch, self.net, self.objects, build.voting(self.cfg))
        return [self._named(pose) for pose in found]

    def _named(self, pose: ObjectPose) -> Pose:
        return Pose(
            class_id=pose.class_id,
            name=self.objects.name(pose.class_id),
            camera_from_object=np.asarray(pose.camera_from_object, np.float64),
            keypoints_camera=pose.keypoints,
            votes=pose.votes,
            solved=pose.solved,
        )


def create(cfg: CfgNode, checkpoint: Path | None, device: torch.device) -> PoseModel:
    """Make the model that `cfg` names; without a checkpoint its weights are random.

    Raises:
        UserError: the checkpoint is unreadable, or another network's.
    """
    objects = _OBJECTS[cfg.DATA.LAYOUT](cfg)
    if checkpoint is None:
        net: nn.Module = FFB6D(len(objects) + 1, objects.keypoints.shape[1])
    else:
        net, state = build.load_network(checkpoint, objects, device)
        for line in build.changed_settings(cfg, state):
            log(f"note: {line}")
    return PoseModel(net.to(device, precision.dtype(cfg)), objects, cfg)


def _toy(cfg: CfgNode) -> ObjectModels:
    """The toy objects as the toy data have them, in numbers of as many digits."""
    with tempfile.TemporaryDirectory(prefix="ffreid-objects-") as folder:
        write_objects(Path(folder), toy_objects())
        return folder_objects(cfg.DATASET, Path(folder))


_OBJECTS: dict[str, Callable[[CfgNode], ObjectModels]] = {
    "ycb": lambda cfg: ycb_objects(),
    "linemod": lambda cfg: linemod_objects(cfg.DATA.CLS),
    "toy": _toy,
}
_READERS: dict[str, type[YcbReader] | type[LinemodReader]] = {
    "ycb": YcbReader,
    "linemod": LinemodReader,
    "toy": YcbReader,
}
