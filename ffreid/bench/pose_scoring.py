"""Time of ADD-S, against a tree for each instance."""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ffreid.bench.common import SEED, compare
from ffreid.pose.metrics import adds
from ffreid.pose.scoring import mesh_trees
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.scenes import random_rotation
from ffreid.pose.toy.shapes import surface_points


def scoring_rows(quick: bool) -> list[dict[str, Any]]:
    """Time ADD-S of an instance with 2,620 points, as YCB-Video's, 1 cm and 3 degrees off.

    Plain is scipy's tree, also built once.
    """
    count, repeats = (200, 1) if quick else (2620, 15)
    generator = np.random.default_rng(SEED)
    points = surface_points(toy_objects()[0].shape, count, generator).astype(np.float32)
    true = np.column_stack([random_rotation(generator), [0.1, 0.0, 0.9]])
    angle = np.deg2rad(3)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    turn = np.vstack([turn, [0, 0, 1]])
    predicted = np.column_stack([turn @ true[:, :3], true[:, 3] + 0.01 / np.sqrt(3)])
    trees = {"now": mesh_trees({1: points})[1], "plain": cKDTree(points)}
    line = compare(
        f"ADD-S, {count} points",
        lambda: adds(points, predicted, true, tree=trees["now"]),
        lambda: adds(points, predicted, true, tree=trees["plain"]),
        repeats,
        part=True,
    )
    return [line]
