"""Reports as one HTML page that needs no other file and no network."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ffreid import atomic, report
from ffreid.errors import UserError, printable

_MAGIC = b"<!doctype html"
_JPEG_QUALITY = 85


@dataclass(kw_only=True)
class Section:
    """A part of a page: lines of text, a table, figures and images with captions.

    `figures` are captions and SVGs of `curves`, `images` captions and those of `embed`; `code` is
    shown on a click.
    """

    title: str
    lines: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[report.Cell]] = ()
    figures: list[tuple[str, str]] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    code: str = ""


def check(path: Path) -> None:
    """Check before the work that `write` can write `path`.

    Raises:
        UserError: jinja2 or matplotlib is missing, or the file cannot be written or is no page.
    """
    try:
        import_module("jinja2")
        import_module("matplotlib")
    except ImportError as error:
        raise UserError(
            f"a report needs another package: {error}", "pip install 'ffreid[report]'"
        ) from error
    atomic.check_writable(path, stream=False, magic=_MAGIC)


def write(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page; control characters in texts are made visible."""
    import jinja2

    source = resources.files("ffreid.engine").joinpath("page.html").read_text()
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(source)
    shown = [
        {
            **vars(section),
            "title": printable(section.title),
            "columns": [printable(name) for name in section.columns],
            "lines": [printable(line) for line in section.lines],
            "rows": [[printable(report.as_text(cell)) for cell in row] for row in section.rows],
        }
        for section in sections
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.atomic_write(path) as file:
        file.write(template.render(title=printable(title), sections=shown).encode())


def embed(image: npt.NDArray[np.uint8]) -> str:
    """An RGB image (H, W, 3) as a data URL."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def curves(
    lines: Mapping[str, tuple[Any, Any]], *, x: str, y: str, steps: bool = False, marker: str = ""
) -> str:
    """Draw lines, x and y values by name, with the axes' titles, as an SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for name, (across, up) in lines.items():
        style = "steps-post" if steps else "default"
        axes.plot(across, up, label=printable(name), drawstyle=style, marker=marker, linewidth=1.4)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize="small", frameon=False)
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
