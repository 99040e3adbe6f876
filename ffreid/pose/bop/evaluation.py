"""Scores of results in BOP's format: errors of every estimate, average recalls, table, JSON."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid import atomic, report
from ffreid.engine.dataset_files import read_single_channel
from ffreid.engine.tracking import run_folder
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.pose.bop.dataset import BopDataset, BopObject
from ffreid.pose.bop.errors import surface_errors, visible_surface_discrepancies
from ffreid.pose.bop.images import BopImage
from ffreid.pose.bop.rasterizer import render_depth, to_distance
from ffreid.pose.bop.results import HEADER, BopEstimate, read_results, result_line
from ffreid.pose.bop.scores import Pair, Target, average_recalls
from ffreid.pose.inference import FrameResult
from ffreid.pose.metrics import add, adds
from ffreid.pose.objects import ObjectModels

Floats = npt.NDArray[np.float64]
_WIDTH = 640
"""Image width at which MSPD's thresholds are in pixels."""
SCORES = ("AR", "AR_VSD", "AR_MSSD", "AR_MSPD")


def evaluate_results(
    root: Path, predictions: Path, *, split: str = "test", json_file: Path | None = None
) -> dict[str, Any]:
    """Score a results file on a BOP dataset by the rules of BOP 2019, and print the table.

    Returns for JSON the average recalls, the recalls at each threshold, those of each object, and
    ``errors``: of every estimate against every true instance of its object in its image, MSSD, ADD
    and ADI in mm, MSPD in pixels, VSD for each tau.

    Raises:
        UserError: files are missing or wrong, or no row is of an image of the dataset.
    """
    if json_file is not None:
        atomic.check_writable(json_file)
    data = BopDataset(root, split)
    targets, origin = data.targets()
    rows = read_results(predictions, data.objects)
    by_image: dict[tuple[int, int], list[BopEstimate]] = defaultdict(list)
    for row in rows:
        by_image[row.scene, row.image].append(row)
    known = {*data.names}
    others = sum(len(group) for key, group in by_image.items() if key not in known)
    if others == len(rows):
        scene, number = next(iter(by_image))
        raise UserError(
            f"{predictions}: no image is in {data.folder}; the first is scene {scene}, "
            f"image {number}",
            "use results of this dataset and split",
        )
    notes = [*_time_notes(by_image), *_unscored_notes(by_image, targets, others)]
    pairs: list[Pair] = []
    errors: list[dict[str, Any]] = []
    estimated = [key for key in data.names if key in by_image]
    with ProgressBar("scoring", len(estimated)) as bar:
        for key in estimated:
            for pair, entry in _pairs(data.image(key), by_image[key], data.objects):
                pairs.append(pair)
                errors.append(entry)
            bar.advance(1)
    scores = average_recalls(pairs, targets)
    objects = {}
    for number in sorted({target[2] for target in targets}):
        of = {target: count for target, count in targets.items() if target[2] == number}
        recalls = average_recalls(pairs, of)
        objects[str(number)] = {name: recalls[name] for name in SCORES}
        objects[str(number)]["instances"] = sum(of.values())
    table: list[list[report.Cell]] = [
        *([f"object {n}", row["instances"], *_percent(row)] for n, row in objects.items()),
        ["all", sum(targets.values()), *_percent(scores)],
    ]
    report.show_table(
        f"{root.name}, {split}: average recall (BOP 2019), percent",
        ["object", "instances", *SCORES],
        table,
    )
    for line in (f"targets: {origin}", *(f"note: {note}" for note in notes)):
        report.log(line)
    payload = scores | {
        "objects": objects,
        "errors": errors,
        "predictions": predictions,
        "truth": data.folder,
        "targets": origin,
        "estimates": len(rows),
        "notes": notes,
        "provenance": run_folder.provenance(0, 1, "cpu"),
    }
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload


