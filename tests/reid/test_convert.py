"""Checkpoints of Simple-CCReID are converted to ffreid's layout and back."""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ffreid.config import merge_pairs
from ffreid.engine.checkpoints.contents import NetworkInfo, identify
from ffreid.errors import UserError
from ffreid.reid import convert
from ffreid.reid.defaults import defaults
from ffreid.reid.model import NETWORKS
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from tests import old_files
from tests.fuzz import is_equal


@lru_cache(maxsize=2)
def _state(name: str, **options: Any) -> dict[str, Tensor]:
    return dict(NETWORKS[name](**options).state_dict())


def state(name: str = "resnet50", **options: Any) -> dict[str, Tensor]:
    return dict(_state(name, **options))


def linear() -> dict[str, Tensor]:
    return dict(Classifier(4096, 5).state_dict())


def cosine() -> dict[str, Tensor]:
    return dict(NormalizedClassifier(4096, 9).state_dict())


def identified(raw: Mapping[str, Any]) -> NetworkInfo:
    info = convert.identify_network(identify(raw))
    assert info is not None
    return info


def converted(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    return convert.to_ffreid(identify(raw), identified(raw), {})


@pytest.mark.parametrize(
    ("pooling", "known"), [("maxavg", True), ("gem", True), ("avg", False), ("max", False)]
)
def test_pooling_is_identified_by_keys_and_shapes(pooling: str, known: bool) -> None:
    info = identified(state(pooling=pooling))
    assert info.settings == {"MODEL.NAME": "resnet50"} | (
        {"MODEL.POOLING.NAME": pooling} if known else {}
    )
    assert ("MODEL.POOLING.NAME" not in dict(info.unknown)) == known


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "resnet50"])
def test_video_networks_are_identified_by_keys(name: str) -> None:
    info = identified(state(name))
    assert info.settings["MODEL.NAME"] == name
    assert ("MODEL.AP3D.TEMPERATURE" in dict(info.unknown)) == name.startswith("ap3d")
    assert "MODEL.RES4_STRIDE" in dict(info.unknown)


@pytest.mark.parametrize("attention", [True, False])
def test_contrastive_attention_is_identified_by_keys(attention: bool) -> None:
    info = identified(state("ap3dres50", contrastive_attention=attention))
    assert info.settings["MODEL.AP3D.CONTRACTIVE_ATT"] is attention


def test_heads_give_the_numbers_of_classes() -> None:
    assert identified(old_files.cal(state(), linear(), cosine())).facts == {
        "features": 4096,
        "pooling": "maxavg",
        "identities": 5,
        "identity classifier": "linear",
        "clothes": 9,
        "CAL": "cal",
    }
    counts_of_ltcc = ({"weight": torch.ones(77, 1)}, {"weight": torch.ones(256, 1)})
    facts = identified(old_files.cal(state(), *counts_of_ltcc)).facts
    assert facts["data set"] == "ltcc, the only one with these counts"
    facts = identified(old_files.cal(state(), cosine(), old_files.memory_bank(6, 4096))).facts
    assert (facts["identities"], facts["identity classifier"]) == (9, "cosine")
    assert (facts["clothes"], facts["CAL"]) == (6, "calwithmemory")


@pytest.mark.parametrize("part", ["clothes", "memory"])
def test_a_training_checkpoint_is_converted_and_back(part: str) -> None:
    head = cosine() if part == "clothes" else old_files.memory_bank(6, 4096)
    raw = old_files.cal(state(), linear(), head)
    new, notes = converted(raw)
    assert notes == []
    assert old_files.is_identical(new["model_state_dict"], state())
    assert list(new["parts"]) == ["net", part]
    assert old_files.is_identical(new["parts"][part], head)
    assert (new["epoch"], new["rank1"], new["measured"]) == (54, 0.401, {"rank1": 0.401})
    assert type(new["rank1"]) is float
    assert is_equal(convert.to_original(new), raw | {"rank1": 0.401})


def test_a_network_and_its_classifier_in_one_state_dict_are_split() -> None:
    task = old_files.prefixed(state(), "model.") | old_files.prefixed(linear(), "classifier.")
    assert old_files.is_identical(converted({"state_dict": task})[0]["parts"]["net"], task)


def test_a_network_without_classifiers_is_converted() -> None:
    new, _ = converted(state())
    assert list(new["parts"]) == ["net"]
    assert math.isnan(new["rank1"]) and "epoch" not in new and "class_count" not in new


def test_dropped_optimisers_and_ema_weights_are_noted() -> None:
    raw = {"model": state(), "ema": state(), "optimizer": old_files.adam([torch.ones(1)])}
    notes = converted(raw)[1]
    assert notes[0].startswith("optimizer is dropped") and "--weights ema" in notes[1]


@pytest.mark.parametrize("name", ["resnet50", "c2dres50"])
def test_a_forward_on_random_input_gives_features(name: str) -> None:
    cfg = defaults()
    merge_pairs(cfg, ["MODEL.NAME", name])
    info = NetworkInfo(task="reid", name=name, facts={})
    before = torch.random.get_rng_state()
    (features,) = convert.run(convert.build(info, cfg), cfg).values()
    assert features.shape == (1, 4096 if name == "resnet50" else 2048)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_only_foreign_checkpoints_are_converted_with_a_note() -> None:
    raw: dict[str, Any] = {"task": "reid", "parts": {"net": {}}, "epoch": 3}
    assert convert.convert_any(raw, Path("last.pth")) == (raw, "")
    new, note = convert.convert_any({"model_state_dict": state()}, Path("old.pth.tar"))
    assert new["config"] == "MODEL:\n  NAME: resnet50\n  POOLING:\n    NAME: maxavg\n"
    assert note == (
        "old.pth.tar is a checkpoint with model_state_dict: loaded as resnet50 (features 4096, "
        "pooling maxavg)"
    )


def test_another_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"x\.pth contains no re-identification network"):
        convert.convert_any({"conv1.weight": torch.ones(2, 2)}, Path("x.pth"))
