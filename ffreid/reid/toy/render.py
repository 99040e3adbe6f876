"""Rendering of synthetic persons: limbs, torso, head and bag in front of a wall."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.reid.toy.persons import PATTERNS, Body, Camera, Capture, Clothes, Colour, mix

ImageArray = npt.NDArray[np.uint8]
Point = tuple[float, float]
# Drawing coordinates are integers, in sixteenths of a pixel, on a canvas of twice the size.
SHIFT, CANVAS = 4, 2


def render_person(
    body: Body,
    clothes: Clothes,
    camera: Camera,
    capture: Capture,
    *,
    height: int,
    width: int,
    generator: np.random.Generator,
) -> ImageArray:
    """Render a person, (height, width, 3) uint8 RGB, with noise from `generator`."""
    canvas = _background(camera, capture, height * CANVAS, width * CANVAS)
    Figure(canvas, body, clothes, camera, capture).draw()
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    light = generator.uniform(0.93, 1.07)
    noise = generator.normal(0, 5, small.shape)
    noisy = small * (light * np.asarray(camera.gains)) + noise
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _background(camera: Camera, capture: Capture, height: int, width: int) -> ImageArray:
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = _bytes(camera.wall)
    left = round((camera.door + 2 * capture.x) * width)
    darker = _bytes(mix(camera.wall, (0, 0, 0), 0.18))
    canvas[height // 8 :, max(0, left) : max(0, left + width // 3)] = darker
    canvas[round((camera.horizon + capture.y) * height) :] = _bytes(camera.floor)
    return canvas


class Figure:
    """A person to draw; lengths in pixels of the canvas, x from its left, y from its top."""

    def __init__(
        self, canvas: ImageArray, body: Body, clothes: Clothes, camera: Camera, capture: Capture
    ) -> None:
        self.canvas, self.body, self.clothes = canvas, body, clothes
        self.turn, self.heading, self.phase = camera.turn, capture.heading, capture.phase
        rows, columns = canvas.shape[:2]
        self.tall = body.height * camera.scale * capture.scale * rows
        self.x = (0.5 + capture.x) * columns
        bob = 0.008 * math.cos(2 * capture.phase)
        feet = (0.965 + capture.y) * rows + bob * self.tall
        self.radius = body.head * self.tall
        self.legs = body.legs * self.tall
        self.hip = feet - self.legs
        self.head = feet - self.tall + self.radius
        self.shoulder = self.head + 1.25 * self.radius
        self.half_shoulders = body.shoulders * self.tall * (1 - 0.3 * self.turn)
        self.half_hips = self.half_shoulders * body.hips

    def draw(self) -> None:
        """Draw the figure from back to front."""
        swing = math.sin(self.phase)
        self._bag(behind=True)
        self._arm(-1, swing)
        self._leg(-1, -swing)
        self._leg(1, swing)
        self._hair(behind=True)
        self._torso()
        self._disc((self.x, self.head), self.radius, self.body.skin, tall=1.15)
        self._hair(behind=False)
        self._arm(1, -swing)
        self._bag(behind=False)

    def _leg(self, side: int, swing: float) -> None:
        angle = self.heading * swing * (0.12 + 0.4 * self.turn)
        # The rear leg is bent, with its foot off the ground.
        bend = self.heading * max(0.0, -swing) * (0.1 + 0.5 * self.turn)
        start = (self.x + side * self.half_hips * (0.55 - 0.4 * self.turn), self.hip)
        half = 0.5 * self.legs
        knee = _from(start, angle, half)
        foot = _from(knee, angle - bend, half * 0.97)
        thick = self.body.thigh * self.tall
        widths = (1.15 * thick, thick, 0.7 * thick)
        self._limb((start, knee, foot), widths, self.body.skin)
        hem = _part((start, knee, foot), self.body.hems)
        wide = tuple(width * 1.12 for width in widths)
        shade = 1.0 if side > 0 else 0.85
        self._limb(hem, wide, mix((0, 0, 0), self.clothes.bottom, shade))
        toe = (foot[0] + self.heading * thick * (0.5 + self.turn), foot[1])
        self._limb((foot, toe), (0.75 * thick, 0.6 * thick), self.clothes.shoes)

    def _arm(self, side: int, swing: float) -> None:
        angle = self.heading * swing * (0.1 + 0.5 * self.turn) + 0.1 * side * (1 - self.turn)
        reach = self.half_shoulders * (0.95 - 0.8 * self.turn)
        thick = 0.022 * self.tall
        start = (self.x + side * reach, self.shoulder + thick)
        half = 0.5 * 0.41 * self.tall
        elbow = _from(start, angle, half)
        hand = _from(elbow, angle + 0.25 * self.heading * self.turn, half * 0.9)
        widths = (1.1 * thick, thick, 0.8 * thick)
        self._limb((start, elbow, hand), widths, self.body.skin)
        sleeve = _part((start, elbow, hand), self.body.sleeves)
        wide = tuple(width * 1.2 for width in widths)
        self._limb(sleeve, wide, mix((0, 0, 0), self.clothes.top, 0.82))

    def _torso(self) -> None:
        waist = 0.45 * (self.half_shoulders + self.half_hips)
        middle = self.shoulder + 0.6 * (self.hip - self.shoulder)
        bottom = self.hip + 0.02 * self.tall
        right = [
            (0.35 * self.half_shoulders, self.shoulder - 0.25 * self.radius),
            (self.half_shoulders, self.shoulder + 0.15 * self.radius),
            (waist, middle),
            (self.half_hips, bottom),
        ]
        corners = [(self.x + x, y) for x, y in right] + [(self.x - x, y) for x, y in right[::-1]]
        neck = ((self.x, self.head), (self.x, self.shoulder))
        self._limb(neck, (0.45 * self.radius,) * 2, self.body.skin)
        mask = np.zeros(self.canvas.shape[:2], np.uint8)
        _fill(mask, corners, (255,))
        left, top, columns, rows = cv2.boundingRect(mask)
        box = np.s_[top : top + rows, left : left + columns]
        area, cover = self.canvas[box], mask[box][..., None] / 255.0
        y, x = np.mgrid[box] + 0.5
        length = self.hip - self.shoulder
        across, down = (x - self.x) / length, (y - self.shoulder) / length
        dark = np.clip(PATTERNS[self.body.pattern](across, down, self.body.repeats), 0, 1)
        cloth = np.asarray(self.clothes.top) * 255 * (1 - 0.72 * dark[..., None])
        area[:] = np.rint(area * (1 - cover) + cloth * cover).astype(np.uint8)

    def _hair(self, *, behind: bool) -> None:
        """Draw the hair behind face and shoulders, or the part over the head."""
        radius, cut, hair = self.radius, self.body.cut, self.body.hair
        back = -self.heading * self.turn * 0.35 * radius
        centre = (self.x + back, self.head - 0.1 * radius)
        if cut == "bald":
            return
        if behind:
            if cut == "round":
                self._disc(centre, 1.65 * radius, hair)
            elif cut in ("bob", "long"):
                end = (centre[0] + back, self.head + (1.1 if cut == "bob" else 3.2) * radius)
                self._limb((centre, end), (1.3 * radius, 1.15 * radius), hair)
            elif cut == "bun":
                self._disc((centre[0] + back, self.head - 1.5 * radius), 0.75 * radius, hair)
            return
        crown = [
            (centre[0] + 1.15 * radius * math.cos(a), self.head + 1.3 * radius * math.sin(a))
            for a in np.linspace(math.pi, 2 * math.pi, 9)
        ]
        fringe = (centre[0] + back, self.head - 0.45 * radius)
        _fill(self.canvas, [*crown, fringe], _bytes(hair))
        if cut == "long" and self.turn < 0.5:
            for side in (-1, 1):
                lock = centre[0] + side * 1.05 * radius
                ends = ((lock, self.head), (lock, self.head + 2.6 * radius))
                self._limb(ends, (0.3 * radius, 0.3 * radius), hair)

    def _bag(self, *, behind: bool) -> None:
        """Draw a bag on the back, visible next to the torso, or its strap."""
        if self.clothes.bag is None:
            return
        length = self.hip - self.shoulder
        side = -self.heading
        if behind:
            x = self.x + side * self.half_shoulders * (0.9 + 0.2 * self.turn)
            ends = ((x, self.shoulder + 0.3 * length), (x, self.shoulder + 0.75 * length))
            self._limb(ends, (0.06 * self.tall, 0.07 * self.tall), self.clothes.bag)
        else:
            start = (self.x - side * 0.7 * self.half_shoulders, self.shoulder)
            end = (self.x + side * self.half_hips, self.hip)
            self._limb((start, end), (0.012 * self.tall,) * 2, self.clothes.bag)

    def _disc(self, centre: Point, radius: float, colour: Colour, tall: float = 1.0) -> None:
        turns = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        x = centre[0] + radius * np.cos(turns)
        y = centre[1] + tall * radius * np.sin(turns)
        _fill(self.canvas, np.stack([x, y], axis=1), _bytes(colour))

    def _limb(self, joints: tuple[Point, ...], widths: tuple[float, ...], colour: Colour) -> None:
        """Draw straight segments between joints, tapered from one half width to the next."""
        for index in range(len(joints) - 1):
            start, end = np.asarray(joints[index]), np.asarray(joints[index + 1])
            along = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
            across = np.array([-along[1], along[0]])
            first, second = across * widths[index], across * widths[index + 1]
            corners = [start + first, end + second, end - second, start - first]
            _fill(self.canvas, np.stack(corners), _bytes(colour))
            self._disc(joints[index], widths[index], colour)


def _from(start: Point, angle: float, length: float) -> Point:
    """Point at `length` from `start`; `angle` is from straight down, positive to the right."""
    return start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)


def _part(joints: tuple[Point, ...], share: float) -> tuple[Point, ...]:
    """The first `share` of two segments of equal length."""
    start, middle, end = joints
    if share <= 0.5:
        return start, _interpolate(start, middle, 2 * share)
    return start, middle, _interpolate(middle, end, 2 * share - 1)


def _interpolate(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _fill(canvas: npt.NDArray[np.uint8], corners: npt.ArrayLike, colour: tuple[int, ...]) -> None:
    points = np.rint(np.asarray(corners) * 2**SHIFT - 2 ** (SHIFT - 1)).astype(np.int32)
    cv2.fillPoly(canvas, [points], colour, cv2.LINE_AA, SHIFT)


def _bytes(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue
