"""The HTML page of an evaluation: results, accuracy curves, best and worst cases, times."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.engine import page
from ffreid.pose.data.batch import Sample, SkippedFrame
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.draw import draw_poses
from ffreid.pose.inference import FrameResult
from ffreid.pose.objects import ObjectModels
from ffreid.report import Cell

LIMIT, CASES = 0.1, 4
"""Largest threshold, metres; cases of each kind that are drawn."""
SHARES = np.linspace(0, 1, 6)
"""Edges of the bins of visible shares."""


@dataclass(frozen=True)
class Instance:
    """An object in a frame, its ADD(-S) in metres and as a fraction of the diameter."""

    result: FrameResult
    class_id: int
    error: float
    relative: float
    visible: float


def write(
    path: Path,
    payload: Mapping[str, Any],
    results: Sequence[FrameResult],
    table: tuple[Sequence[str], Sequence[Sequence[Cell]]],
    lines: Sequence[str],
    *,
    objects: ObjectModels,
    meshes: Meshes,
    diameters: Mapping[int, float],
    load: Callable[[int], Sample | SkippedFrame],
    seconds: Mapping[str, float],
) -> None:
    """Write the page; `load` returns the frame of an index of the evaluated list."""
    columns, rows = table
    instances = [
        Instance(
            result,
            score.class_id,
            error := score.adds if score.class_id in objects.symmetric else score.add,
            error / diameters[score.class_id],
            visible,
        )
        for result in results
        for score, visible in zip(result.scores, result.visible, strict=True)
    ]
    total = sum(seconds.values())
    frames = max(len(results), 1)
    sections = [
        page.Section(
            title="Results",
            lines=[str(payload.get("origin", payload["weights"])), *lines],
            columns=columns,
            rows=rows,
        ),
        page.Section(
            title="Accuracy",
            lines=[
                "ADD, or ADD-S for symmetric objects. The visible share is the measured points on "
                "an object over those that its whole silhouette would have.",
            ],
            figures=[
                (
                    "Objects with an error below the threshold",
                    page.curves(_accuracy(instances, objects), x="threshold, cm", y="percent"),
                ),
                (
                    "ADD(-S) below a tenth of the diameter, by the object's visible share: "
                    + ", ".join(_counts(instances)),
                    page.curves(
                        {"all objects": _by_share(instances)},
                        x="visible share, percent",
                        y="percent of objects",
                        marker="o",
                    ),
                ),
            ],
        ),
        *_cases(instances, objects, meshes, load),
        page.Section(
            title="Time",
            columns=("stage", "seconds", "ms a frame", "share in percent"),
            rows=[
                [name, time, 1000 * time / frames, 100 * time / total]
                for name, time in seconds.items()
            ],
        ),
        page.Section(
            title="Settings",
            lines=[f"{name}: {value}" for name, value in payload["provenance"].items()],
            code=payload["config"],
        ),
    ]
    page.write(path, f"{objects.dataset}: poses in {len(results)} frames", sections)


def _accuracy(
    instances: Sequence[Instance], objects: ObjectModels
) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    thresholds = np.linspace(0, LIMIT, 101)
    groups = {"all objects": [i.error for i in instances]}
    for class_id in sorted({i.class_id for i in instances}):
        groups[objects.name(class_id)] = [i.error for i in instances if i.class_id == class_id]
    return {
        name: (100 * thresholds, 100 * (np.array(errors)[:, None] < thresholds).mean(axis=0))
        for name, errors in groups.items()
        if errors
    }


def _bins(instances: Sequence[Instance]) -> list[list[Instance]]:
    places = np.clip(np.digitize([i.visible for i in instances], SHARES) - 1, 0, len(SHARES) - 2)
    return [
        [i for i, place in zip(instances, places, strict=True) if place == index]
        for index in range(len(SHARES) - 1)
    ]


def _by_share(instances: Sequence[Instance]) -> tuple[list[float], list[float]]:
    middles = 50 * (SHARES[1:] + SHARES[:-1])
    filled = [(m, part) for m, part in zip(middles, _bins(instances), strict=True) if part]
    return (
        [float(middle) for middle, _ in filled],
        [100 * float(np.mean([i.relative < 0.1 for i in part])) for _, part in filled],
    )


def _counts(instances: Sequence[Instance]) -> list[str]:
    edges = (100 * SHARES).astype(int)
    bins = zip(edges[:-1], edges[1:], _bins(instances), strict=True)
    return [f"{low}–{high} %: {len(part)}" for low, high, part in bins if part]


def _cases(
    instances: Sequence[Instance],
    objects: ObjectModels,
    meshes: Meshes,
    load: Callable[[int], Sample | SkippedFrame],
) -> list[page.Section]:
    order = sorted((i for i in instances if not i.result.skipped), key=lambda i: i.relative)
    middle = max(0, (len(order) - CASES) // 2)
    groups = {
        "Best": order[:CASES],
        "Median": order[middle : middle + CASES],
        "Worst": order[::-1][:CASES],
    }
    return [
        page.Section(
            title=f"{kind} cases",
            lines=["True on the left, estimated on the right; one object of the frame."],
            images=[
                (
                    f"{case.result.gt.name}: {objects.name(case.class_id)}, "
                    f"{100 * case.error:.1f} cm, {100 * case.relative:.0f} % of its diameter, "
                    f"{100 * case.visible:.0f} % visible",
                    page.embed(_draw(case, objects, meshes, load)),
                )
                for case in group
            ],
        )
        for kind, group in groups.items()
    ]


def _draw(
    case: Instance,
    objects: ObjectModels,
    meshes: Meshes,
    load: Callable[[int], Sample | SkippedFrame],
) -> npt.NDArray[np.uint8]:
    gt = case.result.gt
    sample = load(gt.index)
    if isinstance(sample, SkippedFrame):
        raise AssertionError(f"{gt.name} was evaluated, now it is skipped: {sample.reason}")
    true = zip(gt.class_ids.tolist(), gt.camera_from_object, strict=True)
    estimated = [(p.class_id, p.camera_from_object) for p in case.result.poses if p.solved]
    return draw_poses(
        sample.inputs.rgb.permute(1, 2, 0).numpy().astype(np.uint8),
        gt.intrinsics,
        points=meshes,
        predicted=[pose for pose in estimated if pose[0] == case.class_id],
        true=[pose for pose in true if pose[0] == case.class_id],
        names={case.class_id: objects.name(case.class_id)},
    )