def evaluate_frame_results(
    root: Path, split: str, folder: Path, results: Sequence[FrameResult], objects: ObjectModels
) -> dict[str, Any]:
    """Write poses of `evaluate_frames` as ``folder/ffreid_DATASET-SPLIT.csv`` and score that file.

    An estimate's score is its number of votes; times are not measured for each image.
    """
    path = folder / f"ffreid_{root.name}-{split}.csv"
    lines = [f"{HEADER}\n"]
    for result in results:
        scene, image = map(int, result.gt.name.split("/")[-2:])
        for pose in result.poses:
            matrix = pose.camera_from_object.copy()
            matrix[:, 3] *= 1000
            number = objects.numbers[pose.class_id - 1]
            lines.append(result_line((scene, image), number, pose.votes, matrix, -1))
    if len(lines) == 1:
        return {}
    with atomic.atomic_write(path) as file:
        file.write("".join(lines).encode())
    report.log(f"BOP results: {path}")
    return evaluate_results(root, path, split=split)


def _percent(row: Mapping[str, Any]) -> list[float]:
    return [100 * row[name] for name in SCORES]


def _pairs(
    image: BopImage, rows: Sequence[BopEstimate], objects: Mapping[int, BopObject]
) -> list[tuple[Pair, dict[str, Any]]]:
    """The errors of an image's estimates against all true instances of their objects."""
    depth = read_single_channel(image.depth, "depth").astype(np.float64)
    measured = to_distance(depth * image.depth_scale, image.camera)

    def distances(number: int, pose: Floats) -> Floats:
        vertices, faces = objects[number].mesh
        placed = vertices @ pose[:, :3].T + pose[:, 3]
        rendered = render_depth(placed, faces, image.camera, measured.shape)
        return to_distance(rendered, image.camera)

    true_distances: dict[int, Floats] = {}
    found = []
    for position, row in enumerate(rows):
        model = objects[row.object_id]
        vertices, estimated = model.mesh[0], None
        for index, instance in enumerate(image.instances):
            if instance.object_id != row.object_id:
                continue
            if index not in true_distances:
                true_distances[index] = distances(row.object_id, instance.pose)
            if estimated is None:
                estimated = distances(row.object_id, row.pose)
            mssd, mspd = surface_errors(
                row.pose, instance.pose, vertices, model.symmetries, image.camera
            )
            vsd = visible_surface_discrepancies(
                estimated, true_distances[index], measured, model.diameter
            )
            pair = Pair(
                target=(*image.key, row.object_id),
                estimate=position,
                true=index,
                score=row.score,
                mssd=mssd / model.diameter,
                mspd=mspd * _WIDTH / measured.shape[1],
                vsd=vsd,
            )
            entry = {
                "scene_id": image.key[0],
                "im_id": image.key[1],
                "obj_id": row.object_id,
                "gt": index,
                "score": row.score,
                "mssd": mssd,
                "mspd": mspd,
                "add": add(vertices, row.pose, instance.pose),
                "adi": adds(vertices, row.pose, instance.pose),
                "vsd": vsd.tolist(),
            }
            found.append((pair, entry))
    return found


def _time_notes(by_image: Mapping[tuple[int, int], Sequence[BopEstimate]]) -> list[str]:
    """BOP wants one time for an image, in all its rows."""
    unlike = [key for key, rows in by_image.items() if len({row.seconds for row in rows}) > 1]
    if not unlike:
        return []
    scene, image = unlike[0]
    return [
        f"{len(unlike)} images have rows with unlike times, first scene {scene}, image {image}; "
        "BOP's server refuses them"
    ]


def _unscored_notes(
    by_image: Mapping[tuple[int, int], Sequence[BopEstimate]],
    targets: Mapping[Target, int],
    others: int,
) -> list[str]:
    counts: dict[Target, int] = defaultdict(int)
    repeated: list[str] = []
    seen: set[tuple[Target, float, bytes]] = set()
    for key, rows in by_image.items():
        for row in rows:
            counts[(*key, row.object_id)] += 1
            mark = (*key, row.object_id), row.score, row.pose.tobytes()
            if mark in seen:
                repeated.append(row.where)
            seen.add(mark)
    surplus = sum(max(0, n - targets[t]) for t, n in counts.items() if t in targets)
    absent = sum(n for t, n in counts.items() if t not in targets) - others
    reasons = {
        "of other images": others,
        "of objects that are no targets in their image": absent,
        "more than there are instances": surplus,
    }
    notes = [f"not scored: {what}: {count}" for what, count in reasons.items() if count]
    if repeated:
        notes.append(f"{len(repeated)} rows repeat another, first {repeated[0]}")
    return notes
