"""Plots of one or several runs: losses, validation metrics, learning rates."""

import os
from collections.abc import Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ffreid.engine.tracking.runs import Run, find_runs
from ffreid.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE, RATE = "curves.png", "lr"
_WINDOWS = 50
"""The smoothing window is this fraction of a curve."""
_LOG_RATIO = 30.0
"""Ratio of an axis's largest to its smallest value from which it is logarithmic."""
_COLUMNS = 3
_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
_MARKERS = ("o", "x", "s", "^")

Floats = npt.NDArray[np.float64]


def default_file(folders: Sequence[Path]) -> Path:
    """Return the default file: in the run's folder, or in the common parent of several."""
    paths = [run.folder.resolve() for run in find_runs(folders)]
    return Path(os.path.commonpath(paths)) / FILE


def plot_runs(folders: Sequence[Path], *, file: Path) -> Path:
    """Plot losses, validation metrics and learning rates of the runs in `folders` to a PNG.

    Raises:
        UserError: matplotlib is not installed, no run or no metrics are found, or the file cannot
            be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            f"ffreid runs plot needs a package: {error}", "pip install 'ffreid[plot]'"
        ) from error
    runs = [run for run in find_runs(folders) if run.metrics]
    groups = _panels(runs)
    if not groups:
        raise UserError("the runs have no metrics yet", "wait for their first steps")
    columns = min(_COLUMNS, max(map(len, groups)))
    rows = [group[i : i + columns] for group in groups for i in range(0, len(group), columns)]
    size = (5 * max(columns, 2), 1 + 2.6 * len(rows))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    grid = figure.add_gridspec(len(rows), columns)
    last = max(row["step"] for run in runs for row in run.metrics)
    for index, row in enumerate(rows):
        for column, name in enumerate(row):
            alone = [name] in groups
            axes = figure.add_subplot(grid[index, :] if alone else grid[index, column])
            _draw(axes, name, runs)
            axes.set_xlim(-0.02 * last, 1.02 * last)
            axes.set_xlabel("step", fontsize=8)
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.25)
    _add_legend(figure, runs)
    image = BytesIO()
    figure.savefig(image, format="png")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image.getvalue())
    except OSError as error:
        raise UserError(
            f"cannot write {file}: {error.strerror}", "choose another file with --output FILE"
        ) from error
    return file


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


def _panels(runs: Sequence[Run]) -> list[list[str]]:
    """Return the metrics to plot in groups: the loss, its terms, validation, learning rates."""
    names = _names(runs)
    trained = [name.removeprefix("train/") for name in names if name.startswith("train/")]
    prefixes = tuple(f"{prefix}/" for prefix in _validations(runs))
    validated = [name.partition("/")[2] for name in names if name.startswith(prefixes)]
    selecting = [run.best[0] for run in runs if run.best]
    validated = [name for name in dict.fromkeys(validated) if name not in trained]
    validated.sort(key=lambda name: name not in selecting)
    loss = ["loss"] if "loss" in trained else []
    # Without counters of events that never occurred and losses that are off.
    terms = [
        name
        for name in trained
        if name != "loss" and any(v for run in runs for _, v in run.values(f"train/{name}"))
    ]
    rates = [RATE] if RATE in names else []
    return [group for group in (loss, terms, validated, rates) if group]


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for row in run.metrics for name in row))


def _validations(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Return the prefixes of validation metrics, as ``validation-ema``, and their look."""
    prefixes = dict.fromkeys(name.partition("/")[0] for name in _names(runs) if "/" in name)
    names = [prefix for prefix in prefixes if prefix not in ("train", RATE, "norm", "save")]
    markers = zip(names, cycle(_MARKERS), strict=False)
    return {name: _look("--", 0.9, marker=marker, markersize=4) for name, marker in markers}


def _draw(axes: "Axes", name: str, runs: Sequence[Run]) -> None:
    """Draw a metric of all runs, smoothed in training; the axis is logarithmic if it spans much."""
    title = name
    if name == RATE:
        parts = [part for part in _names(runs) if part.partition("/")[0] == name]
        looks = {part: _look("-" if part == name else ":", 1.5) for part in parts}
        dotted = ", ".join(part.removeprefix(f"{name}/") for part in parts if part != name)
        title = "learning rate" + (f" (dotted: {dotted})" if dotted else "")
    else:
        looks = {f"train/{name}": _look("-", 1.5)}
        looks |= {f"{prefix}/{name}": look for prefix, look in _validations(runs).items()}
    curves = [np.zeros(0)]
    for run, color in zip(runs, cycle(_COLORS), strict=False):
        for key, look in looks.items():
            steps, values = _curve(run, key)
            curve = smoothed(values) if key.startswith("train/") else values
            if curve is not values:
                axes.plot(steps, values, color=color, alpha=0.22, linewidth=0.7)
            if len(steps):
                axes.plot(steps, curve, color=color, **look)
            curves.append(curve[np.isfinite(curve)])
    axes.set_title(title, fontsize=10)
    values = np.concatenate(curves)
    if name in ("loss", RATE) and len(values):
        low, high = values.min(), values.max()
        if low > 0 and high > _LOG_RATIO * low:
            axes.set_yscale("log")


def _look(style: str, width: float, **marker: Any) -> dict[str, Any]:
    return {"linestyle": style, "linewidth": width, **marker}


def _curve(run: Run, name: str) -> tuple[Floats, Floats]:
    """Return (N,) steps and (N,) values, NaN where a value was not finite."""
    values = np.array(run.values(name), np.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1]


def _add_legend(figure: "Figure", runs: Sequence[Run]) -> None:
    from matplotlib.lines import Line2D

    colored = zip(runs, cycle(_COLORS), strict=False)
    handles = [Line2D([], [], color=color, linewidth=2, label=run.name) for run, color in colored]
    for prefix, look in _validations(runs).items():
        handles.append(Line2D([], [], color="grey", label=prefix, **look))
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, int(figure.get_figwidth() * 11 / (longest + 6)))
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=9
    )
