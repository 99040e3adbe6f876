"""Converted files in the original's format give the recorded features, and convert back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ffreid.config import merge_pairs
from ffreid.convert import convert
from ffreid.engine.checkpoints import io
from ffreid.reid.defaults import defaults
from ffreid.reid.model import build_network
from tests import old_files
from tests.fuzz import is_equal
from tests.golden import arrays, facts, manifest, recordings
from tests.reid.synthetic_weights import det_array, det_input

pytestmark = pytest.mark.golden
RECORDED = recordings("ccreid", "models.npz")
CASES = ["resnet50_gem", "c2dres50"]


def original_state(name: str, prefix: str = "") -> dict[str, Tensor]:
    entries = manifest("ccreid", "manifests/state_dict_manifest.json")[name]
    return {k: torch.from_numpy(det_array(prefix + k, tuple(shape))) for k, shape, _ in entries}


def heads(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Classifiers, linear and cosine; with the video network the clothes memory."""
    if name == "c2dres50":
        identities = torch.from_numpy(det_array("identity_classifier.weight", (77, 2048)))
        return {"weight": identities}, old_files.memory_bank(6, 2048)
    shapes = {"classifier.weight": (77, 2048), "classifier.bias": (77,)}
    linear = {
        k: torch.from_numpy(det_array(f"identity_classifier.{k}", s)) for k, s in shapes.items()
    }
    return linear, {"weight": torch.from_numpy(det_array("clothes_classifier.weight", (256, 2048)))}


@pytest.mark.parametrize("stem", RECORDED)
@pytest.mark.parametrize("name", CASES)
def test_an_old_file_reproduces_the_recorded_features_and_converts_back(
    stem: str, name: str, tmp_path: Path
) -> None:
    recorded = facts("ccreid", stem)["models"][name]
    raw = old_files.cal(original_state(name), *heads(name))
    old = tmp_path / "best_model.pth.tar"
    old_files.write(old, raw, legacy=name == "c2dres50", spelling=CASES.index(name))

    result = convert(old)
    assert result.written is not None and result.network is not None
    cfg = defaults()
    merge_pairs(cfg, [w for k, v in result.network.settings.items() for w in (k, str(v))])
    net = build_network(cfg).eval()
    ours = io.load(result.written)
    net.load_state_dict(ours["model_state_dict"])
    inputs = torch.from_numpy(det_input(recorded["input_name"], tuple(recorded["input_shape"])))
    with torch.inference_mode():
        features = net(inputs).numpy()
    expected = arrays("ccreid", stem)[f"{name}/feature"]
    assert np.abs(features - expected).max() <= 5e-6 * np.abs(expected).max()

    back = convert(result.written, to="original").written
    assert back is not None
    assert is_equal(io.load(back), raw | {"rank1": float(raw["rank1"])})
