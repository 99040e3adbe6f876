"""Poses of VOTE.MODE fast against exact's, on equal votes: python -m tests.vote_modes.

Five toy objects of `--votes` points each, whose offsets have errors of 3, 20 or 40 mm and outliers
of 20 cm; or two objects of a class so many cm apart, of which the one with 60 % of the votes
counts. `--checkpoint` takes the votes of toy-pose networks on newly rendered frames instead. A row
gives median and 95th percentile of the errors over all objects in mm, and the areas under ADD's and
ADD-S's curves in percent; a star where fast's is higher by more than chance: the 95 % interval of
the difference in 1,000 paired bootstrap samples of the objects is above 0.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ffreid.engine.distributed.group import World
from ffreid.pose import build, sources
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.metrics import add, adds, auc, keypoint_error, transform
from ffreid.pose.objects import ObjectModels
from ffreid.pose.scoring import mesh_trees
from ffreid.pose.toy.dataset import toy_object_models
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.shapes import surface_points
from ffreid.pose.voting.frame import frame_poses, model_points
from ffreid.recipes import compose
from ffreid.report import show_table

Poses = Mapping[int, npt.NDArray[np.floating]]
Votes = tuple[Tensor, Tensor, Tensor, Tensor]
"""Points (N, 3), labels (N,), centre offsets (1, N, 3), keypoint offsets (K, N, 3)."""
COLUMNS = ("votes", "mode", "keypoints", "95 %", "ADD", "95 %", "AUC", "ADD-S", "95 %", "AUC")
CASES = {
    "clean, 3 mm": (0.0, 0.003, 0.0),
    "10 % outliers, 3 mm": (0.1, 0.003, 0.0),
    "20 % outliers, 3 mm": (0.2, 0.003, 0.0),
    "40 % outliers, 3 mm": (0.4, 0.003, 0.0),
    "clean, 20 mm": (0.0, 0.02, 0.0),
    "20 % outliers, 20 mm": (0.2, 0.02, 0.0),
    "40 % outliers, 20 mm": (0.4, 0.02, 0.0),
    "clean, 40 mm": (0.0, 0.04, 0.0),
    "two objects, 6 cm": (0.1, 0.003, 0.06),
    "two objects, 10 cm": (0.1, 0.003, 0.10),
}
"""Share of outliers, standard deviation of the other errors in metres, distance of the second."""


def toy_meshes() -> Meshes:
    """A thousand points of each toy object."""
    return {
        class_id: surface_points(item.shape, 1000, np.random.default_rng(class_id)).astype("f4")
        for class_id, item in enumerate(toy_objects(), start=1)
    }


def simulate(
    seed: int, votes: int, outliers: float, noise: float, apart: float, objects: ObjectModels
) -> tuple[Votes, Poses]:
    """A frame of all objects, 25 cm apart and turned at random, and their poses."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    meshes, poses, parts = toy_meshes(), dict[int, npt.NDArray[np.floating]](), list[Votes]()
    for class_id in objects.class_ids:
        place = np.array([0.25 * class_id - 0.75, 0.0, 0.9])
        rotation = Rotation.random(rng=rng).as_matrix()
        poses[class_id] = np.concatenate([rotation, place[:, None]], axis=1)
        second = votes * 2 // 5 if apart else 0
        direction = rng.normal(size=3)
        moved = place + apart * direction / np.linalg.norm(direction)
        turned = np.concatenate([Rotation.random(rng=rng).as_matrix(), moved[:, None]], axis=1)
        for pose, count in ((poses[class_id], votes - second), (turned, second)):
            targets = torch.from_numpy(transform(pose, model_points(objects, class_id).numpy()))
            surface = rng.choice(meshes[class_id], count)
            points = torch.from_numpy(transform(pose, surface)).float()
            errors = torch.randn(count, len(targets), 3, generator=generator) * noise
            wrong = torch.rand(count, generator=generator) < outliers
            errors[wrong] = torch.randn(errors[wrong].shape, generator=generator) * 0.2
            offsets = (points[:, None] - targets.float() + errors).transpose(0, 1)
            labels = torch.full((count,), class_id)
            parts.append((points, labels, offsets[-1:], offsets[:-1]))
    frame = (
        torch.cat([part[0] for part in parts]),
        torch.cat([part[1] for part in parts]),
        torch.cat([part[2] for part in parts], dim=1),
        torch.cat([part[3] for part in parts], dim=1),
    )
    return frame, poses


