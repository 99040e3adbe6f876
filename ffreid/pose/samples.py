"""``ffreid data --show`` of the pose task: samples as the network gets them, as images."""

import math
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from yacs.config import CfgNode

from ffreid import report
from ffreid.engine.colours import class_colour
from ffreid.engine.dataset_files import file_name, write_images
from ffreid.errors import printable
from ffreid.pose import build
from ffreid.pose.data.batch import Sample, SkippedFrame
from ffreid.pose.data.dataset import TrainSet, seeded_rng
from ffreid.pose.draw import (
    WHITE,
    RgbImage,
    draw_box,
    legend,
    project,
)
from ffreid.pose.sources import Source, open_source

VERSIONS = 3
"""Augmented versions of a training frame."""
WIDTH = 480
"""Least width of a panel: smaller images are enlarged by an integer."""
BACKGROUND = 32
CAMERA_ITSELF = np.eye(3, 4)


def draw_samples(cfg: CfgNode, count: int, folder: Path) -> list[str]:
    """Draw `count` frames of all lists in `folder`; return the names of the images.

    A panel each: colours with projected boxes, keypoints and centres; labels, depth and normals of
    the sampled points. Below, augmented versions of training frames, and the depth of the last.
    """
    source = open_source(cfg)
    names: list[str] = []

    def images() -> Iterator[tuple[str, RgbImage]]:
        for number, (group, name) in enumerate(_chosen(cfg, source, count)):
            file = file_name(f"{number:02d}-{group}-{name}")
            image = _draw_frame(cfg, source, group, name, number)
            if image is not None:
                names.append(file)
                yield file, image

    write_images(folder, images())
    return names


