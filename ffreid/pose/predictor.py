"""FFB6D for the Python API: from one RGB-D frame to poses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid.engine import precision
from ffreid.engine.checkpoints import io
from ffreid.engine.fingerprint import checksum
from ffreid.engine.modules import evaluating, weights_key
from ffreid.engine.specs import TensorSpec, checked_inputs
from ffreid.engine.timing import Stopwatch
from ffreid.errors import UserError
from ffreid.pose import build, calibration, specs
from ffreid.pose.calibration import Calibration
from ffreid.pose.confidence import Evidence, weigh_all
from ffreid.pose.data.batch import LEVELS, Inputs, SkippedFrame, collate
from ffreid.pose.data.dataset import seeded_rng
from ffreid.pose.data.depth import downscale_frame
from ffreid.pose.data.frame import Frame, frame_from_arrays
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.data.sample import make_sample
from ffreid.pose.inference import Network, network_votes, poses_of
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import ObjectModels
from ffreid.pose.own.find import find
from ffreid.pose.own.read import make_options
from ffreid.pose.refine import Refinement, Refiner, refiner
from ffreid.pose.sources import layout_of
from ffreid.pose.stored_objects import StoredObjects, unpack
from ffreid.pose.voting.frame import ObjectPose
from ffreid.report import log

if TYPE_CHECKING:
    from ffreid.pose.own.predict import FileResult


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Pose of one object in a frame.

    Attributes:
        class_id: 1 … M, as in the network's segmentation.
        name: of the object.
        camera_from_object: (3, 4) float64 rotation and translation, metres: a point p in the
            object frame is ``camera_from_object @ [*p, 1]`` in the camera frame, whose x points
            right, y down and z forward.
        keypoints_camera: (K + 1, 3) float64 voted keypoints and centre, camera frame, metres;
            (K, 3) with VOTE.USE_CENTRE false.
        votes: number of points that voted.
        solved: False where the class was predicted but no point was left to vote: the pose is
            then the identity, as in the original, and has no meaning.
        evidence: what supports the pose before refinement; its ``score`` is the raw score.
        probability: that ADD(-S) is below a tenth of the diameter; None without a calibration.
        refinement: what ``refine="icp"`` did.
    """

    class_id: int
    name: str
    camera_from_object: npt.NDArray[np.float64]
    keypoints_camera: npt.NDArray[np.float64]
    votes: int
    solved: bool
    evidence: Evidence
    probability: float | None = None
    refinement: Refinement | None = None

    @property
    def score(self) -> float:
        """The probability if scores are calibrated, else the raw score; 0 … 1."""
        return self.evidence.score if self.probability is None else self.probability


@dataclass(frozen=True, kw_only=True)
class FramePoses:
    """The poses of a frame and the seconds of each stage."""

    poses: list[Pose]
    seconds: dict[str, float]


