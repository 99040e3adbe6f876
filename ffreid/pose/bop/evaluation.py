"""Scores of results in BOP's format: errors of every estimate, average recalls, table, JSON."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
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
from ffreid.pose.bop.errors import DELTA, surface_errors, visible_surface_discrepancies
from ffreid.pose.bop.images import BopImage, scene_key
from ffreid.pose.bop.rasterizer import render_depth, to_distance
from ffreid.pose.bop.results import HEADER, BopEstimate, read_results, result_line
from ffreid.pose.bop.scores import (
    MOST,
    Detections,
    Pair,
    Target,
    average_precisions,
    average_recalls,
)
from ffreid.pose.inference import FrameResult
from ffreid.pose.metrics import add, adds
from ffreid.pose.objects import ObjectModels
from ffreid.pose.published import published_recalls

Floats = npt.NDArray[np.float64]
_WIDTH = 640
"""Image width at which MSPD's thresholds are in pixels."""
SCORES = ("AR", "AR_VSD", "AR_MSSD", "AR_MSPD")
PRECISIONS = ("AP", "AP_MSSD", "AP_MSPD")
DELTAS = {"itodd": 5.0}
"""Tolerance of visibility in VSD, mm, of datasets with another than `DELTA`."""
SAME_TIME = 0.001
"""Seconds by which times of an image may differ."""


