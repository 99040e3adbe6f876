"""Hole filling and normals as recorded from the original."""

from typing import Any

import numpy as np
import pytest

from ffreid.pose.data.depth import fill_missing, fill_steps, normals_from_depth
from tests.golden import arrays, facts, recordings

pytestmark = pytest.mark.golden

FILLED = recordings("ffb6d", "fill_missing*.npz")
NORMALS = recordings("ffb6d", "normals*.npz")
FORMS: dict[str, dict[str, Any]] = {
    "multiscale_bilateral": {},
    "multiscale_gaussian": {"blur": "gaussian"},
    "multiscale_bilateral_extrapolate": {"extrapolate": True},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stem", FILLED)
def test_holes_are_filled_as_recorded(stem: str, form: str) -> None:
    recorded, fact = arrays("ffb6d", stem), facts("ffb6d", stem)
    filled = fill_missing(
        recorded["in_depth_u16"],
        fact["cam_scale"],
        max_depth=fact["max_depth_multiscale"],
        **FORMS[form],
    )
    np.testing.assert_allclose(filled, recorded[form], atol=1e-2)


@pytest.mark.parametrize("stem", FILLED)
def test_every_step_of_filling_is_as_recorded(stem: str) -> None:
    recorded, fact = arrays("ffb6d", stem), facts("ffb6d", stem)
    steps = list(fill_steps(recorded["in_depth_u16"], fact["cam_scale"], 3.0, "bilateral", False))
    # The original stores its result a second time under another name.
    checksums = list(fact["step_checksums_m"].values())[: len(steps)]
    for (_, result), expected in zip(steps, checksums, strict=True):
        np.testing.assert_allclose(result.astype(float).sum(), expected["sum"], rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(result.astype(float)), expected["l2"], rtol=1e-6)


@pytest.mark.parametrize("stem", NORMALS)
def test_normals_are_bit_for_bit_as_recorded(stem: str) -> None:
    recorded, cases = arrays("ffb6d", stem), facts("ffb6d", stem)["cases"]
    assert cases
    options = ("fx", "fy", "radius", "max_distance", "max_difference", "into_surface")
    for name, case in cases.items():
        settings = dict(zip(options, case, strict=True))
        normals = normals_from_depth(recorded["in_depth_mm"], **settings)
        np.testing.assert_array_equal(normals, recorded[f"normals_{name}"], err_msg=name)