def network_frames(checkpoint: Path, count: int) -> list[tuple[Votes, Poses]]:
    """The votes of a toy-pose network on frames that it was not trained on, and the true poses."""
    frames: list[tuple[Votes, Poses]] = []
    pairs = f"DATA.WORKERS 0 DATA.TOY.SEED 1 DATA.TOY.TRAIN 1 DATA.TOY.TEST {count}"
    cfg = compose("toy-pose", pairs=pairs.split())
    source, world = sources.open_source(cfg), World(0, 1, torch.device("cpu"))
    net = build.for_evaluation(cfg, build.load_network(checkpoint, source.objects, world.device)[0])
    for batch, _ in build.evaluation_batches(cfg, world, source, 0):
        if batch is not None:
            with torch.inference_mode():
                outputs = net(batch.inputs)
            labels, gt = outputs.segmentation[0].argmax(0), batch.gts[0]
            points = batch.inputs.features[0, :3].T
            votes = points, labels, outputs.centre_offsets[0], outputs.keypoint_offsets[0]
            poses = dict(zip(gt.class_ids.tolist(), gt.camera_from_object, strict=True))
            frames.append((votes, poses))
    return frames


def errors(frames: Sequence[tuple[Votes, Poses]], mode: str) -> npt.NDArray[np.float64]:
    """Keypoint error, ADD and ADD-S (O, 3) of every object, in metres; a missed one is at 0."""
    objects, meshes, rows = toy_object_models("toy-pose"), toy_meshes(), []
    trees = mesh_trees(meshes)
    for votes, poses in frames:
        found = {pose.class_id: pose for pose in frame_poses(*votes, objects, mode=mode)}
        for class_id, true in poses.items():
            targets = transform(true, objects.keypoints[class_id - 1])
            pose, voted = np.zeros((3, 4)), np.zeros_like(targets)
            if class_id in found:
                pose, voted = found[class_id].camera_from_object, found[class_id].keypoints
            mesh = meshes[class_id]
            scores = add(mesh, pose, true), adds(mesh, pose, true, tree=trees[class_id])
            rows.append((keypoint_error(voted[: len(targets)], targets), *scores))
    return np.array(rows)


def summary(found: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Median and 95th percentile (2, 3) of errors (…, O, 3)."""
    return np.quantile(found, [0.5, 0.95], axis=-2)


def is_worse(fast: npt.NDArray[np.float64], exact: npt.NDArray[np.float64]) -> npt.NDArray[np.bool]:
    """Whether (2, 3) the `summary` of the first is higher than the second's by more than chance."""
    drawn = np.random.default_rng(0).integers(len(fast), size=(1000, len(fast)))
    differences = summary(fast[drawn]) - summary(exact[drawn])
    return np.asarray(np.quantile(differences, 0.025, axis=1) > 0)


def table(frames: Mapping[str, Sequence[tuple[Votes, Poses]]]) -> list[list[str]]:
    """Rows of `COLUMNS`, one of each mode for every list of frames."""
    rows = []
    for name, items in frames.items():
        found = {mode: errors(items, mode) for mode in ("exact", "fast")}
        stars = is_worse(found["fast"], found["exact"])
        for mode, values in found.items():
            cells = [
                f"{1000 * value:.2f}{'*' * int(star and mode == 'fast')}"
                for value, star in zip(summary(values).T.flat, stars.T.flat, strict=True)
            ]
            areas = [f"{auc(values[:, column]):.2f}" for column in (1, 2)]
            rows.append([name, mode, *cells[:4], areas[0], *cells[4:], areas[1]])
    return rows


def run(arguments: list[str]) -> None:
    """Print the table."""
    parser = ArgumentParser(prog="python -m tests.vote_modes")
    parser.add_argument("--votes", type=int, default=300, help="votes of an object")
    parser.add_argument("--frames", type=int, default=100, help="frames a row")
    parser.add_argument("--checkpoint", nargs="+", type=Path, default=[], help="toy-pose networks")
    options = parser.parse_args(arguments)
    objects = toy_object_models("toy-pose")
    frames: dict[str, list[tuple[Votes, Poses]]] = {
        str(path): network_frames(path, options.frames) for path in options.checkpoint
    } or {
        name: [simulate(seed, options.votes, *case, objects) for seed in range(options.frames)]
        for name, case in CASES.items()
    }
    show_table(
        f"{options.votes} votes an object" * (not options.checkpoint), COLUMNS, table(frames)
    )


if __name__ == "__main__":
    run(sys.argv[1:])
