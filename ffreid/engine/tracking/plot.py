"""Curves of one or several runs as a picture: losses, evaluations, learning rates."""

import os
from collections.abc import Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ffreid.engine.tracking.runs import Run, find_runs
from ffreid.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE, RATE = "curves.png", "lr"
_HINT = "pip install 'ffreid[plot]'"
_PARTS = 50
"""The window that smooths is one of so many parts of a course."""
_SPAN = 30.0
"""From which ratio of the largest to the least value on an axis is logarithmic."""
_COLUMNS = 3
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
_MARKERS = ("o", "x", "s", "^")

Floats = npt.NDArray[np.float64]


def default_file(folders: Sequence[Path]) -> Path:
    """Say where the picture goes by default: into the run, or the folder common to several."""
    found = [run.folder.resolve() for run in find_runs(folders)]
    return Path(os.path.commonpath(found)) / FILE


def plot_runs(folders: Sequence[Path], *, file: Path) -> Path:
    """Draw the losses, evaluations and learning rates of the runs in and below `folders`.

    Args:
        folders: to search.
        file: PNG to write.

    Returns:
        `file`.

    Raises:
        UserError: matplotlib is not installed, no run or no metrics are found, or the file cannot
            be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"ffreid runs plot needs a package: {error}", _HINT) from error
    runs = [run for run in find_runs(folders) if run.metrics]
    groups = _panels(runs)
    if not groups:
        raise UserError("the runs have no metrics yet", "wait for their first steps")
    columns = min(_COLUMNS, max(map(len, groups)))
    rows = sum(-(-len(group) // columns) for group in groups)
    figure = Figure(figsize=(5 * max(columns, 2), 1 + 2.6 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # the figure's own from now on, whatever screen there is
    _fill(figure, runs, groups, (rows, columns))
    _legend(figure, runs)
    return _written(figure, file)


def smoothed(values: Floats) -> Floats:
    """Average over a window of a fiftieth of the course; what is not a number stays a gap."""
    reach = len(values) // (2 * _PARTS)
    if not reach:
        return values
    known = np.isfinite(values)
    ones = np.ones(2 * reach + 1)
    sums = np.convolve(np.where(known, values, 0.0), ones, "same")
    counts = np.convolve(known.astype(np.float64), ones, "same")
    found: Floats = np.where(known, sums / np.maximum(counts, 1), np.nan)
    return found


def _panels(runs: Sequence[Run]) -> list[list[str]]:
    """Names of the panels, group by group: the loss, its terms, evaluations, learning rates."""
    names = _names(runs)
    trained = [name.removeprefix("train/") for name in names if name.startswith("train/")]
    starts = tuple(f"{prefix}/" for prefix in _evaluations(runs))
    measured = [name.partition("/")[2] for name in names if name.startswith(starts)]
    selecting = [run.best[0] for run in runs if run.best]
    alone = [name for name in dict.fromkeys(measured) if name not in trained]
    alone.sort(key=lambda name: name not in selecting)
    # Counts of what did not happen, and losses that are off, are 0 throughout.
    terms = [name for name in trained if name != "loss" and _ever(runs, f"train/{name}")]
    loss = ["loss"] if "loss" in trained else []
    rates = [RATE] if RATE in names else []
    return [group for group in (loss, terms, alone, rates) if group]


def _ever(runs: Sequence[Run], name: str) -> bool:
    return any(value for run in runs for _, value in run.values(name))


def _evaluations(runs: Sequence[Run]) -> list[str]:
    """What names of evaluated numbers begin with, e.g. ``validation``."""
    prefixes = dict.fromkeys(name.partition("/")[0] for name in _names(runs) if "/" in name)
    return [prefix for prefix in prefixes if prefix not in ("train", RATE, "norm", "save")]


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for row in run.metrics for name in row))


def _fill(
    figure: "Figure", runs: Sequence[Run], groups: Sequence[Sequence[str]], shape: tuple[int, int]
) -> None:
    grid = figure.add_gridspec(*shape)
    rates = [name for name in _names(runs) if name.partition("/")[0] == RATE]
    last = max(row["step"] for run in runs for row in run.metrics)
    top = 0
    for group in groups:
        for index, name in enumerate(group):
            row, column = top + index // shape[1], index % shape[1]
            axes = figure.add_subplot(grid[row, :] if len(group) == 1 else grid[row, column])
            if name == RATE:
                _draw_rates(axes, rates, runs)
            else:
                _draw(axes, name, runs)
            axes.set_xlim(-0.02 * last, 1.02 * last)
            axes.set_xlabel("step", fontsize=8)
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.25)
        top += -(-len(group) // shape[1])


def _draw(axes: "Axes", name: str, runs: Sequence[Run]) -> None:
    """Draw one number of all runs: raw and smoothed in training, marked where evaluated."""
    shown: list[Floats] = []
    prefixes = _evaluations(runs)
    for run, colour in zip(runs, cycle(_COLOURS), strict=False):
        steps, values = _course(run, f"train/{name}")
        if len(steps):
            curve = smoothed(values)
            if curve is not values:
                axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.7)
            axes.plot(steps, curve, color=colour, linewidth=1.5)
            shown.append(curve)
        for prefix, marker in zip(prefixes, cycle(_MARKERS), strict=False):
            steps, values = _course(run, f"{prefix}/{name}")
            if len(steps):
                axes.plot(
                    steps, values, "--", color=colour, marker=marker, markersize=4, linewidth=0.9
                )
                shown.append(values)
    axes.set_title(name, fontsize=10)
    if name == "loss":
        _scale(axes, shown)


def _draw_rates(axes: "Axes", names: Sequence[str], runs: Sequence[Run]) -> None:
    """Draw the learning rates of all parts, those of further parts dotted."""
    shown: list[Floats] = []
    for run, colour in zip(runs, cycle(_COLOURS), strict=False):
        for name in names:
            steps, values = _course(run, name)
            axes.plot(steps, values, "-" if name == RATE else ":", color=colour, linewidth=1.5)
            shown.append(values)
    further = ", ".join(name.removeprefix(f"{RATE}/") for name in names if name != RATE)
    axes.set_title("learning rate" + (f" (dotted: {further})" if further else ""), fontsize=10)
    _scale(axes, shown)


def _scale(axes: "Axes", shown: Sequence[Floats]) -> None:
    """Make the axis logarithmic where the values span much."""
    values = np.concatenate(shown) if shown else np.zeros(0)
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > _SPAN * values.min():
        axes.set_yscale("log")


def _course(run: Run, name: str) -> tuple[Floats, Floats]:
    """(N,) steps and (N,) values, NaN where it was not a number."""
    found = run.values(name)
    steps = np.array([step for step, _ in found], np.float64)
    return steps, np.array([np.nan if v is None else v for _, v in found], np.float64)


def _legend(figure: "Figure", runs: Sequence[Run]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linewidth=2, label=run.name)
        for run, colour in zip(runs, cycle(_COLOURS), strict=False)
    ]
    for prefix, marker in zip(_evaluations(runs), cycle(_MARKERS), strict=False):
        look = Line2D([], [], color="grey", linestyle="--", linewidth=0.9, label=prefix)
        look.set_marker(marker)
        look.set_markersize(4)
        handles.append(look)
    longest = max(len(str(handle.get_label())) for handle in handles)
    fitting = int(figure.get_figwidth() * 11 / (longest + 6))
    figure.legend(
        handles=handles, loc="outside upper left", ncols=max(1, fitting), frameon=False, fontsize=9
    )


def _written(figure: "Figure", file: Path) -> Path:
    picture = BytesIO()
    figure.savefig(picture, format="png")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture.getvalue())
    except OSError as error:
        raise UserError(
            f"cannot write {file}: {error.strerror}", "choose another file with --output FILE"
        ) from error
    return file
