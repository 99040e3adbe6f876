"""Synthetic table-top scenes: toy objects in clutter, seen by an RGB-D camera."""

import colorsys
from collections.abc import Sequence

import numpy as np

from ffreid.pose.data.frame import Frame
from ffreid.pose.toy.objects import ToyObject, marble, uniform
from ffreid.pose.toy.render import Rendering, Solid, Texture, render, sense_depth
from ffreid.pose.toy.shapes import Box, Ellipsoid, Floats, Frustum, Shape

DEPTH_SCALE = 10000.0
# YCB-Video's camera, for images of 480 x 640.
YCB_FOCAL, YCB_CENTRE = (1066.778, 1067.487), (312.9869, 241.3109)
# Objects that cover a smaller fraction of the image are not annotated.
MIN_VISIBLE = 0.02
MIN_OBJECTS, ATTEMPTS = 3, 20


def toy_intrinsics(height: int, width: int) -> Floats:
    """(3, 3) YCB-Video's camera matrix scaled to an image of `height` x `width` pixels."""
    across, down = width / 640, height / 480
    first = [YCB_FOCAL[0] * across, 0, YCB_CENTRE[0] * across]
    return np.array([first, [0, YCB_FOCAL[1] * down, YCB_CENTRE[1] * down], [0, 0, 1]])


def toy_frame(
    name: str,
    objects: Sequence[ToyObject],
    *,
    height: int,
    width: int,
    generator: np.random.Generator,
    synthetic: bool = False,
    intrinsics: Floats | None = None,
) -> Frame:
    """Compose a random scene and render it.

    Of up to 20 scenes the first that shows three objects is used, else the one that shows most.

    3 … 5 of the `objects` are chosen; their class ids are their positions plus 1. `synthetic`
    frames show objects only, in empty space, without noise or holes. `intrinsics` are (3, 3), in
    pixels, by default YCB-Video's, scaled; a smaller image than theirs is a window of it.
    """
    camera = toy_intrinsics(height, width) if intrinsics is None else intrinsics
    aim = np.array(np.linalg.solve(camera, [(width - 1) / 2, (height - 1) / 2, 1]), np.float64)
    # The part of the view at 0.6 m over which centres are spread; more would be cut off.
    spread = 0.6 * np.array([0.31 * width / camera[0, 0], 0.45 * height / camera[1, 1]])
    best: Frame | None = None
    for _ in range(ATTEMPTS):
        solids, light = _compose(objects, generator, aim, spread, background=not synthetic)
        image = render(solids, camera, height=height, width=width, light=light)
        frame = _annotated(name, solids, image, camera, None if synthetic else generator)
        if best is None or len(frame.class_ids) > len(best.class_ids):
            best = frame
        if len(best.class_ids) >= min(MIN_OBJECTS, len(objects)):
            break
    assert best is not None
    return best


def _compose(
    objects: Sequence[ToyObject],
    generator: np.random.Generator,
    aim: Floats,
    spread: Floats,
    *,
    background: bool,
) -> tuple[list[Solid], Floats]:
    """Place 3 … 5 objects, as far as there is room, and some distractors on a table by a wall.

    They stand on the table, turned by up to 45 degrees and tilted by up to 20. Centres keep 0.7 of
    the bounding spheres' distance, so that solids rarely intersect. The camera is 0.5 … 0.7 m away,
    up to 20 degrees to the side and 30 … 60 above the table, which is in direction `aim` (3,).
    `spread` (2,) is the largest distance of solids from the table's centre, sideways and along,
    metres. Without `background` there are only the objects. Also returned is a (3,) unit vector
    towards the light, camera frame.
    """
    camera_from_table = _camera_from_table(aim, generator)
    count = min(int(generator.integers(3, 6)), len(objects))
    chosen = generator.permutation(len(objects))[:count]
    to_place: list[tuple[Shape, Texture, int]] = [
        (objects[index].shape, objects[index].texture, int(index) + 1) for index in chosen
    ]
    if background:
        for _ in range(generator.integers(1, 4)):
            a, b, c = generator.uniform(0.02, 0.045, 3)
            shapes: tuple[Shape, ...] = (Box((a, b, c)), Ellipsoid((a, b, c)), Frustum(a, b, c))
            shape = shapes[generator.integers(3)]
            to_place.append((shape, uniform(_muted_colour(generator)), 0))
    solids: list[Solid] = []
    occupied: list[tuple[Floats, float]] = []
    for shape, texture, label in to_place:
        pose = _sample_pose(shape, spread, occupied, generator)
        if pose is not None:
            solids.append(Solid(shape, texture, _chain(camera_from_table, pose), label))
    light = np.array([generator.uniform(-0.8, 0.8), generator.uniform(-0.8, 0.1), 1])
    light = camera_from_table[:, :3] @ light / np.linalg.norm(light)
    if background:
        table = np.column_stack([np.eye(3), [0, 0, -0.02]])
        wall = np.column_stack([np.eye(3), [0, generator.uniform(0.4, 0.7), 0]])
        for half, pose in (((3.0, 3.0, 0.02), table), ((3.0, 0.02, 3.0), wall)):
            texture = marble(_muted_colour(generator), generator)
            solids.append(Solid(Box(half), texture, _chain(camera_from_table, pose)))
    return solids, light


