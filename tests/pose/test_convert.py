"""FFB6D's checkpoints in ffreid's layout and back, in memory."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.contents import NetworkInfo, identify
from ffreid.errors import UserError
from ffreid.pose import build, convert
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import linemod_objects, ycb_objects
from tests import old_files
from tests.fuzz import is_equal


@cache
def _state(classes: int) -> dict[str, Tensor]:
    return dict(FFB6D(classes).state_dict())


def state(classes: int = 2) -> dict[str, Tensor]:
    return dict(_state(classes))


def identified(raw: Mapping[str, Any]) -> NetworkInfo:
    info = convert.identify_network(identify(raw))
    assert info is not None
    return info


def converted(raw: Mapping[str, Any], **settings: Any) -> tuple[dict[str, Any], list[str]]:
    pairs = {key.replace("_", "."): value for key, value in settings.items()}
    return convert.to_ffreid(identify(raw), identified(raw), pairs)


def test_classes_and_keypoints_follow_from_shapes() -> None:
    for classes, name in ((2, "linemod"), (22, "ycb")):
        info = identified(old_files.ffb6d(state(classes)))
        assert info.facts == {"classes": classes, "keypoints": 8, "data set": name}
    sizes = {convert.SEGMENTATION: 6, convert.KEYPOINTS: 27}
    heads = {key: torch.zeros(size, 128, 1) for key, size in sizes.items()}
    info = identified({"model": state() | heads})
    assert (info.facts, info.unknown[0][0]) == ({"classes": 6, "keypoints": 9}, "object names")


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_a_training_checkpoint_is_converted(prefix: str) -> None:
    new, notes = converted(old_files.ffb6d(state(), prefix=prefix))
    assert notes == []
    assert old_files.is_identical(new["parts"]["net"], state())
    assert (new["step"], new["best"], new["converted"]["epoch"]) == (83496, 0.0873, 20)
    assert (new["task"], new["dataset"], new["class_count"]) == ("pose", "linemod", 1)
    assert len(new["optimisers"]["net"]["state"]) == len(list(FFB6D(2).parameters()))


def test_object_names_of_ycb_are_known_and_of_linemod_are_set_by_the_user() -> None:
    assert converted({"model_state": state(22)})[0]["classes"] == list(ycb_objects().names)
    raw = {"model_state": state()}
    assert "classes" not in converted(raw)[0]
    assert converted(raw, DATA_CLS="ape")[0]["classes"] == ["ape"]
    with pytest.raises(UserError, match="LineMOD has no object 'apes'"):
        converted(raw, DATA_CLS="apes")
    with pytest.raises(UserError, match="network is for 21 objects"):
        converted({"model_state": state(22)}, DATA_CLS="ape")


def test_object_names_of_a_converted_file_come_from_the_dataset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(io, "load", lambda path: {"model_state": state()})
    path, cpu = Path("a.pth"), torch.device("cpu")
    net, _ = build.load_network(path, linemod_objects("duck"), cpu)
    assert not net.training
    with pytest.raises(UserError, match=r"a\.pth is for 1 objects, the dataset has 21 \(002_"):
        build.load_network(path, ycb_objects(), cpu)


def test_dropped_optimisers_and_ema_weights_are_noted() -> None:
    raw = old_files.ffb6d(state()) | {"model_ema": state()}
    raw["optimizer_state"]["param_groups"][0]["params"].pop()
    new, notes = converted(raw)
    assert "optimisers" not in new
    assert notes[0].startswith("optimizer_state is dropped: it has 354 parameters")
    assert len(notes) == 2 and "--weights ema" in notes[1]


def test_a_missing_alias_is_the_same_tensor() -> None:
    incomplete = {key: value for key, value in state().items() if key not in convert.ALIASES}
    new, notes = converted({"model_state": incomplete})
    assert len(notes) == len(convert.ALIASES) == 2
    net = new["parts"]["net"]
    assert all(net[second] is net[first] for second, first in convert.ALIASES.items())
    assert net.keys() == state().keys()


def test_converting_back_gives_the_same_entries() -> None:
    raw = old_files.ffb6d(state())
    back = convert.to_original(converted(raw)[0])
    assert list(back) == list(raw)
    assert old_files.is_identical(back["model_state"], raw["model_state"])
    assert all(back[key] == raw[key] for key in ("epoch", "it", "best_prec"))
    then, now = ([*entry["optimizer_state"]["state"].values()] for entry in (raw, back))
    assert is_equal(then, now)
    back = convert.to_original({"parts": {"net": state()}, "step": 5, "best": None})
    assert (back["it"], back["optimizer_state"]) == (5, None)
    assert list(back["amp"]) == ["loss_scaler0"]


def test_only_foreign_checkpoints_are_converted_with_a_note() -> None:
    raw: dict[str, Any] = {"task": "pose", "parts": {"net": {}}, "step": 3}
    assert convert.convert_any(raw, Path("last.pth")) == (raw, "")
    new, note = convert.convert_any({"model_state": state()}, Path("old.pth.tar"))
    assert old_files.is_identical(new["parts"]["net"], state())
    assert note == (
        "old.pth.tar is a checkpoint with model_state: loaded as FFB6D (classes 2, keypoints 8, "
        "data set linemod)"
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"conv1.weight": torch.ones(2, 2)}, r"x\.pth contains no FFB6D"),
        ({"task": "reid", "parts": {}}, r"x\.pth is a reid checkpoint, not a pose checkpoint"),
    ],
)
def test_other_networks_are_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        convert.convert_any(raw, Path("x.pth"))
    assert "parts" in raw or "convert-ckpt x.pth --dry-run" in caught.value.hint