def evaluate_results(
    data: BopDataset,
    predictions: Path,
    *,
    name: str = "",
    numbers: Collection[int] = (),
    images: Collection[tuple[int, int]] | None = None,
    compare: bool = True,
    own: bool = False,
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Score a results file on a BOP dataset by the rules of BOP 2019 and 2024; print the table.

    `name` is the dataset's, its folder's by default; `numbers` are the objects that are scored,
    all by default, as are `images` (scene, number), without which there is no average precision;
    with `compare` published recalls stand beside. Of `own` results unit and name of the file are
    not checked.

    Returns for JSON the average recalls, the recalls at each threshold, those of each object,
    average precisions where the dataset lists the images of the detection task, and ``errors``: of
    every estimate against every true instance of its object in its image, MSSD, ADD and ADI in mm,
    MSPD in pixels, VSD for each tau.

    Raises:
        UserError: files are missing or wrong, or no row is of an image of the dataset.
    """
    if json_file is not None:
        atomic.check_writable(json_file)
    name = name or data.root.name
    data.need_truth()
    targets, origin = data.targets()
    rows = read_results(predictions, data.objects, check_unit=not own)
    by_image: dict[tuple[int, int], list[BopEstimate]] = defaultdict(list)
    for row in rows:
        by_image[row.scene, row.image].append(row)
    others = sum(len(group) for key, group in by_image.items() if key not in data.names)
    if others == len(rows):
        scene, number = next(iter(by_image))
        raise UserError(
            f"{predictions}: no image is in {data.folder}; the first is scene {scene}, "
            f"image {number}",
            "use results of this dataset and split",
        )
    _check_times(predictions, by_image)
    notes = [] if own else _name_notes(predictions, f"{name}-{data.folder.name}")
    if numbers:
        every = {*data.objects, *(target[2] for target in targets)}
        notes += [f"scored objects: {', '.join(map(str, numbers))} of {len(every)}"]
        targets = {t: count for t, count in targets.items() if t[2] in numbers}
        by_image = {
            key: kept
            for key, group in by_image.items()
            if (kept := [row for row in group if row.object_id in numbers])
        }
    if images is not None and (left := {t[:2] for t in targets} - set(images)):
        notes.append(f"{len(left)} images with targets are not evaluated, and are left out here")
        targets = {t: count for t, count in targets.items() if t[:2] not in left}
    notes += _unscored_notes(by_image, targets, others)
    pairs: list[Pair] = []
    errors: list[dict[str, Any]] = []
    estimated = [key for key in data.names if key in by_image]
    delta = DELTAS.get(name, DELTA)
    with ProgressBar("scoring", len(estimated)) as bar:
        for key in estimated:
            for pair, entry in _pairs(data.image(key), by_image[key], data.objects, delta):
                pairs.append(pair)
                errors.append(entry)
            bar.advance(1)
    scores = average_recalls(pairs, targets)
    found = _detections(data, by_image, numbers) if images is None else None
    if found is not None:
        scores |= average_precisions(pairs, found)
    objects = {}
    for number in sorted({target[2] for target in targets}):
        of = {target: count for target, count in targets.items() if target[2] == number}
        recalls = average_recalls(pairs, of)
        objects[str(number)] = {score: recalls[score] for score in SCORES}
        objects[str(number)]["instances"] = sum(of.values())
        objects[str(number)] |= scores.get("AP_objects", {}).get(str(number), {})
    shown = [*SCORES, *PRECISIONS] if found else [*SCORES]
    table: list[list[report.Cell]] = [
        *([f"object {n}", row["instances"], *_percent(row, shown)] for n, row in objects.items()),
        ["all", sum(targets.values()), *_percent(scores, shown)],
    ]
    published: Mapping[str, float] = {}
    lines: list[str] = []
    if compare and not numbers:
        published, lines = published_recalls(name, origin, sum(targets.values()))
    blank = [None] * (len(shown) - 1)
    table += [[f"published: {method}", None, value, *blank] for method, value in published.items()]
    kinds = "average recall (BOP 2019)" + " and precision (BOP 2024)" * (found is not None)
    report.show_table(
        f"{name}, {data.folder.name}: {kinds}, percent", ["object", "instances", *shown], table
    )
    for line in (f"targets: {origin}", *lines, *(f"note: {note}" for note in notes)):
        report.log(line)
    payload = scores | {
        "objects": objects,
        "errors": errors,
        "predictions": predictions,
        "truth": data.folder,
        "targets": origin,
        "estimates": len(rows),
        "published_AR": published,
        "notes": notes,
        "provenance": run_folder.provenance(0, 1, "cpu"),
    }
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload


def evaluate_frame_results(
    data: BopDataset,
    folder: Path,
    results: Sequence[FrameResult],
    objects: ObjectModels,
    *,
    name: str,
    compare: bool,
) -> dict[str, Any]:
    """Write poses of `evaluate_frames` as ``folder/ffreid_NAME-SPLIT.csv`` and score that file.

    It has the images with targets. An estimate's score is its number of votes; times are not
    measured for each image.
    """
    path = folder / f"ffreid_{name}-{data.folder.name}.csv"
    lines = [f"{HEADER}\n"]
    wanted = data.target_images(objects.numbers)
    for result in results:
        key = scene_key(result.gt.name)
        for pose in result.poses if key in wanted else ():
            if not pose.solved:
                continue
            matrix = pose.camera_from_object.copy()
            matrix[:, 3] *= 1000
            number = objects.numbers[pose.class_id - 1]
            lines.append(result_line(key, number, pose.votes, matrix, -1))
    if len(lines) == 1:
        report.log("note: no pose in an image with targets, so there is no BOP score")
        return {}
    with atomic.atomic_write(path) as file:
        file.write("".join(lines).encode())
    report.log(f"BOP results: {path}")
    if not data.split.has_truth:
        report.log("note: the test set's poses are not public: BOP's server scores the file")
        return {}
    others = {*data.objects, *(target[2] for target in data.targets()[0])} - {*objects.numbers}
    seen = {scene_key(result.gt.name) for result in results}
    return evaluate_results(
        data,
        path,
        name=name,
        numbers=objects.numbers if others else (),
        images=None if seen >= set(wanted) else seen,
        compare=compare,
        own=True,
    )


def _percent(row: Mapping[str, Any], names: Sequence[str]) -> list[float | None]:
    return [100 * row[name] if name in row else None for name in names]


def _pairs(
    image: BopImage, rows: Sequence[BopEstimate], objects: Mapping[int, BopObject], delta: float
) -> list[tuple[Pair, dict[str, Any]]]:
    """The errors of an image's estimates against all true instances of their objects."""
    depth = read_single_channel(image.depth, "depth").astype(np.float64)
    rays = to_distance(np.ones(depth.shape), image.camera)
    measured = depth * image.depth_scale * rays

    def distances(number: int, pose: Floats) -> Floats:
        vertices, faces = objects[number].mesh
        placed = vertices @ pose[:, :3].T + pose[:, 3]
        return render_depth(placed, faces, image.camera, measured.shape) * rays

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
                estimated, true_distances[index], measured, model.diameter, delta=delta
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


def _detections(
    data: BopDataset,
    by_image: Mapping[tuple[int, int], Sequence[BopEstimate]],
    numbers: Collection[int],
) -> Detections | None:
    """What the detection task is scored on, if the dataset has it; unknown visibility is full."""
    if (images := data.detection_images()) is None:
        return None
    truths: dict[Target, dict[int, float]] = defaultdict(dict)
    estimates: dict[tuple[Target, int], float] = {}
    for key in sorted(images):
        for index, instance in enumerate(data.image(key).instances):
            if not numbers or instance.object_id in numbers:
                share = 1.0 if instance.visible is None else instance.visible
                truths[*key, instance.object_id][index] = share
        ranked = sorted(enumerate(by_image.get(key, ())), key=lambda item: -item[1].score)
        for position, row in ranked[:MOST]:
            estimates[(*key, row.object_id), position] = row.score
    return Detections(truths, estimates)


def _name_notes(path: Path, expected: str) -> list[str]:
    """BOP's names are ``METHOD_DATASET-SPLIT.csv``, where the sensor of a split may be left out."""
    method, _, of = path.stem.partition("_")
    wanted = (expected, expected.partition("-test")[0] + "-test")
    if path.suffix == ".csv" and method and of in wanted:
        return []
    return [f"{path.name} is not named METHOD_{expected}.csv, as BOP's server wants it"]


def _check_times(path: Path, by_image: Mapping[tuple[int, int], Sequence[BopEstimate]]) -> None:
    """Refuse times that differ within an image: it has one, in all its rows."""
    for (scene, image), rows in by_image.items():
        times = [-1.0 if row.seconds is None else row.seconds for row in rows]
        if max(times) - min(times) > SAME_TIME:
            raise UserError(
                f"{path}: the rows of scene {scene}, image {image} have times of {min(times):g} "
                f"and {max(times):g} s",
                "write the time of the whole image in each of its rows, or -1 in all",
            )


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
