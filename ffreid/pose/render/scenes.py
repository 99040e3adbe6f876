"""Random scenes: objects in clutter on a table in a room, lights, and a camera."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffreid.pose.render.meshes import Floats, Mesh, Picture
from ffreid.pose.render.piles import Pile
from ffreid.pose.render.textures import COUNT, Textures

FEWEST, MOST = 3, 7
"""Objects of different kinds in a frame, if there are so many."""
DISTRACTORS = 2, 7
TRIES = 4
TURN, SIDE, TILT = np.deg2rad([45, 20, 25])
HEIGHT = np.deg2rad([25, 60])
"""Of view ``front``: objects' turn, the camera to the side and above the table, tipping over."""
NEAREST = 0.5
"""Of a body from the camera, as a share of the distance of the pile's middle."""
CELLS = 28
"""Cells of a pile across an object of usual size."""


@dataclass(frozen=True)
class Body:
    """A mesh in a scene.

    Attributes:
        rotation: (3, 3), of a point times `scale` (3,), before `translation` (3,), metres: to
            the world, whose z points up.
        texture: of this body, else of the mesh.
        tint: factor (3,) of colours.
        tiles: how often the texture is repeated in 0 … 1.
        gloss: strength of highlights, 0 … 1.
    """

    mesh: Mesh
    rotation: Floats
    translation: Floats
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: Picture | None = None
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    tiles: float = 1.0
    gloss: float = 0.0

    @property
    def picture(self) -> Picture | None:
        """The texture that is used."""
        return self.mesh.texture if self.texture is None else self.texture


@dataclass(frozen=True)
class Light:
    """A small lamp; the first of a scene casts shadows."""

    place: Floats
    colour: Floats


@dataclass(frozen=True)
class Scene:
    """What a renderer draws.

    Attributes:
        intrinsics: (3, 3) pixels, of (H, W) = `size`; the middle of the first pixel is (0, 0).
        camera_from_world: (3, 4), metres.
        ambient: colour (3,) of light from everywhere.
        width: of the pile, metres.
    """

    bodies: tuple[Body, ...]
    lights: tuple[Light, ...]
    ambient: Floats
    intrinsics: Floats
    size: tuple[int, int]
    camera_from_world: Floats
    width: float

    def camera_from_body(self, body: Body) -> Floats:
        """(3, 4), metres; a scale comes before."""
        turn = self.camera_from_world[:, :3]
        place = turn @ body.translation + self.camera_from_world[:, 3]
        return np.column_stack([turn @ body.rotation, place])