class PoseModel(nn.Module):
    """FFB6D with its objects, preprocessing and voting.

    Created by `ffreid.create_model`, in evaluation mode.

    Of `cfg` MODEL.POINTS, DATA.SHRINK, DATA.LAYOUT (which depth is filled), VOTE and DATA.ROOT
    (meshes) are used. `calibration` is what ``ffreid eval --calibrate`` wrote beside the
    checkpoint, or None.

    Example:
        >>> model = ffreid.create_model("ycb", checkpoint="best.pth", device="cuda")
        >>> for pose in model.predict(rgb, depth, intrinsics, depth_scale=10000):
        ...     print(pose.name, pose.camera_from_object)
    """

    def __init__(self, net: nn.Module, objects: ObjectModels, cfg: CfgNode) -> None:
        super().__init__()
        self.net, self.objects, self.cfg = net, objects, cfg
        self.calibration: Calibration | None = None
        self.stored: StoredObjects | None = None
        self._built: tuple[object, Network] | None = None
        self.eval()

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the network."""
        return next(self.parameters()).dtype

    def input_spec(self) -> tuple[TensorSpec, ...]:
        """Describe the inputs of `forward`: names, shapes, types, units, ranges."""
        return specs.inputs(self.dtype)

    def output_spec(self) -> tuple[TensorSpec, ...]:
        """Describe the outputs of `forward`, in the order of the dict."""
        keypoints = self.objects.keypoints.shape[1]
        return specs.outputs(len(self.objects) + 1, keypoints, self.dtype)

    def forward(
        self, inputs: Mapping[str, Tensor] | None = None, **tensors: Tensor
    ) -> dict[str, Tensor]:
        """Run the network alone, on preprocessed tensors; see `input_spec` and `output_spec`.

        Gradients are computed as usual. The range of indices is not checked. The tensors are one
        mapping by name, or keyword arguments.

        Raises:
            UserError: a tensor is missing, unknown, or of another type, shape or device.

        Example:
            >>> outputs = model(tensors)  # or model(rgb=…, features=…, choose=…, …)
            >>> labels = outputs["segmentation"].argmax(dim=1)
        """
        checked = checked_inputs(self.input_spec(), inputs, tensors, self.device)
        levels = {
            name: tuple(checked[f"{name}_{i}"] for i in range(specs.COUNTS[name]))
            for name in LEVELS
        }
        rgb, features, choose = (checked[name] for name in ("rgb", "features", "choose"))
        outputs = self.net(Inputs(rgb=rgb, features=features, choose=choose, **levels))
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
        instances: bool = False,
        refine: str | None = None,
    ) -> list[Pose]:
        """Detect the objects in one frame and estimate their poses.

        The result is that of ``ffreid eval`` for frame number `index` of its list with SEED
        `seed`; on a CPU bit for bit.

        Args:
            rgb: (H, W, 3) uint8, RGB.
            depth: (H, W) integers or floats, registered to `rgb`; 0, NaN or infinity where
                nothing was measured.
            intrinsics: (3, 3) camera matrix, pixels.
            depth_scale: units per metre: 1000 for millimetres, 1 for metres, 10000 for YCB-Video.
            seed: the network's points are sampled with (seed, index).
            index: see `seed`.
            instances: tell several objects of a class apart.
            refine: ``icp`` to refine poses against the depth (needs small-gicp and meshes).

        Returns:
            At most one pose per class without `instances`, in order of class; [] without
            detections.

        Raises:
            UserError: an argument has another shape or type; the median depth is nearer than 15 cm
                or farther than 30 m; the intrinsics are of another image size (the principal point
                is not near the middle); fewer than 400 pixels have depth.

        Example:
            >>> poses = model.predict(rgb, depth_mm, [[615, 0, 320], [0, 615, 240], [0, 0, 1]])
            >>> best = max(poses, key=lambda pose: pose.votes)
            >>> points_camera = points @ best.camera_from_object[:, :3].T
            >>> points_camera += best.camera_from_object[:, 3]
        """
        frame = frame_from_arrays(rgb, depth, intrinsics, depth_scale)
        if not all(isinstance(n, int | np.integer) and n >= 0 for n in (seed, index)):
            raise UserError(f"seed is {seed}, index is {index}", "use whole numbers of 0 or more")
        return self.predict_frame(
            frame, seed=seed, index=index, instances=instances, refine=refine
        ).poses

    def predict_frame(
        self,
        frame: Frame,
        *,
        seed: int = 0,
        index: int = 0,
        instances: bool = False,
        refine: str | None = None,
    ) -> FramePoses:
        """Estimate the poses in a `Frame`, see `predict`, with the time of each stage."""
        align = refiner(refine, self.meshes)
        watch = Stopwatch()
        with watch("prepare"):
            frame = downscale_frame(frame, self.cfg.DATA.SHRINK)
            sample = make_sample(
                frame,
                self.objects,
                points=self.cfg.MODEL.POINTS,
                rng=seeded_rng(seed, index),
                fill_holes=layout_of(self.cfg).reader.fill_holes,
            )
        if isinstance(sample, SkippedFrame):
            measured = frame.depth[frame.depth > 0]
            middle = float(np.median(measured)) / frame.depth_scale if measured.size else 0.0
            raise UserError(
                f"depth: {sample.reason}",
                f"check the depth: its median is {middle:.3g} m at {frame.depth_scale:g} units per "
                "metre",
            )
        with precision.flags(self.cfg), evaluating(self.net):
            with watch("network"):
                batch = collate([sample]).to(self.device, self.dtype)
                votes = network_votes(batch, self._network())
            with watch("vote"):
                options = build.voting(self.cfg)
                (found,) = poses_of(votes, self.objects, options, instances=instances)
        with watch("score"):
            evidence = weigh_all(
                found,
                self.objects,
                points=votes.points[0].cpu().numpy(),
                labels=votes.labels[0].cpu().numpy(),
                intrinsics=frame.intrinsics,
                meshes=self.meshes,
            )
            poses = list(map(self._pose, found, evidence))
        if align is not None:
            with watch("refine"):
                poses = [_refined(pose, align, frame) for pose in poses]
        return FramePoses(poses=poses, seconds=watch.seconds)

    def predict_files(
        self,
        *inputs: str | Path,
        camera: str | Path | None = None,
        intrinsics: tuple[float, float, float, float] | None = None,
        depth_scale: float | None = None,
        size: str | None = None,
        **how: Any,
    ) -> Iterator["FileResult"]:
        """Read one's own frames and estimate their poses, as ``ffreid predict`` does.

        Args:
            inputs: colour images, folders, list files.
            camera: file with intrinsics; None looks for one beside the frames.
            intrinsics: fx, fy, cx, cy in pixels, instead of a file.
            depth_scale: units per metre, where no file tells.
            size: ``HEIGHTxWIDTH`` that frames are resized into, or ``own`` for never; None is the
                size of the training frames.
            how: ``seed``, ``instances`` and ``refine``, see `predict`.

        Yields:
            A result for every frame: its poses, or why it cannot be used.

        Example:
            >>> for result in model.predict_files("frames", camera="camera.json"):
            ...     print(result.paths.name, [(pose.name, pose.score) for pose in result.poses])
        """
        from ffreid.pose.own.predict import predict_paths

        file = None if camera is None else Path(camera)
        options = make_options(file, intrinsics, depth_scale, size)
        frames = [frame for each in inputs for frame in find(Path(each))]
        return predict_paths(self, frames, options, **how)

    @cached_property
    def meshes(self) -> Meshes:
        """Points of the objects by class id: the checkpoint's, else the vertices in DATA.ROOT.

        Empty where there are none.
        """
        if self.stored is not None:
            return self.stored.points
        try:
            return layout_of(self.cfg).meshes(self.cfg)
        except UserError:
            return {}

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames that the network was trained on."""
        return layout_of(self.cfg).size(self.cfg) if self.stored is None else self.stored.frame_size

    @property
    def has_all_meshes(self) -> bool:
        """Whether every object has a mesh: without, scores are another measure."""
        return all(class_id in self.meshes for class_id in self.objects.class_ids)

    def _pose(self, pose: ObjectPose, evidence: Evidence) -> Pose:
        known = self.calibration if self.has_all_meshes else None
        return Pose(
            class_id=pose.class_id,
            name=self.objects.name(pose.class_id),
            camera_from_object=np.asarray(pose.camera_from_object, np.float64),
            keypoints_camera=pose.keypoints,
            votes=pose.votes,
            solved=pose.solved,
            evidence=evidence,
            probability=None if known is None else float(known.probability(evidence.score)),
        )

    def _network(self) -> Network:
        """What evaluates the network, built again when weights have changed, in whatever way."""
        key = weights_key(self.net)
        if self._built is None or self._built[0] != key:
            self._built = key, build.for_evaluation(self.cfg, self.net)
        return self._built[1]


