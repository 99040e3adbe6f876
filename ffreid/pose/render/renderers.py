"""What renders scenes: OpenGL, rays that Embree traces, or Mitsuba's light transport."""

import importlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError, flat
from ffreid.pose.render.scenes import Body, Scene

Window = tuple[int, int, int, int]
"""First column, first row, width and height, pixels; may reach beyond the image."""


@dataclass(frozen=True)
class Image:
    """A rendered scene: (H, W, …) arrays.

    Attributes:
        rgb: uint8.
        depth: metres along the optical axis, 0 where nothing is.
        labels: 1 + the index of the body.
        facing: cosine of the angle between the surface's normal and the ray, 0 … 1.
        specular: strength of highlights, 0 … 1.
    """

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    facing: npt.NDArray[np.float32]
    specular: npt.NDArray[np.float32]


class Renderer(Protocol):
    """Draws scenes; pixels are sampled at their middles, (0, 0) of the first one."""

    def render(self, scene: Scene) -> Image:
        """Draw a scene."""
        ...

    def silhouette(self, scene: Scene, body: Body, window: Window) -> npt.NDArray[np.bool_]:
        """Where a body alone would be seen in a window (H, W) of the image's plane."""
        ...


PACKAGES = {
    "opengl": ("ffreid.pose.render.opengl", "moderngl", "render"),
    "embree": ("ffreid.pose.render.rays", "embreex", "render"),
    "mitsuba": ("ffreid.pose.render.photoreal", "mitsuba", "photoreal"),
}
"""Module, package and extra of each renderer."""


def open_renderer(name: str) -> Renderer:
    """Start a renderer.

    Raises:
        UserError: its package is missing, or it cannot be used on this machine.
    """
    module = PACKAGES[check_installed(name)][0]
    renderer: Renderer = importlib.import_module(module).open_renderer()
    return renderer


def check_installed(name: str) -> str:
    """Return the name of a renderer whose package is there.

    Raises:
        UserError: it is missing.
    """
    _, package, extra = PACKAGES[name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"--renderer {name} needs another package: {flat(str(error))}",
            f"pip install 'ffreid[{extra}]'",
        ) from error
    return name
