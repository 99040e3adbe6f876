"""Checks of every frame of a pose dataset: images, labels, cameras, poses, duplicates."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from ffreid.engine.dataset_files import stored_as
from ffreid.engine.findings import Findings, Kind, in_threads
from ffreid.errors import UserError
from ffreid.pose.data import checks, diagnosis
from ffreid.pose.data.checks import Fit, Trees
from ffreid.pose.data.dataset import Reader
from ffreid.pose.data.frame import (
    FARTHEST,
    NEAREST,
    Frame,
    implausible_intrinsics,
    repeated_classes,
)
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.data.sample import MIN_POINTS
from ffreid.pose.objects import ObjectModels

CHECKS = ("lists", "objects", "images", "labels", "cameras", "poses", "duplicates")
MANY = 100
"""Labelled points from which a single frame tells that an object is misplaced."""
FAR = 2.0
"""How many times the usual distance points of a single frame are from the mesh, at least."""
KEYPOINT = 0.1
"""Distance of a keypoint from the mesh, at most, as a share of the mesh's diagonal."""
CHUNK = 64
"""Frames that are read ahead, so that results of few wait in memory."""

UNREADABLE = "frames that cannot be used"
GREY = Kind("images", "grey colour images", "store colours: the network learns from them")
CMYK = Kind(
    "images", "CMYK colour images", "convert them to RGB: other programs may show other colours"
)
OTHER_SIZE = Kind(
    "images",
    "frames of another size than most",
    "resize them and their intrinsics, or set TRAIN.BATCH 1 and TEST.BATCH 1",
)
NO_DEPTH = Kind(
    "images",
    f"depth images with fewer than {MIN_POINTS} measured pixels",
    "store the depth image again, 0 where nothing was measured, or remove the frame from its list",
)
UNUSED_CAMERA = Kind(
    "cameras",
    "intrinsics in the files that are not used",
    "set DATA.INTRINSICS meta to use those of the files",
)
EMPTY = Kind(
    "labels",
    "frames without a labelled pixel of their objects",
    "store the label image or mask again: class numbers in YCB-Video's layout, above 0 on the "
    "object in LineMOD's",
)
UNPOSED = Kind(
    "labels",
    "labelled pixels of objects without a pose",
    "add the poses, or set these pixels to 0",
)
TWICE = Kind("poses", "an object twice at one pose", "list each object once")
KEYPOINTS = Kind(
    "objects",
    "keypoints outside the mesh",
    "make the keypoints from this mesh: in its frame, in metres",
)
TRAINED = Kind(
    "duplicates",
    "test frames that are training frames as well",
    "remove them from one of the lists: their results say nothing about new frames",
)
AGAIN = Kind(
    "duplicates",
    "training frames listed again",
    "list each frame once: these are drawn more often",
)
COPIES = Kind(
    "duplicates",
    "one colour image in several frames",
    "remove the copies, or copy the right image again",
)


class _Compared(NamedTuple):
    """A fit: its distances by their usual limit, and the mistake if it counts as off."""

    class_id: int
    distance: float
    transposed: float
    ratio: float
    counts_alone: bool
    kind: Kind
    case: str


