"""Simple-CCReID's checkpoints as ours and back, in memory."""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ffreid.config import merge_pairs
from ffreid.engine.checkpoints.contents import Facts, identify
from ffreid.errors import UserError
from ffreid.reid import convert
from ffreid.reid.defaults import defaults
from ffreid.reid.model import NETWORKS
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from tests import old_files


@lru_cache(maxsize=2)
def _state(name: str, **options: Any) -> dict[str, Tensor]:
    return dict(NETWORKS[name](**options).state_dict())


def state(name: str = "resnet50", **options: Any) -> dict[str, Tensor]:
    return dict(_state(name, **options))


def linear() -> dict[str, Tensor]:
    return dict(Classifier(4096, 5).state_dict())


def cosines() -> dict[str, Tensor]:
    return dict(NormalizedClassifier(4096, 9).state_dict())


def claimed(raw: Mapping[str, Any]) -> Facts:
    facts = convert.claims(identify(raw))
    assert facts is not None
    return facts


def ours(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    return convert.to_ours(identify(raw), claimed(raw), {})


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(one[key] is other[key] for key in one)


@pytest.mark.parametrize(
    ("pooling", "told"), [("maxavg", "maxavg"), ("gem", "gem"), ("avg", None), ("max", None)]
)
def test_the_pooling_is_told_where_it_shows(pooling: str, told: str | None) -> None:
    facts = claimed(state(pooling=pooling))
    assert facts.settings == {"MODEL.NAME": "resnet50"} | (
        {"MODEL.POOLING.NAME": told} if told else {}
    )
    assert ("MODEL.POOLING.NAME" in dict(facts.unsaid)) == (told is None)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "resnet50"])
def test_keys_tell_the_clips_networks_apart(name: str) -> None:
    facts = claimed(state(name))
    assert facts.settings["MODEL.NAME"] == name
    assert ("MODEL.AP3D.TEMPERATURE" in dict(facts.unsaid)) == name.startswith("ap3d")
    assert "MODEL.RES4_STRIDE" in dict(facts.unsaid)


@pytest.mark.parametrize("attention", [True, False])
def test_keys_tell_of_contrastive_attention(attention: bool) -> None:
    facts = claimed(state("ap3dres50", contrastive_attention=attention))
    assert facts.settings["MODEL.AP3D.CONTRACTIVE_ATT"] is attention


def test_heads_tell_how_many_they_know() -> None:
    facts = claimed(old_files.cal(state(), linear(), cosines()))
    assert facts.told == {
        "features": 4096,
        "pooling": "maxavg",
        "identities": 5,
        "identity classifier": "linear",
        "outfits": 9,
        "CAL": "cal",
    }
    as_many_as_ltcc = ({"weight": torch.ones(77, 1)}, {"weight": torch.ones(256, 1)})
    facts = claimed(old_files.cal(state(), *as_many_as_ltcc))
    assert facts.told["data set"] == "ltcc, as its counts are these"
    told = claimed(old_files.cal(state(), cosines(), old_files.memory_bank(6, 4096))).told
    assert (told["identities"], told["identity classifier"]) == (9, "cosines")
    assert (told["outfits"], told["CAL"]) == (6, "calwithmemory")


@pytest.mark.parametrize("part", ["clothes", "memory"])
def test_a_training_s_checkpoint_becomes_ours_and_goes_back(part: str) -> None:
    head = cosines() if part == "clothes" else old_files.memory_bank(6, 4096)
    raw = old_files.cal(state(), linear(), head)
    new, notes = ours(raw)
    assert notes == []
    assert same(new["model_state_dict"], state())
    assert list(new["parts"]) == ["net", part]
    assert same(new["parts"][part], head)
    assert (new["epoch"], new["rank1"], new["measured"]) == (54, 0.401, {"rank1": 0.401})
    assert type(new["rank1"]) is float
    back = convert.to_original(new)
    assert list(back) == list(raw)
    for entry in list(raw)[:3]:
        assert same(back[entry], raw[entry])
    assert (back["epoch"], back["rank1"]) == (54, 0.401)


def test_a_whole_task_in_one_state_dict_is_taken_apart() -> None:
    """As Lightning saves it, or ours: the network and its classifier side by side."""
    whole = old_files.prefixed(state(), "model.") | old_files.prefixed(linear(), "classifier.")
    new, _ = ours({"state_dict": whole})
    assert same(new["parts"]["net"], whole)


def test_the_network_alone_is_enough() -> None:
    new, _ = ours(state())
    assert list(new["parts"]) == ["net"]
    assert math.isnan(new["rank1"]) and "epoch" not in new and "class_count" not in new


def test_optimisers_and_averaged_copies_are_mentioned() -> None:
    raw = {"model": state(), "ema": state(), "optimizer": old_files.adam([torch.ones(1)])}
    notes = ours(raw)[1]
    assert notes[0].startswith("optimizer is not taken over") and "--weights ema" in notes[1]


@pytest.mark.parametrize("name", ["resnet50", "c2dres50"])
def test_a_forward_on_made_up_input_gives_features(name: str) -> None:
    cfg = defaults()
    merge_pairs(cfg, ["MODEL.NAME", name])
    facts = Facts(task="reid", network=name, told={})
    before = torch.random.get_rng_state()
    (features,) = convert.run(convert.build(facts, cfg), cfg).values()
    assert features.shape == (1, 4096 if name == "resnet50" else 2048)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_ours_passes_untouched_and_silent() -> None:
    raw = {"task": "reid", "parts": {"net": {}}, "epoch": 3}
    assert convert.converted(raw, Path("last.pth")) == (raw, "")


def test_an_old_file_is_taken_with_a_line() -> None:
    new, line = convert.converted({"model_state_dict": state()}, Path("old.pth.tar"))
    assert new["config"] == "MODEL:\n  NAME: resnet50\n  POOLING:\n    NAME: maxavg\n"
    assert line == (
        "old.pth.tar is a checkpoint with model_state_dict: taken as resnet50 (features 4096, "
        "pooling maxavg)"
    )


def test_another_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"x\.pth holds no re-identification network"):
        convert.converted({"conv1.weight": torch.ones(2, 2)}, Path("x.pth"))
