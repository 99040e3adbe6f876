"""Rendered frames as people's own, and a model that knows their labels and offsets."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ffreid.pose.data.batch import PoseBatch
from ffreid.pose.data.frame import Frame
from ffreid.pose.inference import Votes
from ffreid.pose.predictor import PoseModel
from ffreid.pose.toy.dataset import toy_object_models
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.scenes import toy_frame
from ffreid.recipes import compose

HEIGHT, WIDTH = 96, 128


def own_frame(seed: int = 0) -> Frame:
    generator = np.random.default_rng(seed)
    return toy_frame(
        "a", toy_objects(), height=HEIGHT, width=WIDTH, generator=generator, synthetic=False
    )


def write_png(path: Path, image: npt.NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, content = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    assert encoded
    path.write_bytes(content.tobytes())
    return path


def millimetres(frame: Frame) -> npt.NDArray[np.uint16]:
    return (frame.depth / frame.depth_scale * 1000).round().astype(np.uint16)


def write_pair(folder: Path, name: str = "a", frame: Frame | None = None) -> Path:
    """Write ``NAME-color.png`` and ``NAME-depth.png`` (millimetres); return the first."""
    frame = frame or own_frame()
    write_png(folder / f"{name}-depth.png", millimetres(frame))
    return write_png(folder / f"{name}-color.png", frame.rgb)


def camera_words(frame: Frame) -> str:
    (fx, _, cx), (_, fy, cy), _ = frame.intrinsics.tolist()
    return f"{fx} {fy} {cx} {cy}"


def toy_model(*pairs: str) -> PoseModel:
    """A model of the toy objects without a network; see `Oracle`."""
    cfg = compose("toy-pose", pairs=["MODEL.POINTS", "2048", *pairs])
    return PoseModel(nn.Linear(1, 1), toy_object_models("toy-pose"), cfg)


class Oracle:
    """In place of `network_votes`: a frame's true labels and offsets, with noise in metres."""

    def __init__(self, frame: Frame, noise: float = 0.0) -> None:
        self.frame, self.noise = frame, noise

    def __call__(self, batch: PoseBatch, net: object) -> Votes:
        points = batch.inputs.features[:, :3].transpose(1, 2)
        height, width = batch.inputs.rgb.shape[2:]
        shown = cv2.resize(
            self.frame.labels.astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_NEAREST_EXACT,
        )
        flat = np.asarray(shown, np.int64).reshape(-1)
        labels = torch.from_numpy(flat[batch.inputs.choose[0].numpy()])[None]
        models = toy_object_models("toy-pose")
        count = models.keypoints.shape[1]
        offsets = torch.zeros(count + 1, points.shape[1], 3)
        generator = torch.Generator().manual_seed(0)
        for class_id, pose in zip(
            self.frame.class_ids.tolist(), self.frame.camera_from_object, strict=True
        ):
            model = [*models.keypoints[class_id - 1], models.centres[class_id - 1]]
            places = torch.from_numpy(np.stack(model) @ pose[:, :3].T + pose[:, 3]).float()
            own = labels[0] == class_id
            places = places + self.noise * torch.randn(places.shape, generator=generator)
            offsets[:, own] = points[0, own][None] - places[:, None]
        return Votes(points, labels, offsets[None, -1:], offsets[None, :-1])


class NoisyTruth(nn.Linear):
    """A network in name; its `votes` are the truth with noise, a size of its own each object."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(1, 1)

    @staticmethod
    def votes(batch: PoseBatch, net: object) -> Votes:
        points, targets = batch.inputs.features[:, :3].transpose(1, 2), batch.targets
        keypoints = targets.keypoint_offsets.transpose(1, 2).clone()
        for sample, gt in enumerate(batch.gts):
            generator = torch.Generator().manual_seed(gt.index)
            for class_id in gt.class_ids.tolist():
                own = targets.labels[sample] == class_id
                size = 0.08 * float(torch.rand(1, generator=generator)) ** 2
                noise = size * torch.randn(keypoints.shape[1], 1, 3, generator=generator)
                keypoints[sample, :, own] += noise
        return Votes(points, targets.labels, targets.centre_offsets.unsqueeze(1), keypoints)
