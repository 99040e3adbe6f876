"""Piles without physics: bodies are let down on those below until they touch, and tip over."""

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ANGLES = np.deg2rad([5, 10, 15, 21, 28, 36, 46, 58])
"""By how much a body tips about what it lies on, tried until it touches again."""
TOUCH = 0.002
"""By how much a body may rise while it tips, as a share of the pile's width."""


class Pile:
    """The height of what lies on a plane, in cells, metres.

    Heights are those of points on the surfaces, each of them widened by a cell, so bodies never
    intersect but leave gaps of up to a cell's height; on the plane itself they stand exactly.
    """

    def __init__(self, half: float, cell: float) -> None:
        count = int(np.ceil(2 * half / cell))
        self.cell, self.half = cell, count * cell / 2
        self.heights = np.zeros((count, count))

    def rest(self, points: Floats, place: Floats) -> tuple[float, Floats | None]:
        """How far above its origin (P, 3) turned points rest at `place` (2,), and on what point.

        Of several it is the one nearest to the origin's vertical, and None if they stand on the
        plane. Beyond the cells nothing rests: infinity.
        """
        column, row = self._cells(points, place)
        if min(column.min(), row.min()) < 0 or max(column.max(), row.max()) >= len(self.heights):
            return np.inf, None
        rises = self.heights[row, column] - points[:, 2]
        rise, ground = float(rises.max()), -float(points[:, 2].min())
        if rise <= ground + 1e-9:
            return ground, None
        touching = points[rises > rise - TOUCH * self.half]
        return rise, touching[(touching[:, :2] ** 2).sum(axis=1).argmin()]

    def tip(self, points: Floats, place: Floats) -> tuple[Floats, float]:
        """Let (P, 3) turned points down at `place`, where they tip about what they lie on.

        Returns a further rotation (3, 3) about their origin, and how far above it they rest.
        """
        turn, (rise, contact) = np.eye(3), self.rest(points, place)
        if contact is None or not np.isfinite(rise):
            return turn, rise
        lowest = rise
        outwards = -contact[:2]  # the centre of mass is about the origin
        if (reach := float(np.linalg.norm(outwards))) < self.cell:
            return turn, rise
        axis = np.array([-outwards[1], outwards[0], 0]) / reach
        for angle in ANGLES:
            further = np.asarray(cv2.Rodrigues(axis * angle)[0], np.float64)
            now, _ = self.rest(points @ further.T, place)
            # The height at which the point of contact stays where it is.
            kept = rise + contact[2] - float((further @ contact)[2])
            if now > min(kept, rise) + TOUCH * self.half:
                return turn, lowest
            turn, lowest = further, now
        return np.eye(3), np.inf  # it falls off

    def add(self, points: Floats, place: Floats) -> None:
        """Add (P, 3) turned and lifted points at `place`."""
        column, row = self._cells(points, place)
        low = np.array([row.min(), column.min()]) - 1
        high = np.array([row.max(), column.max()]) + 2
        part = np.zeros(high - low)
        np.maximum.at(part, (row - low[0], column - low[1]), points[:, 2])
        part = cv2.dilate(part, np.ones((3, 3), np.uint8))
        rows, columns = (slice(max(low[i], 0), min(high[i], len(self.heights))) for i in (0, 1))
        inner = part[
            rows.start - low[0] : rows.stop - low[0], columns.start - low[1] : columns.stop - low[1]
        ]
        np.maximum(self.heights[rows, columns], inner, out=self.heights[rows, columns])

    def _cells(self, points: Floats, place: Floats) -> list[npt.NDArray[np.int64]]:
        cells = np.floor((points[:, :2] + place + self.half) / self.cell)
        return list(cells.T.astype(np.int64))
