"""Scenes whose light Mitsuba transports: soft shadows, light from walls, highlights; slow.

Depth, labels and masks are those of Embree's rays through the middles of pixels: an average over a
pixel, as path tracing gives it, is no depth at edges.
"""

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.pose.render.meshes import Floats
from ffreid.pose.render.rays import Rays
from ffreid.pose.render.renderers import Image
from ffreid.pose.render.scenes import Body, Light, Scene

mitsuba: Any = import_module("mitsuba")  # its types differ between versions
drjit: Any = import_module("drjit")
SAMPLES, BOUNCES = 32, 6
MIDDLE = 0.45
"""Brightness of the image's median after exposure, of gamma-corrected values 0 … 1, at most."""


class Mitsuba(Rays):
    """Colours by path tracing, everything else by `Rays`."""

    def __init__(self) -> None:
        mitsuba.set_variant("scalar_rgb")
        drjit.set_thread_count(1)

    def render(self, scene: Scene) -> Image:
        """Draw a scene, see `Renderer`."""
        image = super().render(scene)
        path = {"type": "path", "max_depth": BOUNCES}
        made: Any = mitsuba.load_dict(describe(scene, path, SAMPLES))
        light = np.asarray(mitsuba.render(made))[:, :, :3]
        middle = max(float(np.median(light.max(axis=2))), 1e-6)
        exposed = np.clip(light * min(MIDDLE**2 / middle, 20), 0, 1)
        rgb = np.rint(255 * np.sqrt(exposed)).astype(np.uint8)
        return Image(rgb, image.depth, image.labels, image.facing, image.specular)


def describe(scene: Scene, integrator: dict[str, Any], samples: int) -> dict[str, Any]:
    """A scene for `mitsuba.load_dict`, in the camera's frame."""
    height, width = scene.size
    (fx, _, cx), (_, fy, cy), _ = scene.intrinsics
    # A camera with square pixels whose film is cut to the image; y is stretched by fy / fx.
    sensor = {
        "type": "perspective",
        "fov_axis": "x",
        "fov": float(np.rad2deg(2 * np.arctan(width / (2 * fx)))),
        "principal_point_offset_x": float(0.5 - (cx + 0.5) / width),
        "principal_point_offset_y": float(0.5 - (cy + 0.5) / height),
        "near_clip": 1e-3,
        "far_clip": 100.0,
        "to_world": mitsuba.ScalarTransform4f().look_at([0, 0, 0], [0, 0, 1], [0, -1, 0]),
        "film": {
            "type": "hdrfilm", "width": width, "height": height, "rfilter": {"type": "box"},
            "pixel_format": "rgb", "component_format": "float32",
        },
        "sampler": {"type": "independent", "sample_count": samples},
    }  # fmt: skip
    content: dict[str, Any] = {"type": "scene", "sensor": sensor, "integrator": integrator}
    content["sky"] = {"type": "constant", "radiance": _colour(scene.ambient * 0.5)}
    world = scene.camera_from_world
    for index, lamp in enumerate(scene.lights):
        place = world[:, :3] @ lamp.place + world[:, 3]
        content[f"lamp{index}"] = _lamp(place, lamp, scene.width)
    stretch = np.array([1, fy / fx, 1])
    for index, body in enumerate(scene.bodies):
        content[f"body{index}"] = _shape(scene, body, stretch)
    return content


def _colour(values: Floats) -> dict[str, Any]:
    return {"type": "rgb", "value": [float(v) for v in values]}


def _lamp(place: Floats, lamp: Light, width: float) -> dict[str, Any]:
    """A glowing ball, so that shadows are soft; as bright at the pile as in other renderers."""
    radius = 0.15 * width
    distance = float(np.linalg.norm(lamp.place))
    return {
        "type": "sphere",
        "center": [float(v) for v in place],
        "radius": radius,
        "emitter": {"type": "area", "radiance": _colour(lamp.colour * (distance / radius) ** 2)},
    }


def _shape(scene: Scene, body: Body, stretch: Floats) -> Any:
    mesh, pose = body.mesh, scene.camera_from_body(body)
    vertices = ((mesh.vertices * body.scale) @ pose[:, :3].T + pose[:, 3]) * stretch
    normals = mesh.normals / body.scale @ pose[:, :3].T / stretch
    tint = np.square(mesh.colours * np.array(body.tint, np.float32))
    texture: dict[str, Any] = {"type": "mesh_attribute", "name": "vertex_tint"}
    if (picture := body.picture) is not None:
        mean = tint.mean(axis=0)
        texture = {
            "type": "bitmap",
            "bitmap": mitsuba.Bitmap(np.float32(np.square(picture / 255) * mean)),
            "raw": True,
            "to_uv": mitsuba.ScalarTransform3f().scale(body.tiles),
        }
    matter = {
        "type": "principled", "base_color": texture, "specular": float(body.gloss),
        "roughness": 0.35,
    } if body.gloss > 0 else {"type": "diffuse", "reflectance": texture}  # fmt: skip
    properties = mitsuba.Properties()
    properties["bsdf"] = mitsuba.load_dict({"type": "twosided", "matter": matter})
    made = mitsuba.Mesh(
        "body", len(vertices), len(mesh.faces), has_vertex_normals=True,
        has_vertex_texcoords=True, props=properties,
    )  # fmt: skip
    made.add_attribute("vertex_tint", 3, _flat(tint))
    values = mitsuba.traverse(made)
    values["vertex_positions"] = _flat(vertices)
    values["vertex_normals"] = _flat(normals / np.linalg.norm(normals, axis=1, keepdims=True))
    values["vertex_texcoords"] = _flat(mesh.uv * [1, -1] + [0, 1])
    values["faces"] = mesh.faces.ravel()
    values.update()
    return made


def _flat(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32).ravel()


def open_renderer() -> Mitsuba:
    """Start Mitsuba."""
    return Mitsuba()
