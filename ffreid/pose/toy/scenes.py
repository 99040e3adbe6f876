"""Made-up table scenes: textured toy objects in clutter, and what an RGB-D camera makes of them."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ffreid.pose.data.frame import Frame
from ffreid.pose.toy.objects import ToyObject, marble, plain
from ffreid.pose.toy.render import Rendering, Solid, Texture, render, sense_depth
from ffreid.pose.toy.shapes import Box, Ellipsoid, Floats, Frustum, Shape

DEPTH_SCALE = 10000.0
# YCB-Video's camera, for pictures of 480 x 640.
YCB_FOCAL, YCB_CENTRE = (1066.778, 1067.487), (312.9869, 241.3109)
# An object below this share of the picture's pixels is not listed, as if nobody had noted it.
LEAST_SHARE = 0.003
OBJECTS_WANTED, ATTEMPTS = 3, 20


def toy_intrinsics(height: int, width: int) -> Floats:
    """(3, 3) YCB-Video's camera matrix scaled to a picture of `height` x `width` pixels."""
    across, down = width / 640, height / 480
    return np.array(
        [
            [YCB_FOCAL[0] * across, 0, YCB_CENTRE[0] * across],
            [0, YCB_FOCAL[1] * down, YCB_CENTRE[1] * down],
            [0, 0, 1],
        ]
    )


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
    """Compose a scene at random and take its picture.

    Of up to 20 scenes the first that shows three objects is taken, else the one that shows most.

    Args:
        name: the frame's name.
        objects: the objects to choose 3 … 5 from; their class ids are their positions plus 1.
        height: rows of the picture.
        width: columns of the picture.
        generator: where everything comes from.
        synthetic: only the objects, in empty space, measured without noise or holes.
        intrinsics: (3, 3) camera matrix, pixels; by default YCB-Video's, scaled. Another picture
            size than the camera's is a window of it: the scene is put before the window's centre.
    """
    camera = toy_intrinsics(height, width) if intrinsics is None else intrinsics
    aim = np.array(np.linalg.solve(camera, [(width - 1) / 2, (height - 1) / 2, 1]), np.float64)
    # The share of the view at 0.9 m over which centres are spread; more would be cut off.
    spread = 0.9 * np.array([0.31 * width / camera[0, 0], 0.37 * height / camera[1, 1]])
    best: Frame | None = None
    for _ in range(ATTEMPTS):
        scene = compose(objects, generator, aim=aim, spread=spread, background=not synthetic)
        frame = photograph(name, scene, camera, height=height, width=width, generator=generator)
        if best is None or len(frame.class_ids) > len(best.class_ids):
            best = frame
        if len(best.class_ids) >= min(OBJECTS_WANTED, len(objects)):
            break
    assert best is not None
    return best


def compose(
    objects: Sequence[ToyObject],
    generator: np.random.Generator,
    *,
    aim: Floats,
    spread: Floats,
    background: bool,
) -> "Scene":
    """Place 3 … 5 objects and some plain solids on and above a table before a wall.

    Half of the objects touch the table, the others float up to 12 cm above it, all of them turned
    at random. Centres keep three quarters of the bounding spheres' distance, so that solids hardly
    ever meet. The camera stands 0.7 … 1.1 m away, 20 … 65 degrees above the table.

    Args:
        objects: the objects to choose from.
        generator: where everything comes from.
        aim: (3,) direction in which the camera sees the table's centre.
        spread: (2,) how far from the table's centre solids stand at most, sideways and along, m.
        background: whether there are a table, a wall and plain solids.
    """
    camera_from_table = table_camera(aim, generator)
    count = min(int(generator.integers(3, 6)), len(objects))
    chosen = generator.permutation(len(objects))[:count]
    wanted: list[tuple[Shape, Texture, int]] = [
        (objects[index].shape, objects[index].texture, int(index) + 1) for index in chosen
    ]
    if background:
        wanted += [_distractor(generator) for _ in range(generator.integers(1, 4))]
    solids: list[Solid] = []
    taken: list[tuple[Floats, float]] = []
    for shape, texture, label in wanted:
        pose = _free_place(shape, spread, taken, generator)
        if pose is not None:
            solids.append(Solid(shape, texture, compose_poses(camera_from_table, pose), label))
    light = np.array([generator.uniform(-0.8, 0.8), generator.uniform(-0.8, 0.1), 1])
    light = camera_from_table[:, :3] @ light / np.linalg.norm(light)
    if background:
        solids += _room(camera_from_table, generator)
    return Scene(tuple(solids), light, ideal=not background)


