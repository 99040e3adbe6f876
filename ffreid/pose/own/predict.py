"""Poses in people's own frames, one after the other; a broken frame does not stop the rest."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ffreid.engine.timing import Stopwatch
from ffreid.errors import UserError
from ffreid.pose.own.find import FramePaths
from ffreid.pose.own.read import Options, OwnFrame, fitted_size, read_frame, resized
from ffreid.pose.predictor import Pose, PoseModel

SAME_SIZE = (0.8, 1.25)
"""Ratios of a frame's size to that of the training frames at which it is not resized."""


@dataclass(frozen=True)
class FileResult:
    """A frame's poses, or the error for which it has none.

    `own` is the frame as it was read, None where it could not be; `seconds` are those of each
    stage, `network_size` is the height and width that the network's frame had.
    """

    paths: FramePaths
    poses: list[Pose] = field(default_factory=list)
    own: OwnFrame | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    network_size: tuple[int, int] | None = None
    error: UserError | None = None


def predict_paths(
    model: PoseModel, frames: Iterable[FramePaths], options: Options, **how: Any
) -> Iterator[FileResult]:
    """Read frames and estimate their poses; `how` are options of `PoseModel.predict_frame`.

    Yields a result for each, in order, as soon as it is there.
    """
    for paths in frames:
        try:
            yield _predict(model, paths, options, **how)
        except UserError as error:
            yield FileResult(paths, error=error)


def _predict(model: PoseModel, paths: FramePaths, options: Options, **how: Any) -> FileResult:
    if paths.problem is not None:
        raise paths.problem
    watch = Stopwatch()
    with watch("read"):
        own = read_frame(paths, options)
    size = own.frame.depth.shape
    target = options.size or model.frame_size
    assumptions = list(own.assumptions)
    fitted = size
    if target[0]:
        fitted = fitted_size(size, target)
        if options.size is None:
            if SAME_SIZE[0] <= size[0] / fitted[0] <= SAME_SIZE[1]:
                fitted = size
            else:
                assumptions.append(
                    f"frames of {size[0]} x {size[1]} are resized to {fitted[0]} x {fitted[1]}, "
                    f"as the network was trained on {target[0]} x {target[1]}; --size changes this"
                )
    with watch("read"):
        frame = resized(own.frame, fitted)
    done = model.predict_frame(frame, **how)
    seconds = watch.seconds | done.seconds
    shrunk = tuple(side // model.cfg.DATA.SHRINK for side in fitted)
    return FileResult(paths, done.poses, own, seconds, assumptions, (shrunk[0], shrunk[1]))
