"""``ffreid predict`` for pose: frames in, tables, files and pictures out."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ffreid import atomic, report
from ffreid.engine.dataset_files import clean, read_image
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.pose.own import results
from ffreid.pose.own.find import FramePaths, find, of_line
from ffreid.pose.own.predict import FileResult, predict_paths
from ffreid.pose.own.read import Options, find_camera
from ffreid.pose.predictor import PoseModel
from ffreid.pose.refine import refiner

NAMED = 20
"""Failed frames that are named at the end."""
STDIN = "-"


def run(
    model: PoseModel,
    inputs: Sequence[str],
    options: Options,
    *,
    depth: Path | None = None,
    out: Path | None = None,
    grid: bool = False,
    force: bool = False,
    json_file: Path | None = None,
    min_score: float = 0.0,
    **how: Any,
) -> bool:
    """Estimate, print and write the poses of frames; return whether all could be used.

    `how` are options of `PoseModel.predict_frame`.

    Raises:
        UserError: a wrong argument, or the only frame cannot be used.
    """
    if not inputs:
        raise UserError("no frames given", "name colour images, folders or lists, or - for stdin")
    if not 0 <= min_score <= 1:
        raise UserError(f"--min-score is {min_score:g}", "use a number from 0 to 1")
    streamed = list(inputs) == [STDIN]
    if STDIN in inputs and not streamed:
        raise UserError("- cannot be combined with other inputs", "use - alone")
    if grid and out is None:
        raise UserError("--grid needs a folder to write to", "add --out FOLDER")
    if depth is not None and (len(inputs) > 1 or streamed or Path(inputs[0]).is_dir()):
        raise UserError("--depth is of one colour image", "give one, or remove --depth")
    if json_file is not None:
        atomic.check_writable(json_file)
    frames: list[FramePaths] = []
    if not streamed:
        frames = [frame for each in inputs for frame in find(Path(each), depth)]
        _check_cameras(frames, options)
    refiner(how.get("refine"), model.meshes)  # an error if it cannot be used
    folder = None if out is None else results.Folder(out, grid=grid, force=force)
    _describe(model)
    points = results.drawn_points(model.objects, model.meshes)
    failed, rows, times, noted = list[FileResult](), list[Any](), list[Any](), set[str]()
    total = None if streamed else len(frames)
    with ProgressBar("predicting", total, show=streamed or len(frames) > 1) as bar:
        source = _lines(sys.stdin) if streamed else iter(frames)
        for result in predict_paths(model, source, options, **how):
            if result.error is not None:
                if total == 1:
                    raise result.error
                failed.append(result)
                report.log(_named(result, result.error.message))
            for line in result.assumptions:
                if (key := line.partition(" (")[0]) not in noted:
                    noted.add(key)
                    report.log(f"note: {line}")
            kept = [pose for pose in result.poses if pose.solved and pose.score >= min_score]
            if folder is not None:  # before the table, whose reader may have closed the pipe
                folder.add(result, kept, model.objects, points)
            if result.error is None:
                title, columns, cells = results.table(result, kept)
                if kept:
                    report.show_table(title, columns, cells)
                else:
                    report.show_lines(title)
                sys.stdout.flush()
                times.append(result.seconds)
            if json_file is not None:
                rows.append(results.as_json(result, kept, (0, len(rows))))
            bar.advance()
    if streamed and not failed and not times:
        raise UserError("no paths on standard input", "write the path of a colour image a line")
    if folder is not None:
        folder.close()
        if folder.left_out:
            report.log(f"note: {folder.left_out} more frames are not in {results.GRID}")
        noun = "frame" if len(times) == 1 else "frames"
        report.log(f"poses and pictures of {len(times)} {noun} in {out}")
    if len(times) > 1:
        report.log(f"seconds a frame: {_mean(times)}")
    if json_file is not None:
        atomic.write_json(json_file, {"frames": rows, "failed": len(failed)})
    _list_failed(failed, len(failed) + len(times))
    return not failed


def _describe(model: PoseModel) -> None:
    """Say what scores are, and what is missing."""
    names = [model.objects.name(c) for c in model.objects.class_ids if c not in model.meshes]
    if names:
        whose = f" of {', '.join(names[:5])}{', …' * (len(names) > 5)}" if model.meshes else ""
        report.log(
            f"note: no meshes{whose}: keypoints are drawn, and scores do not use the measured "
            "depth; --root FOLDER with the dataset's models adds them"
        )
    if model.calibration is None or names:
        report.log("note: scores are raw scores, not probabilities; see ffreid eval --calibrate")


def _lines(stream: Iterator[str]) -> Iterator[FramePaths]:
    """Frames of the paths on standard input, as they come."""
    for line in stream:
        if path := clean(line):
            yield from of_line(path, Path())


def _check_cameras(frames: Sequence[FramePaths], options: Options) -> None:
    """Refuse frames whose first and last have no usable intrinsics, before the work."""
    errors = []
    for paths in (frames[0], frames[-1]):
        try:
            size = read_image(paths.colour, registered=True).shape
        except UserError:
            return  # said in its turn
        try:
            find_camera(paths, (size[0], size[1]), options)
            return
        except UserError as error:
            errors.append(error)
    raise errors[0]


def _mean(times: Sequence[Mapping[str, float]]) -> str:
    stages = list(dict.fromkeys(stage for row in times for stage in row))
    means = {stage: fmean(row.get(stage, 0.0) for row in times) for stage in stages}
    parts = ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in means.items())
    return f"{sum(means.values()):.3f} ({parts})"


def _named(result: FileResult, reason: str) -> str:
    return reason if result.paths.name in reason else f"{result.paths.name}: {reason}"


def _list_failed(failed: Sequence[FileResult], frames: int) -> None:
    if not failed:
        return
    report.log(f"{len(failed)} of {frames} frames have no result:")
    for result in failed[:NAMED]:
        assert result.error is not None
        report.log(f"  {_named(result, f'{result.error.message}; {result.error.hint}')}")
    if len(failed) > NAMED:
        report.log(f"  and {len(failed) - NAMED} more")