@dataclass
class _Look:
    """What a frame shows: its mistakes, and what is compared with other frames."""

    name: str
    error: UserError | None = None
    cases: list[tuple[Kind, str]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    digest: bytes = b""
    fits: list[_Compared] = field(default_factory=list)
    uncompared: int = 0
    repeated: bool = False
    camera: bytes = b""
    doubtful: tuple[Kind, str] | None = None


def inspect_objects(
    findings: Findings, objects: ObjectModels, meshes: Meshes, trees: Trees
) -> None:
    """Find keypoints that are not on their mesh."""
    for class_id in (i for i in objects.class_ids if i in meshes):
        findings.checked["objects"] += 1
        tree, gap = trees(class_id)
        diagonal = float(np.linalg.norm(np.ptp(tree.data, axis=0)))
        distances = tree.query(objects.keypoints[class_id - 1])[0]
        worst = int(distances.argmax())
        if distances[worst] > max(KEYPOINT * diagonal, 2 * gap):
            findings.add(
                KEYPOINTS,
                f"{objects.name(class_id)}: keypoint {worst + 1} is {distances[worst]:.3f} m from "
                f"the nearest vertex; the mesh is {diagonal:.3f} m large",
            )
    if missing := [objects.name(i) for i in objects.class_ids if i not in meshes]:
        findings.notes.append(
            "objects without a mesh, whose keypoints are not checked and take its place: "
            f"{', '.join(missing)}"
        )


def inspect_lists(findings: Findings, train: Sequence[str], test: Sequence[str]) -> None:
    """Find frames that are listed again, or in both lists."""
    findings.checked["lists"] += len(train) + len(test)
    known = Counter(train)
    for name in test:
        if name in known:
            findings.add(TRAINED, name)
    for name, count in known.items():
        if count > 1:
            findings.add(AGAIN, f"{name}: {count} times")


def inspect_frames(
    findings: Findings,
    lists: Mapping[str, Sequence[str]],
    reader: Reader,
    *,
    objects: ObjectModels,
    trees: Trees,
    advance: Callable[[], None],
) -> None:
    """Find mistakes in the frames of the `lists`, by kind; `advance` is called after each."""
    names = list(dict.fromkeys(name for group in lists.values() for name in group))
    looks: dict[str, _Look] = {}
    inspect = partial(_look, reader=reader, objects=objects, trees=trees)
    for look in in_threads(inspect, names, ahead=CHUNK):
        looks[look.name] = look
        for kind, case in look.cases:
            findings.add(kind, case)
        if look.error is not None:
            findings.add_error("images", UNREADABLE, look.error)
        advance()
    read = {name: look for name, look in looks.items() if look.size}
    findings.checked["images"] += len(looks)
    for check in ("labels", "cameras", "duplicates"):
        findings.checked[check] += len(read)
    findings.checked["poses"] += sum(len(look.fits) for look in read.values())
    _compare_fits(findings, [[read[n] for n in group if n in read] for group in lists.values()])
    _compare_images(findings, lists, [*read.values()])
    if lost := len(looks) - len(read):
        findings.notes.append(f"nothing else is checked in {lost} frames that cannot be used")
    if uncompared := sum(look.uncompared for look in read.values()):
        findings.notes.append(
            f"poses of {uncompared} objects are not compared with depth: they have fewer than "
            f"{checks.POINTS // 25} labelled pixels with depth"
        )
    if repeated := sum(look.repeated for look in read.values()):
        findings.notes.append(
            f"{repeated} of {len(read)} frames have several objects of a class: they are not used "
            "for training, and in an evaluation at most one of the objects can be found"
        )


def _look(name: str, *, reader: Reader, objects: ObjectModels, trees: Trees) -> _Look:
    try:
        frame = reader.read(name)
        path = reader.files(name)[0]
        mode = "" if path.suffix in (".pkl", ".tar") else stored_as(path)[0]
    except UserError as error:
        return _Look(name, error)
    look = _Look(name, size=frame.depth.shape)
    look.digest = hashlib.blake2b(frame.rgb.tobytes()).digest()
    if mode == "CMYK":
        look.cases.append((CMYK, str(path)))
    elif (frame.rgb == frame.rgb[..., :1]).all():
        look.cases.append((GREY, str(path)))
    ids = frame.class_ids.tolist()
    labelled = set(np.flatnonzero(np.bincount(frame.labels.reshape(-1))).tolist()) - {0}
    for kind, found in (
        (EMPTY, set() if labelled & set(ids) else set(ids)),
        (UNPOSED, labelled - set(ids)),
        (TWICE, _twins(frame)),
    ):
        if found:
            look.cases.append((kind, f"{name}: {', '.join(map(objects.name, sorted(found)))}"))
    look.repeated = frame.instances is None and bool(repeated_classes(ids))
    measured = frame.depth[frame.depth > 0]
    if len(measured) < MIN_POINTS:
        look.cases.append((NO_DEPTH, f"{name}: {len(measured)} pixels"))
    look.fits = [_compared(fit, frame, objects, trees) for fit in checks.fits(frame, trees)]
    look.uncompared = len(set(ids)) - len(look.fits)
    look.camera = frame.intrinsics.tobytes()
    _look_at_camera(look, frame)
    return look


def _twins(frame: Frame) -> set[int]:
    """Classes of which two objects have the same pose."""
    rows = np.column_stack([frame.class_ids, frame.camera_from_object.reshape(-1, 12)])
    different, counts = np.unique(rows, axis=0, return_counts=True)
    return {int(row[0]) for row in different[counts > 1]}


def _look_at_camera(look: _Look, frame: Frame) -> None:
    """Judge intrinsics and the unit of depth; an object that fits its mesh proves both."""
    stored, used = frame.stored_intrinsics, frame.intrinsics
    if stored is not None and np.abs(stored - used).max() > checks.SAME_CAMERA:
        pair = ", in use ".join(f"fx {k[0, 0]:.1f} and cx {k[0, 2]:.1f}" for k in (stored, used))
        look.cases.append((UNUSED_CAMERA, f"{look.name}: in the file {pair}"))
    if look.fits:
        return
    measured = frame.depth[frame.depth > 0]
    middle = float(np.median(measured)) / frame.depth_scale if len(measured) else NEAREST
    if not NEAREST <= middle <= FARTHEST:
        kind = diagnosis.depth_unit(10.0 ** -round(np.log10(middle)))
        look.cases.append((kind, f"{look.name}: the median is {middle:.3g} m"))
    height, width = frame.depth.shape
    if wrong := implausible_intrinsics(used, height, width):
        numbers = {"fx": used[0, 0], "fy": used[1, 1], "cx": used[0, 2], "cy": used[1, 2]}
        listed = ", ".join(f"{name} {numbers[name]:.1f}" for name in wrong)
        case = f"{look.name}: {listed} in an image of {height} x {width} pixels"
        look.doubtful = diagnosis.resolution(width / 2 / max(used[0, 2], 1)), case


def _compared(fit: Fit, frame: Frame, objects: ObjectModels, trees: Trees) -> _Compared:
    ratio, kind, case = fit.distance / fit.limit, diagnosis.MISPLACED, ""
    if ratio > 1:
        kind, then = diagnosis.diagnose(fit, *trees(fit.class_id), frame.intrinsics)
        mended = (
            f"{then:.3f} m if mended"
            if then < fit.distance
            else (f"measured at {fit.measured:.3f} m, posed at {fit.placed:.3f} m")
        )
        case = (
            f"{fit.frame} {objects.name(fit.class_id)}: {fit.distance:.3f} m from its mesh, "
            f"{mended} (up to {fit.limit:.3f} m is usual)"
        )
    alone = ratio > FAR and len(fit.points) >= MANY
    return _Compared(fit.class_id, fit.distance, fit.transposed, ratio, alone, kind, case)


def _compare_fits(findings: Findings, groups: Sequence[Sequence[_Look]]) -> None:
    """Find objects that are off in the median of a list, and frames that are far off."""
    every = [fit for looks in groups for look in looks for fit in look.fits]
    by_class = defaultdict(list)
    for number, looks in enumerate(groups):
        for fit in (fit for look in looks for fit in look.fits):
            by_class[number, fit.class_id].append(fit)
    for fits in by_class.values():
        off = np.median([fit.ratio for fit in fits]) > 1
        for fit in fits:
            if fit.ratio > 1 and (off or fit.counts_alone):
                findings.add(fit.kind, fit.case)
    proven = {k.camera for looks in groups for k in looks if any(fit.ratio <= 1 for fit in k.fits)}
    for look in (look for looks in groups for look in looks):
        if look.doubtful and look.camera not in proven:
            findings.add(*look.doubtful)
    if not findings.wrong("poses") and 2 * sum(f.transposed for f in every) < sum(
        f.distance for f in every
    ):
        then, now = (
            float(np.median([getattr(f, n) for f in every])) for n in ("transposed", "distance")
        )
        findings.add(
            diagnosis.TRANSPOSED,
            f"all frames: points are {now:.2g} m from the meshes, {then:.3f} m if mended (medians)",
        )


def _compare_images(
    findings: Findings, lists: Mapping[str, Sequence[str]], looks: Sequence[_Look]
) -> None:
    """Find frames of another size, and copies."""
    sizes = Counter(look.size for look in looks)
    copies = defaultdict(list)
    for look in looks:
        copies[look.digest].append(look.name)
        if look.size != (usual := sizes.most_common(1)[0][0]):
            here, there = (" x ".join(map(str, size or ())) for size in (look.size, usual))
            findings.add(OTHER_SIZE, f"{look.name}: {here} pixels, most have {there}")
    tested = set(lists.get("test", ()))
    for names in copies.values():
        if len(names) > 1:
            both = 0 < len(tested.intersection(names)) < len(names)
            findings.add(COPIES, " = ".join(names) + " (training and test)" * both)
