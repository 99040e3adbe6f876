"""Plots of one or several runs: losses, validation metrics, learning rates."""

import os
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ffreid.atomic import atomic_write, check_writable
from ffreid.engine.tracking.runs import Run, find_runs
from ffreid.errors import UserError, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATE = "lr"
_WINDOWS = 50
"""Smoothing windows in a curve."""
_LOG_RATIO = 30.0
"""Ratio of an axis's largest to its smallest value from which it is logarithmic."""
_COLUMNS = 3
_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
_MARKERS = ("o", "x", "s", "^")

Floats = npt.NDArray[np.float64]
Styles = dict[str, dict[str, Any]]
Panel = tuple[str, Styles]
"""Title, and the line style of each column of metrics.jsonl."""


def default_file(folders: Sequence[Path]) -> Path:
    """Return the default file: in the run's folder, or in the common parent of several."""
    return Path(os.path.commonpath([r.folder.resolve() for r in find_runs(folders)]), "curves.png")


def plot_runs(folders: Sequence[Path], *, file: Path) -> Path:
    """Plot losses, validation metrics and learning rates of the runs in `folders` to a PNG.

    Raises:
        UserError: matplotlib is not installed, no run or no metrics are found, or the file cannot
            be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ImportError as error:
        raise UserError(
            f"ffreid runs plot needs another package: {error}", "pip install 'ffreid[plot]'"
        ) from error
    runs = [run for run in find_runs(folders) if run.metrics]
    check_writable(file, stream=False, magic=b"\x89PNG")
    names = list(dict.fromkeys(name for run in runs for row in run.metrics for name in row))
    prefixes = dict.fromkeys(name.partition("/")[0] for name in names if "/" in name)
    validations = [prefix for prefix in prefixes if prefix not in ("train", RATE, "norm", "save")]
    dashed = {"linestyle": "--", "linewidth": 0.9, "markersize": 4}
    styles: Styles = {
        prefix: dashed | {"marker": marker}
        for prefix, marker in zip(validations, cycle(_MARKERS), strict=False)
    }
    groups = _panels(runs, names, styles)
    if not groups:
        raise UserError(
            "the runs have no metrics yet", "wait until they have logged their first steps"
        )
    colored = list(zip(runs, cycle(_COLORS), strict=False))
    columns = min(_COLUMNS, max(map(len, groups)))
    rows = [group[i : i + columns] for group in groups for i in range(0, len(group), columns)]
    size = (5 * max(columns, 2), 1 + 2.6 * len(rows))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    grid = figure.add_gridspec(len(rows), columns)
    last = max(row["step"] for run in runs for row in run.metrics)
    for index, row in enumerate(rows):
        for column, panel in enumerate(row):
            axes = figure.add_subplot(grid[index, :] if [panel] in groups else grid[index, column])
            _draw(axes, *panel, colored)
            axes.set_xlim(-0.02 * last, 1.02 * last)
    handles = [
        Line2D([], [], color=color, linewidth=2, label=_plain(run.name)) for run, color in colored
    ]
    for prefix, style in styles.items():
        handles.append(Line2D([], [], color="grey", label=_plain(prefix), **style))
    longest = max(len(str(handle.get_label())) for handle in handles)
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=max(1, int(figure.get_figwidth() * 11 / (longest + 6))),
        frameon=False,
        fontsize=9,
    )
    try:
        with atomic_write(file.resolve()) as written:
            figure.savefig(written, format="png")
    except OSError as error:
        raise UserError(
            f"cannot write {file}: {error.strerror}", "choose another file with --output FILE"
        ) from error
    return file


def _plain(text: str) -> str:
    """Escape what would not be shown as it is: invisible characters, and formulas."""
    return printable(text).replace("$", r"\$")


def smoothed(values: Floats) -> Floats:
    """Average over a centred window of a fiftieth of the curve; NaN stays a gap."""
    reach = len(values) // (2 * _WINDOWS)
    if not reach:
        return values
    finite = np.isfinite(values)
    ones = np.ones(2 * reach + 1)
    sums = np.convolve(np.where(finite, values, 0.0), ones, "same")
    counts = np.convolve(finite.astype(np.float64), ones, "same")
    means: Floats = np.where(finite, sums / np.maximum(counts, 1), np.nan)
    return means


def _panels(runs: Sequence[Run], names: Sequence[str], styles: Styles) -> list[list[Panel]]:
    """Return panels in groups: the loss, its terms, validation, learning rates.

    `names` are the columns of metrics.jsonl, `styles` the line styles of validations' prefixes.
    """
    trained = [name.removeprefix("train/") for name in names if name.startswith("train/")]
    # Without counters of events that never occurred and losses that are off.
    terms = [
        name
        for name in trained
        if name != "loss" and any(v for run in runs for _, v in run.values(f"train/{name}"))
    ]
    validated = [name.partition("/")[2] for name in names if name.partition("/")[0] in styles]
    selecting = [run.best[0] for run in runs if run.best]
    validated = [name for name in dict.fromkeys(validated) if name not in trained]
    validated.sort(key=lambda name: name not in selecting)
    solid = {"linestyle": "-", "linewidth": 1.5}
    styles = {"train": solid} | styles
    groups: list[list[Panel]] = [
        [(name, {f"{prefix}/{name}": style for prefix, style in styles.items()}) for name in group]
        for group in (["loss"] if "loss" in trained else [], terms, validated)
    ]
    if RATE in names:
        parts = {n: solid | {"linestyle": ":"} for n in names if n.startswith(f"{RATE}/")}
        dotted = ", ".join(name.removeprefix(f"{RATE}/") for name in parts)
        title = "learning rate" + (f" (dotted: {dotted})" if dotted else "")
        groups.append([(title, {RATE: solid} | parts)])
    return [group for group in groups if group]


def _draw(axes: "Axes", title: str, lines: Styles, runs: Sequence[tuple[Run, str]]) -> None:
    """Draw the columns of all runs, in the runs' colors, those of training steps smoothed."""
    finite = [np.zeros(0)]
    for run, color in runs:
        for name, style in lines.items():
            steps, values = np.array(run.values(name), np.float64).reshape(-1, 2).T
            curve = smoothed(values) if name.startswith("train/") else values
            if curve is not values:
                axes.plot(steps, values, color=color, alpha=0.22, linewidth=0.7)
            if len(steps):
                axes.plot(steps, curve, color=color, **style)
            finite.append(curve[np.isfinite(curve)])
    values = np.concatenate(finite)
    if (title == "loss" or RATE in lines) and len(values):
        low, high = values.min(), values.max()
        if low > 0 and high > _LOG_RATIO * low:
            axes.set_yscale("log")
    axes.set_title(_plain(title), fontsize=10)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
