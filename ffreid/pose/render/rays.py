"""Scenes drawn by rays that Embree traces on the processor, where there is no OpenGL."""

import itertools
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from ffreid.pose.render.meshes import Floats, Picture
from ffreid.pose.render.renderers import Image, Window
from ffreid.pose.render.scenes import Body, Scene

OFFSET = 1e-3
"""Of the starts of rays to the light from surfaces, as a share of the pile's width."""


class Rays:
    """Traces a ray through the middle of each pixel, and one from there to the first light."""

    def render(self, scene: Scene) -> Image:
        """Draw a scene, see `Renderer`. The formulas are those of `opengl`'s shader."""
        corners = [_corners(scene, body) for body in scene.bodies]
        first = np.cumsum([0, *map(len, corners)])
        triangles, rays = np.concatenate(corners), _rays(scene, (0, 0, *scene.size[::-1]))
        height, width = scene.size
        traced = _scene(triangles)
        hit = traced.run(np.zeros_like(rays), rays, query="INTERSECT")
        seen = np.flatnonzero(hit >= 0)
        face, ray = hit[seen], rays[seen].astype(np.float64)
        a, ab, ac = _edges(triangles[face])
        across = np.cross(ab, ac)
        depth = (a * across).sum(-1) / (ray * across).sum(-1)
        place = ray * depth[:, None]
        weights = _barycentric(place - a, ab, ac)
        owner = np.searchsorted(first, face, side="right") - 1
        albedo, normal = np.zeros((len(seen), 3)), np.zeros((len(seen), 3))
        gloss = np.array([body.gloss for body in scene.bodies])[owner]
        for index in np.unique(owner):
            own = owner == index
            body = scene.bodies[index]
            albedo[own], normal[own] = _surface(scene, body, face[own] - first[index], weights[own])
        eye = -ray / np.linalg.norm(ray, axis=1, keepdims=True)
        facing = (normal * eye).sum(-1)
        normal[facing < 0] *= -1
        world = scene.camera_from_world
        light = scene.ambient * (0.7 + 0.3 * (normal @ world[:, 2]))[:, None]
        specular = np.zeros(len(seen))
        for index, lamp in enumerate(scene.lights):
            to_lamp = world[:, :3] @ lamp.place + world[:, 3] - place
            far = np.linalg.norm(to_lamp, axis=1)
            towards = to_lamp / far[:, None]
            shown = np.ones(len(seen))
            if index == 0:
                starts = place + OFFSET * scene.width * (normal + towards)
                starts, ends, far = (x.astype(np.float32) for x in (starts, towards, far))
                blocked = traced.run(starts, ends, far, query="OCCLUDED")
                shown = _soft(blocked < 0, seen, scene.size)
            light += (shown * np.maximum((normal * towards).sum(-1), 0))[:, None] * lamp.colour
            half_way = towards + eye
            half_way /= np.linalg.norm(half_way, axis=1, keepdims=True)
            specular += shown * gloss * np.maximum((normal * half_way).sum(-1), 0) ** 64
        rgb = np.sqrt(np.clip(albedo**2 * light + 0.6 * specular[:, None], 0, 1))

        def image(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            full = np.zeros((height * width, *values.shape[1:]), values.dtype)
            full[seen] = values
            return full.reshape(height, width, *values.shape[1:])

        return Image(
            image(np.rint(rgb * 255).astype(np.uint8)),
            image(depth.astype(np.float32)),
            image((owner + 1).astype(np.int32)),
            image(np.abs(facing).astype(np.float32)),
            image(specular.astype(np.float32)),
        )

    def silhouette(self, scene: Scene, body: Body, window: Window) -> npt.NDArray[np.bool_]:
        """Draw a body alone, see `Renderer`."""
        rays = _rays(scene, window)
        hit = _scene(_corners(scene, body)).run(np.zeros_like(rays), rays, query="OCCLUDED")
        return np.asarray(hit >= 0).reshape(window[3], window[2])


def _scene(triangles: Floats) -> rtcore_scene.EmbreeScene:
    made = rtcore_scene.EmbreeScene()
    TriangleMesh(made, triangles.astype(np.float32))
    return made


def _corners(scene: Scene, body: Body) -> Floats:
    """(F, 3, 3) corners of a body's faces in the camera's frame."""
    pose = scene.camera_from_body(body)
    vertices = (body.mesh.vertices * body.scale) @ pose[:, :3].T + pose[:, 3]
    return vertices[body.mesh.faces]


def _rays(scene: Scene, window: Window) -> npt.NDArray[np.float32]:
    left, top, width, height = window
    v, u = np.mgrid[top : top + height, left : left + width].reshape(2, -1)
    pixels = np.stack([u, v, np.ones_like(u)])
    return np.linalg.solve(scene.intrinsics, pixels).T.astype(np.float32)


def _edges(corners: Floats) -> tuple[Floats, Floats, Floats]:
    a = corners[:, 0]
    return a, corners[:, 1] - a, corners[:, 2] - a


def _barycentric(point: Floats, ab: Floats, ac: Floats) -> Floats:
    """(N, 3) weights of a triangle's corners at points relative to the first."""
    bb, bc, cc = ((x * y).sum(-1) for x, y in ((ab, ab), (ab, ac), (ac, ac)))
    pb, pc = (point * ab).sum(-1), (point * ac).sum(-1)
    area = np.maximum(bb * cc - bc * bc, 1e-30)
    second, third = (cc * pb - bc * pc) / area, (bb * pc - bc * pb) / area
    weights = np.stack([1 - second - third, second, third], axis=1)
    return np.asarray(np.clip(weights, 0, 1), np.float64)


def _surface(
    scene: Scene, body: Body, face: npt.NDArray[np.int64], weights: Floats
) -> tuple[Floats, Floats]:
    """(N, 3) colours, 0 … 1, and normals in the camera's frame."""
    mesh = body.mesh
    corners = mesh.faces[face]

    def mean(values: npt.NDArray[np.float32]) -> Floats:
        return np.asarray((weights[:, :, None] * values[corners]).sum(axis=1), np.float64)

    colour = mean(mesh.colours) * body.tint
    if (picture := body.picture) is not None:
        height, width = picture.shape[:2]
        spot = mean(mesh.uv) * body.tiles
        columns = (spot[:, 0] % 1) * width - 0.5
        rows = (1 - spot[:, 1] % 1) * height - 0.5
        colour *= _sampled(picture, columns, rows) / 255
    normal = mean(mesh.normals) / body.scale @ scene.camera_from_body(body)[:, :3].T
    return colour, normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)


def _sampled(picture: Picture, columns: Floats, rows: Floats) -> Picture:
    """(N, 3) colours of a picture that repeats."""
    x, y = (values.astype(np.float32)[:, None] for values in (columns, rows))
    parts = [  # OpenCV's images have at most 32767 rows
        cv2.remap(picture, x[i:j], y[i:j], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        for i, j in itertools.pairwise([*range(0, len(x), 30000), len(x)])
    ]
    return np.concatenate(parts, dtype=np.uint8)[:, 0]


def _soft(lit: npt.NDArray[np.bool_], seen: npt.NDArray[np.int64], size: tuple[int, int]) -> Floats:
    """Share of the light that arrives, with soft edges of shadows."""
    full = np.ones(size[0] * size[1], np.float32)
    full[seen] = lit
    soft = cv2.GaussianBlur(full.reshape(size), (0, 0), max(size[1] / 400, 0.4))
    return np.asarray(soft.reshape(-1)[seen], np.float64)


def open_renderer() -> Rays:
    """Start Embree."""
    return Rays()