def _annotated(
    name: str,
    solids: Sequence[Solid],
    image: Rendering,
    intrinsics: Floats,
    noise: np.random.Generator | None,
) -> Frame:
    """The frame of an image; objects that cover less than 2 % of it are not annotated."""
    rgb, depth = image.rgb, np.rint(image.depth * DEPTH_SCALE).astype(np.uint16)
    if noise is not None:
        noisy = rgb + 2 * noise.standard_normal(rgb.shape, np.float32)
        rgb = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        depth = sense_depth(image.depth, image.facing, scale=DEPTH_SCALE, generator=noise)
    annotated = [
        solid
        for solid in sorted(solids, key=lambda solid: solid.label)
        if solid.label and (image.labels == solid.label).mean() >= MIN_VISIBLE
    ]
    class_ids = np.array([solid.label for solid in annotated], np.int32)
    poses = [solid.camera_from_solid for solid in annotated]
    return Frame(
        name=name,
        rgb=rgb,
        depth=depth.astype(np.float32),
        depth_scale=DEPTH_SCALE,
        labels=np.where(np.isin(image.labels, class_ids), image.labels, 0).astype(np.int32),
        intrinsics=intrinsics,
        class_ids=class_ids,
        camera_from_object=np.array(poses, np.float32).reshape(-1, 3, 4),
        synthetic=noise is None,
    )


def _sample_pose(
    shape: Shape,
    spread: Floats,
    occupied: list[tuple[Floats, float]],
    generator: np.random.Generator,
) -> Floats | None:
    """(3, 4) table_from_solid away from the `occupied` spheres, which it extends; None if full."""
    radius = float(np.linalg.norm(shape.half_extents))
    rotation = _tilt(generator) @ _about_z(np.deg2rad(generator.uniform(-45, 45)))
    height = shape.support(-rotation[2])
    others = np.array([(*centre, 0.7 * (radius + r)) for centre, r in occupied]).reshape(-1, 4)
    places = generator.uniform(-spread, spread, (60, 2))
    centres = np.column_stack([places, np.full(60, height)])
    free = (np.linalg.norm(centres[:, None] - others[:, :3], axis=-1) > others[:, 3]).all(axis=1)
    if not free.any():
        return None
    centre = centres[free.argmax()]
    occupied.append((centre, radius))
    return np.column_stack([rotation, centre])


def _tilt(generator: np.random.Generator) -> Floats:
    """(3, 3) rotation by up to 20 degrees about any horizontal axis; z points up."""
    towards, angle = generator.uniform(0, 2 * np.pi), np.deg2rad(generator.uniform(0, 20))
    c, s = np.cos(angle), np.sin(angle)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    tilt: Floats = _about_z(towards) @ about_y @ _about_z(-towards)
    return tilt


def _about_z(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _muted_colour(generator: np.random.Generator) -> tuple[float, float, float]:
    shade = (generator.random(), generator.uniform(0, 0.25), generator.uniform(0.3, 0.75))
    return colorsys.hsv_to_rgb(*shade)


def random_rotation(generator: np.random.Generator) -> Floats:
    """(3, 3) rotation, uniform over all."""
    w, x, y, z = (q := generator.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _chain(a_from_b: Floats, b_from_c: Floats) -> Floats:
    """(3, 4) a_from_c."""
    pose: Floats = a_from_b[:, :3] @ b_from_c
    pose[:, 3] += a_from_b[:, 3]
    return pose


def _camera_from_table(aim: Floats, generator: np.random.Generator) -> Floats:
    """Draw a (3, 4) camera pose, metres; the table's z points up, a wall may be at +y.

    `aim` is the (3,) direction from the camera to the table's centre, camera frame.
    """
    azimuth = np.deg2rad(generator.uniform(-20, 20))
    elevation = np.deg2rad(generator.uniform(30, 60))
    roll = np.deg2rad(generator.uniform(-8, 8))
    back = np.array([np.sin(azimuth), -np.cos(azimuth), np.tan(elevation)])
    forward = -back / np.linalg.norm(back)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    rows = np.stack([right, np.cross(forward, right), forward])
    rotation = _about_z(roll) @ rows
    offset = np.array([0, 0, generator.uniform(0.5, 0.7)]) - rotation @ np.array([0, 0, 0.06])
    # Rotate the camera's z axis to `aim`.
    forward = aim / np.linalg.norm(aim)
    right = np.cross([0, 1, 0], forward)
    right /= np.linalg.norm(right)
    aimed = np.column_stack([right, np.cross(forward, right), forward])
    pose: Floats = aimed @ np.column_stack([rotation, offset])
    return pose