def _chosen(cfg: CfgNode, source: Source, count: int) -> list[tuple[str, str]]:
    """Frames with their lists, in turn of each list and evenly spread over it."""
    reader = source.reader
    if cfg.DATA.FRAMES:
        lists: dict[str, Sequence[str]] = {"train": cfg.DATA.FRAMES}
    else:
        real = set(reader.real_train_names)
        rendered = [name for name in reader.train_names if name not in real]
        lists = {"train": reader.real_train_names, "rendered": rendered, "test": reader.test_names}
    lists = {group: names for group, names in lists.items() if names}
    shares = dict.fromkeys(lists, 0)
    for group in islice(cycle(lists), count * len(lists)):
        shares[group] += shares[group] < len(lists[group]) and sum(shares.values()) < count
    turns = [
        (turn, group, lists[group][turn * len(lists[group]) // share])
        for group, share in shares.items()
        for turn in range(share)
    ]
    return [(group, name) for _, group, name in sorted(turns, key=lambda turn: turn[0])]


def _draw_frame(
    cfg: CfgNode, source: Source, group: str, name: str, number: int
) -> RgbImage | None:
    trained = group != "test"
    data = build.training_set(cfg, source) if trained else build.evaluation_set(cfg, source, 0)
    data.on_device = False  # the points' normals are drawn
    frame = data.read(name)
    sample = data.sample(frame, seeded_rng(cfg.SEED, number), number)
    if isinstance(sample, SkippedFrame):
        report.log(f"note: {name} is not drawn: {sample.reason}")
        return None
    points = sample.inputs.choose.numel()
    rows = [
        {
            f"{name}: boxes, keypoints, centres": _objects(sample, source),
            f"labels of {points} points": _labels(sample),
            **_depth(sample, "depth"),
            "normals": _normals(sample),
        }
    ]
    if isinstance(data, TrainSet) and data.augment and not data.fixed:
        rows.append({})
        for version in range(1, VERSIONS + 1):
            rng = seeded_rng(cfg.SEED, number, version)
            drawn = data.sample(data.augmented(frame, rng), rng, number, as_stored=False)
            assert isinstance(drawn, Sample)  # augmentation adds depth, and removes none
            rows[-1][f"augmented, version {version}"] = _objects(drawn, source)
            if version == VERSIONS:
                depth = _depth(drawn, f"depth of version {version}")
        rows[-1] |= depth
    ids = sorted({*sample.gt.class_ids.tolist(), *sample.targets.labels.tolist()} - {0})
    names = {class_id: printable(source.objects.name(class_id)) for class_id in ids}
    parts = []
    for labels, row in zip([names, *[{}] * len(rows)], rows, strict=False):
        panels = np.concatenate([*row.values()], axis=1)
        parts += [legend([*map(printable, row)], labels, panels.shape[1]), panels]
    return np.concatenate(parts)


def _objects(sample: Sample, source: Source) -> RgbImage:
    """Colours with each object's projected box, keypoints and centre (a cross)."""
    colours = sample.inputs.rgb.numpy().transpose(1, 2, 0)
    factor = _enlargement(colours)
    larger = cv2.resize(colours, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    panel: RgbImage = np.ascontiguousarray(larger).astype(np.uint8, copy=False)
    camera = sample.gt.intrinsics.copy()
    camera[:2] *= factor
    camera[:2, 2] += (factor - 1) / 2  # integer coordinates are pixel centres
    gt, objects = sample.gt, source.objects
    for row, class_id in enumerate(gt.class_ids.tolist()):
        colour = class_colour(class_id)
        mesh = source.meshes.get(class_id, objects.keypoints[class_id - 1])
        draw_box(panel, camera, mesh, gt.camera_from_object[row], colour)
        points = np.concatenate([gt.keypoints_camera[row], gt.centres_camera[row, None]])
        pixels, in_front = project(camera, CAMERA_ITSELF, points)
        for place, (x, y) in enumerate(pixels.round().clip(-9999, 9999).astype(int).tolist()):
            if not in_front[place]:
                continue
            if place == len(points) - 1:
                cv2.drawMarker(panel, (x, y), WHITE, cv2.MARKER_CROSS, 14, 2)
            else:
                cv2.circle(panel, (x, y), 4, WHITE, -1, cv2.LINE_AA)
                cv2.circle(panel, (x, y), 3, colour, -1, cv2.LINE_AA)
    return panel


def _labels(sample: Sample) -> RgbImage:
    labels = sample.targets.labels.numpy()
    table = np.array([(90, 90, 90), *map(class_colour, range(1, labels.max(initial=0) + 1))])
    return _scatter(sample, table[labels])


def _depth(sample: Sample, title: str) -> dict[str, RgbImage]:
    """The points' depth as colours, near ones blue, with the range in the title."""
    depth = sample.inputs.features[2].numpy()
    low, high = np.quantile(depth, (0.02, 0.98))
    share = (255 * ((depth - low) / max(high - low, 1e-6)).clip(0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(share[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return {f"{title}, {low:.2f} to {high:.2f} m": _scatter(sample, colours)}


def _normals(sample: Sample) -> RgbImage:
    """The points' normals as colours: right red, down green, towards the camera blue."""
    normals = sample.inputs.features[6:9].numpy().T * (1, 1, -1)
    known = np.abs(normals).max(axis=1, keepdims=True) > 0
    return _scatter(sample, np.where(known, 127.5 + 127.5 * normals.clip(-1, 1), 60))


def _scatter(sample: Sample, colours: npt.NDArray[Any]) -> RgbImage:
    """Points (N, 3) RGB at their pixels, each as large as there is space for it."""
    height, width = sample.inputs.rgb.shape[1:]
    factor = _enlargement(sample.inputs.rgb[0].numpy())
    panel = np.full((height * factor, width * factor, 3), BACKGROUND, np.uint8)
    rows, columns = np.divmod(sample.inputs.choose.numpy(), width)
    radius = max(1, round(0.4 * factor * math.sqrt(height * width / len(rows))))
    places = np.stack([columns, rows], axis=1) * factor + factor // 2
    for place, colour in zip(places.tolist(), colours.astype(int).tolist(), strict=True):
        cv2.circle(panel, place, radius, colour, -1)
    return panel


def _enlargement(image: npt.NDArray[Any]) -> int:
    return max(1, math.ceil(WIDTH / int(image.shape[1])))