def _refined(pose: Pose, align: Refiner, frame: Frame) -> Pose:
    done = align(pose.camera_from_object, pose.class_id, frame) if pose.solved else None
    if done is None:
        return pose
    return replace(pose, camera_from_object=done.camera_from_object, refinement=done)


def create(
    cfg: CfgNode, checkpoint: Path | None, device: torch.device, *, content: Any = None
) -> PoseModel:
    """Create the model of a configuration; without a checkpoint its weights are random.

    `content` is that of the checkpoint, if it has been read already. Objects that it holds are
    used, unless DATA.OBJECT_SET names the set.

    Raises:
        UserError: the checkpoint is unreadable, or of another network.
    """
    if checkpoint is not None and content is None:
        content = io.load(checkpoint)
    stored = None if checkpoint is None else unpack(content, cfg.DATASET, checkpoint)
    use_stored = stored is not None and not cfg.DATA.OBJECT_SET
    objects = stored.objects if stored and use_stored else layout_of(cfg).objects(cfg)
    if checkpoint is None:
        net: nn.Module = FFB6D(len(objects) + 1, objects.keypoints.shape[1])
        model = PoseModel(net.to(device, precision.dtype(cfg)), objects, cfg)
    else:
        net, state = build.load_network(checkpoint, objects, device, content=content)
        for note in build.changed_settings(cfg, state):
            log(f"note: {note}")
        weights = checksum(net.state_dict())
        model = PoseModel(net.to(device, precision.dtype(cfg)), objects, cfg)
        model.stored = stored
        model.calibration = calibration.beside(checkpoint, weights, calibration.voting_of(cfg))
    return model