class Composer:
    """Composes scenes of `objects`, up to `instances` of each.

    They lie on any side, seen from anywhere; with `front` they stand as in their own frames, z
    upwards, and y points away from the camera but for `TURN` and `SIDE`.
    """

    def __init__(
        self,
        objects: Sequence[Mesh],
        solids: dict[str, Mesh],
        textures: Textures,
        *,
        intrinsics: Floats,
        size: tuple[int, int],
        instances: int = 1,
        front: bool = False,
    ) -> None:
        self.front = front
        self.objects, self.textures = objects, textures
        self.room, self.block = solids["plane"], solids["box"]
        self.distractors = [mesh for name, mesh in solids.items() if name != "plane"]
        self.intrinsics, self.size, self.instances = intrinsics, size, instances
        self.usual = float(np.median([mesh.diameter for mesh in objects]))
        self.points = {id(m): m.surface(self.usual / CELLS) for m in objects}
        self.points |= {id(m): m.surface(1 / CELLS) for m in self.distractors}

    def compose(self, rng: np.random.Generator) -> Scene:
        """Draw a scene."""
        kinds = int(rng.integers(min(FEWEST, len(self.objects)), min(MOST, len(self.objects)) + 1))
        chosen = [self.objects[i] for i in rng.permutation(len(self.objects))[:kinds]]
        placed = [m for m in chosen for _ in range(rng.integers(1, self.instances + 1))]
        distractors = [self._distractor(rng) for _ in range(rng.integers(*DISTRACTORS))]
        # The area of the things, spread over a wide or a narrow circle.
        sizes = [m.diameter for m in placed] + [max(b.scale) for b in distractors]
        width = 0.55 * float(np.sqrt(np.square(sizes).sum())) * rng.uniform(0.6, 1.1)
        pile = Pile(width + 1.5 * max(sizes), self.usual / CELLS)
        things = [Body(m, np.eye(3), np.zeros(3), gloss=_gloss(rng)) for m in placed] + distractors
        bodies = []
        for index in rng.permutation(len(things)):
            if (body := self._settle(things[index], pile, width, rng)) is not None:
                bodies.append(body)
        bodies.sort(key=lambda body: body.mesh.number or 1 << 30)
        distance = self._distance(width, rng)
        for _ in range(TRIES):
            camera = self._camera(distance, width, rng)
            middles = np.array([b.translation for b in bodies]) @ camera[:, :3].T + camera[:, 3]
            if np.linalg.norm(middles, axis=1).min() > NEAREST * distance:
                break
        half = max(distance, width) * float(rng.uniform(1.3, 3))
        bodies += self._room(width, distance, half, rng)
        lights = tuple(_light(rng, half, strength) for strength in (0.75, rng.uniform(0, 0.4)))
        ambient = rng.uniform(0.18, 0.45) * rng.uniform(0.85, 1.15, 3)
        return Scene(tuple(bodies), lights, ambient, self.intrinsics, self.size, camera, width)

    def _distractor(self, rng: np.random.Generator) -> Body:
        scale = self.usual * rng.uniform(0.25, 0.9, 3)
        return Body(
            self.distractors[int(rng.integers(len(self.distractors)))],
            np.eye(3),
            np.zeros(3),
            scale=tuple(scale.tolist()),
            texture=self._texture(rng),
            tint=_tint(rng),
            gloss=_gloss(rng),
        )

    def _settle(
        self, thing: Body, pile: Pile, width: float, rng: np.random.Generator
    ) -> Body | None:
        """Let a thing down: at the lowest of a few places, or anywhere on the pile."""
        rotations, chances = thing.mesh.resting
        points = self.points[id(thing.mesh)] * thing.scale
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        front = self.front and thing.mesh.number > 0
        best: tuple[float, Floats, Floats] | None = None
        for _ in range(TRIES if front or rng.random() < 0.7 else 1):
            start = np.eye(3) if front else rotations[rng.choice(len(rotations), p=chances)]
            angle = rng.uniform(-TURN, TURN) if front else rng.uniform(0, 2 * np.pi)
            turn = _about_z(angle) @ start
            radius, at = width * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
            place = radius * np.array([np.cos(at), np.sin(at)])
            around = (points - middle) @ turn.T
            further, rise = pile.tip(around, place)
            if front and further[2, 2] < np.cos(TILT):
                continue
            if np.isfinite(rise) and (best is None or rise < best[0]):
                best = rise, further @ turn, place
        if best is None:
            return None
        rise, turn, place = best
        turned = (points - middle) @ turn.T
        # The surface's points miss a vertex here and there; none may be below the plane.
        corners = (thing.mesh.vertices * thing.scale - middle) @ turn.T
        rise = max(rise, -float(corners[:, 2].min()))
        pile.add(turned + np.array([0, 0, rise]), place)
        translation = np.array([*place, rise]) - turn @ middle
        return Body(
            thing.mesh, turn, translation, thing.scale, thing.texture, thing.tint, 1.0, thing.gloss
        )

    def _distance(self, width: float, rng: np.random.Generator) -> float:
        """Of the camera from the pile's middle: the pile fills the image, or half of it."""
        (height, across), focal = self.size, self.intrinsics[[0, 1], [0, 1]]
        reach = min(across / focal[0], height / focal[1]) / 2
        return float((width + self.usual / 2) / reach * rng.uniform(0.75, 1.3))

    def _camera(self, distance: float, width: float, rng: np.random.Generator) -> Floats:
        """(3, 4) camera_from_world, 15 to 85 degrees above the table, or in front of it."""
        height, azimuth = np.deg2rad(rng.uniform(15, 85)), rng.uniform(0, 2 * np.pi)
        if self.front:
            height, azimuth = rng.uniform(*HEIGHT), rng.uniform(-SIDE, SIDE) - np.pi / 2
        back = [
            np.cos(height) * np.cos(azimuth),
            np.cos(height) * np.sin(azimuth),
            np.sin(height),
        ]
        forward = -np.array(back)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        rotation = _about_z(rng.uniform(-0.5, 0.5)) @ rotation
        aim = np.array([*rng.uniform(-0.25, 0.25, 2) * width, self.usual * 0.3])
        return np.column_stack([rotation, [0, 0, distance] - rotation @ aim])

    def _room(
        self, width: float, distance: float, half: float, rng: np.random.Generator
    ) -> list[Body]:
        """A floor and four walls, `half` from the middle, and mostly a table."""
        has_table = rng.random() < 0.7
        floor = -rng.uniform(0.3, 1) * distance if has_table else 0.0
        turn = _about_z(rng.uniform(0, np.pi))
        bodies = [self._sheet(np.eye(3), np.array([0, 0, floor]), 2 * half, rng)]
        if has_table:
            sides = (width + self.usual) * rng.uniform(1.1, 2.2, 2) * 2
            thick = 0.04 * distance
            bodies = [
                Body(
                    self.block,
                    turn,
                    np.array([0, 0, -thick / 2]),
                    (float(sides[0]), float(sides[1]), thick),
                    self._texture(rng),
                    _tint(rng),
                    float(rng.uniform(0.5, 3)),
                    _gloss(rng),
                ),
                *bodies,
            ]
        upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # its normal is -y
        for side in range(4):
            quarter = _about_z(side * np.pi / 2) @ turn
            place = quarter @ [0, half, 0] + [0, 0, floor + half]
            bodies.append(self._sheet(quarter @ upright, place, 2 * half, rng))
        return bodies

    def _sheet(self, turn: Floats, place: Floats, side: float, rng: np.random.Generator) -> Body:
        return Body(
            self.room, turn, place, (side, side, 1.0), self._texture(rng), _tint(rng),
            float(rng.uniform(1, 6)), _gloss(rng) / 2,
        )  # fmt: skip

    def _texture(self, rng: np.random.Generator) -> Picture:
        return self.textures[int(rng.integers(COUNT))]


