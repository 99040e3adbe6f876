"""Scenes: bodies stand on what is below them; sensors lose what real ones lose."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from ffreid.pose.render.meshes import make_mesh, read_objects, solids
from ffreid.pose.render.piles import Pile
from ffreid.pose.render.renderers import Image
from ffreid.pose.render.scenes import Body, Composer, Scene, instances
from ffreid.pose.render.sensor import BASELINE, FOCAL, STEP, sense_colour, sense_depth
from ffreid.pose.render.textures import COUNT, KINDS, Textures

CAMERA = np.array([[120.0, 0, 63], [0, 120, 47], [0, 0, 1]])


@pytest.fixture(scope="module")
def scenes(objects: Path) -> list[Scene]:
    composer = Composer(
        read_objects(objects), solids(), Textures(0), intrinsics=CAMERA, size=(96, 128), instances=3
    )
    return [composer.compose(np.random.default_rng(number)) for number in range(12)]


def placed(body: Body) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return (body.mesh.vertices * body.scale) @ body.rotation.T + body.translation


def things(scene: Scene) -> list[Body]:
    return [body for body in scene.bodies if body.texture is None or max(body.scale) < 0.2]


def test_bodies_stand_on_the_plane_or_on_others(scenes: list[Scene]) -> None:
    lowest = np.array([placed(body)[:, 2].min() for scene in scenes for body in things(scene)])
    assert lowest.min() > -1e-6
    assert 0.3 < (lowest < 1e-6).mean() < 1  # the others lie on the pile
    assert lowest.max() < 0.3


def test_bodies_do_not_intersect(scenes: list[Scene]) -> None:
    checked = 0
    for scene in scenes:
        # Points on one, inside the other's hull; the corner is not convex.
        convex = [b for b in things(scene) if b.mesh.number in (5, 6)]
        for body in convex:
            planes = ConvexHull(placed(body)).equations
            for other in convex:
                if other is not body:
                    points = other.mesh.surface(0.004) @ other.rotation.T + other.translation
                    depth = -(points @ planes[:, :3].T + planes[:, 3]).max(axis=1)
                    assert depth.max() < 0.002
                    checked += 1
    assert checked > 20


def test_every_object_and_number_of_instances_occurs(scenes: list[Scene]) -> None:
    counts = [[b.mesh.number for _, b in instances(scene)] for scene in scenes]
    assert {number for each in counts for number in each} == {2, 5, 6}
    assert {each.count(5) for each in counts} == {1, 2, 3}
    for scene in scenes:
        assert np.linalg.det(scene.camera_from_world[:, :3]) == pytest.approx(1)
        camera = -scene.camera_from_world[:, :3].T @ scene.camera_from_world[:, 3]
        assert camera[2] > 0


def test_a_body_tips_until_it_touches_again() -> None:
    pile = Pile(0.5, 0.005)
    edge = np.linspace(-0.03, 0.03, 31)
    cube = np.stack(np.meshgrid(edge, edge, edge), axis=-1).reshape(-1, 3)
    pile.add(cube + np.array([0, 0, 0.03]), np.zeros(2))
    x, y = np.meshgrid(np.linspace(-0.1, 0.1, 101), edge)
    board = np.concatenate(
        [np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3) for z in (-0.005, 0.005)]
    )
    # Laid on the cube's edge, it leans: one end on the ground, the rest on the cube.
    turn, rise = pile.tip(board, np.array([0.06, 0.0]))
    tilted = board @ turn.T + np.array([0, 0, rise])
    angle = np.degrees(np.arccos(turn[2, 2]))
    assert 20 < angle < 60
    assert -0.001 < tilted[:, 2].min() < 0.02
    assert np.isinf(pile.rest(board, np.array([0.45, 0.0]))[0])  # beyond the cells


def test_edges_of_a_box_are_sharp_and_a_ball_is_smooth() -> None:
    box, ball = solids()["box"], solids()["ball"]
    assert np.abs(box.normals).max(axis=1) == pytest.approx(1)
    outwards = ball.vertices / np.linalg.norm(ball.vertices, axis=1, keepdims=True)
    assert (ball.normals * outwards).sum(axis=1).min() > 0.99
    tent = make_mesh(np.eye(3), np.array([[0, 1, 2]]))
    assert tent.normals == pytest.approx(np.full((3, 3), 3**-0.5))


def step_image() -> Image:
    """A plane at 1 m, the right half at 0.7 m; below a dark, then a shiny, then a grazing band."""
    depth = np.full((120, 160), 1.0, np.float32)
    depth[:, 80:] = 0.7
    rgb = np.full((120, 160, 3), 120, np.uint8)
    specular, facing = np.zeros_like(depth), np.ones_like(depth)
    rgb[30:60, :60], specular[60:90, :60], facing[90:, :60] = 3, 0.9, 0.05
    return Image(rgb, depth, np.ones((120, 160), np.int32), facing, specular)


def test_depth_has_the_holes_noise_and_steps_of_structured_light() -> None:
    image = step_image()
    measured = sense_depth(image, FOCAL, np.random.default_rng(0))
    hole = measured == 0
    assert hole[:28, 5:40].mean() < 0.02
    for rows in (slice(32, 58), slice(62, 88), slice(92, 120)):
        assert hole[rows, 5:55].mean() > 0.25
    # The projector does not see what is beside the near half: f b (1 / 0.7 - 1) pixels.
    shadow = FOCAL * BASELINE * (1 / 0.7 - 1)
    beside = slice(80 - int(shadow) + 2, 78)
    draws = [sense_depth(image, FOCAL, np.random.default_rng(seed)) for seed in range(8)]
    weights = np.array([(drawn[:20, beside] == 0).mean() for drawn in draws])
    assert ((weights > 0.95) | (weights < 0.05)).all()  # the projector is on either side
    assert weights.max() > weights.min()
    disparity = FOCAL * BASELINE / measured[~hole]
    np.testing.assert_allclose(disparity / STEP, np.rint(disparity / STEP), atol=1e-2)
    errors = (measured - image.depth)[:28, 5:40][~hole[:28, 5:40]]
    assert 0.0003 < errors.std() < 0.005
    assert abs(errors.mean()) < 0.002


def test_colours_keep_their_size_and_change() -> None:
    rgb = step_image().rgb
    noisy = [sense_colour(rgb, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert (noisy[0] != noisy[2]).any()
    assert noisy[0].shape == rgb.shape
    assert np.abs(noisy[0].astype(int) - rgb).mean() < 40


def test_textures_of_all_kinds_depend_on_seed_and_number_alone() -> None:
    first, again = Textures(1), Textures(1)
    for number in range(len(KINDS)):
        picture = first[COUNT - 1 - number]
        np.testing.assert_array_equal(picture, again[COUNT - 1 - number])
        assert picture.shape == (256, 256, 3)
    assert (Textures(2)[0] != first[0]).any()


def test_objects_in_front_stand_and_face_the_camera(objects: Path) -> None:
    composer = Composer(
        read_objects(objects), solids(), Textures(0), intrinsics=CAMERA, size=(96, 128), front=True
    )
    found = []
    for number in range(12):
        scene = composer.compose(np.random.default_rng(number))
        for _, body in instances(scene):
            found.append((body.rotation[2, 2], scene.camera_from_body(body)[2, 1]))
    assert len(found) > 20
    tilt, away = np.array(found).T
    assert tilt.min() > np.cos(np.deg2rad(25)) - 1e-9
    assert away.min() > 0  # turned by 65 degrees at most
    assert away.std() > 0.05
