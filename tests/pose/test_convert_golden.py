"""Converted files in the original's format give the recorded outputs, and convert back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffreid.convert import convert
from ffreid.engine.checkpoints import io
from ffreid.pose.convert import ALIASES
from ffreid.pose.model.ffb6d import FFB6D
from tests import old_files
from tests.fuzz import is_equal
from tests.golden import arrays, facts, manifest, recordings
from tests.pose.model.recipes import as_inputs, raw_inputs, strided, weight

pytestmark = pytest.mark.golden
CASES = recordings("ffb6d", "net_small*.npz")
FORMS = {"net_small2": (True, "module.module."), "net_small22": (False, "module.")}
"""File format (legacy or not) and prefix by case."""


def original_state(meta: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict by the recorded keys, each alias the same tensor."""
    entries = manifest("ffb6d", f"state_dict_manifest_{meta['n_classes']}.json")["entries"]
    state = {k: torch.from_numpy(weight(k, tuple(s), meta["salt"])) for k, s, _ in entries}
    return state | {second: state[first] for second, first in ALIASES.items()}


@pytest.mark.parametrize("stem", CASES)
def test_an_old_file_reproduces_the_recorded_outputs_and_converts_back(
    stem: str, tmp_path: Path
) -> None:
    meta = facts("ffb6d", stem)
    legacy, prefix = FORMS.get(stem, (True, ""))
    state = original_state(meta)
    raw = old_files.ffb6d(state, prefix=prefix)
    raw["best_prec"] = np.float64(raw["best_prec"])
    old = old_files.write(tmp_path / "FFB6D_best.pth.tar", raw, legacy=legacy, spelling=1)

    result = convert(old)
    assert result.written == tmp_path / "FFB6D_best.ffreid.pth"
    assert result.notes == ()
    net = FFB6D(meta["n_classes"]).eval()
    net.load_state_dict(io.load(result.written)["parts"]["net"])
    inputs = [meta[name] for name in ("seed", "bs", "h", "w", "n_pts", "n_classes")]
    with torch.inference_mode():
        outputs = net(as_inputs(raw_inputs(*inputs)))
    for name, value in strided(outputs, meta["point_stride"]).items():
        recorded = arrays("ffb6d", stem)[f"eval/{name}"]
        np.testing.assert_allclose(value.numpy(), recorded, rtol=0, atol=1e-4)

    back = convert(result.written, to="original", legacy=legacy).written
    assert back is not None
    again = io.load(back)
    assert list(again) == list(raw)
    assert is_equal(dict(again["model_state"]), state)
    for second, first in ALIASES.items():
        assert again["model_state"][first].data_ptr() == again["model_state"][second].data_ptr()
    assert all(again[name] == raw[name] for name in ("epoch", "it", "best_prec"))
    then, now = ([*file["optimizer_state"]["state"].values()] for file in (raw, again))
    assert len(then) == len(list(net.parameters()))
    assert is_equal(then, now)