def _about_z(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _tint(rng: np.random.Generator) -> tuple[float, float, float]:
    tint = rng.uniform(0.75, 1) * rng.uniform(0.8, 1, 3)
    return float(tint[0]), float(tint[1]), float(tint[2])


def _gloss(rng: np.random.Generator) -> float:
    return max(float(rng.uniform(-0.5, 0.8)), 0.0)


def _light(rng: np.random.Generator, half: float, strength: float) -> Light:
    """In a room without a ceiling whose walls are `half` from the middle."""
    height, azimuth = np.deg2rad(rng.uniform(25, 85)), rng.uniform(0, 2 * np.pi)
    direction = [np.cos(azimuth), np.sin(azimuth), np.tan(height)]
    reach = min(half, 2 * half / np.tan(height)) * rng.uniform(0.4, 0.9)
    warm = rng.uniform(-0.2, 0.2)
    colour = np.array([1 + warm, 1, 1 - warm]) * strength * rng.uniform(0.7, 1.3)
    return Light(np.array(direction) * reach, colour)


def instances(scene: Scene) -> list[tuple[int, Body]]:
    """The objects of a scene with the labels that renderers give them: 1, 2, …"""
    numbered = itertools.takewhile(lambda body: body.mesh.number, scene.bodies)
    return list(enumerate(numbered, 1))