def photograph(
    name: str,
    scene: "Scene",
    intrinsics: Floats,
    *,
    height: int,
    width: int,
    generator: np.random.Generator,
) -> Frame:
    """Take a scene's picture; objects of less than 0.3 % of it are not listed.

    Args:
        name: the frame's name.
        scene: what to picture.
        intrinsics: (3, 3) camera matrix, pixels.
        height: rows of the picture.
        width: columns of the picture.
        generator: where the sensor's noise comes from.
    """
    picture = render(scene.solids, intrinsics, height=height, width=width, light=scene.light)
    rgb, depth = _exposed(picture, scene, generator)
    listed = [
        solid
        for solid in sorted(scene.solids, key=lambda solid: solid.label)
        if solid.label and (picture.labels == solid.label).mean() >= LEAST_SHARE
    ]
    class_ids = np.array([solid.label for solid in listed], np.int32)
    poses = [solid.camera_from_solid for solid in listed]
    return Frame(
        name=name,
        rgb=rgb,
        depth=depth.astype(np.float32),
        depth_scale=DEPTH_SCALE,
        labels=np.where(np.isin(picture.labels, class_ids), picture.labels, 0).astype(np.int32),
        intrinsics=intrinsics,
        class_ids=class_ids,
        camera_from_object=np.array(poses, np.float32).reshape(-1, 3, 4),
        synthetic=scene.ideal,
    )


def _exposed(
    picture: Rendering, scene: "Scene", generator: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    if scene.ideal:
        return picture.rgb, np.rint(picture.depth * DEPTH_SCALE).astype(np.uint16)
    noisy = picture.rgb + 2 * generator.standard_normal(picture.rgb.shape, np.float32)
    depth = sense_depth(picture.depth, picture.facing, scale=DEPTH_SCALE, generator=generator)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), depth


def _free_place(
    shape: Shape, spread: Floats, taken: list[tuple[Floats, float]], generator: np.random.Generator
) -> Floats | None:
    """(3, 4) table_from_solid clear of the places `taken` (which grows), None if none is found."""
    radius = float(np.linalg.norm(shape.half_extents))
    for _ in range(60):
        rotation = random_rotation(generator)
        height = shape.reach(-rotation[2]) + max(generator.uniform(-0.12, 0.12), 0)
        centre = np.array([*generator.uniform(-spread, spread), height])
        if all(np.linalg.norm(centre - c) > 0.75 * (radius + r) for c, r in taken):
            taken.append((centre, radius))
            return np.column_stack([rotation, centre])
    return None


def _muted(generator: np.random.Generator) -> tuple[float, float, float]:
    shade = (generator.random(), generator.uniform(0, 0.25), generator.uniform(0.3, 0.75))
    return colorsys.hsv_to_rgb(*shade)


def _distractor(generator: np.random.Generator) -> tuple[Shape, Texture, int]:
    a, b, c = generator.uniform(0.02, 0.045, 3)
    shape = (Box((a, b, c)), Ellipsoid((a, b, c)), Frustum(a, b, c))[generator.integers(3)]
    return shape, plain(_muted(generator)), 0


def _room(camera_from_table: Floats, generator: np.random.Generator) -> list[Solid]:
    top = np.column_stack([np.eye(3), [0, 0, -0.02]])
    wall = np.column_stack([np.eye(3), [0, generator.uniform(0.4, 0.7), 0]])
    return [
        Solid(
            Box(half), marble(_muted(generator), generator), compose_poses(camera_from_table, place)
        )
        for half, place in (((3.0, 3.0, 0.02), top), ((3.0, 0.02, 3.0), wall))
    ]


@dataclass(frozen=True)
class Scene:
    """Solids before the camera.

    Attributes:
        solids: camera frame; label 0 for what is no object.
        light: (3,) unit vector towards the light, camera frame.
        ideal: taken without the sensor's noise and holes.
    """

    solids: tuple[Solid, ...]
    light: Floats
    ideal: bool


def table_camera(aim: Floats, generator: np.random.Generator) -> Floats:
    """Draw a camera 0.7 … 1.1 m from a table's centre, 20 … 65 degrees above it.

    Args:
        aim: (3,) direction in which the camera sees the table's centre, camera frame.
        generator: where the camera comes from.

    Returns:
        (3, 4) camera_from_table, metres; the table's z points up and a wall may stand at +y.
    """
    return _turned_to(aim) @ _over_table(generator)


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


def compose_poses(a_from_b: Floats, b_from_c: Floats) -> Floats:
    """(3, 4) a_from_c."""
    pose: Floats = a_from_b[:, :3] @ b_from_c
    pose[:, 3] += a_from_b[:, 3]
    return pose


def _over_table(generator: np.random.Generator) -> Floats:
    """(3, 4) camera_from_table; the table's z points up, its origin is where the camera looks."""
    azimuth = np.deg2rad(generator.uniform(-35, 35))
    elevation = np.deg2rad(generator.uniform(20, 65))
    roll = np.deg2rad(generator.uniform(-8, 8))
    back = np.array([np.sin(azimuth), -np.cos(azimuth), np.tan(elevation)])
    forward = -back / np.linalg.norm(back)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    rows = np.stack([right, np.cross(forward, right), forward])
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    target = np.array([0, 0, 0.06])
    rotation = turn @ rows
    offset = np.array([0, 0, generator.uniform(0.7, 1.1)]) - rotation @ target
    return np.column_stack([rotation, offset])


def _turned_to(aim: Floats) -> Floats:
    """(3, 3) rotation that takes the z axis to the direction `aim`."""
    forward = aim / np.linalg.norm(aim)
    right = np.cross([0, 1, 0], forward)
    right /= np.linalg.norm(right)
    return np.column_stack([right, np.cross(forward, right), forward])
