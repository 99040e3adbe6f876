"""FFB6D's checkpoints as ours and back, in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from yacs.config import CfgNode

from ffreid.engine.checkpoints.contents import identify
from ffreid.errors import UserError
from ffreid.pose import convert
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import ycb_objects
from tests import old_files

STATES: dict[int, dict[str, Tensor]] = {}


def state(classes: int = 2) -> dict[str, Tensor]:
    """One network's weights for all tests, which do not change them."""
    if classes not in STATES:
        STATES[classes] = dict(FFB6D(classes).state_dict())
    return dict(STATES[classes])


def ours(raw: Mapping[str, Any], **settings: Any) -> tuple[dict[str, Any], list[str]]:
    found = identify(raw)
    facts = convert.claims(found)
    assert facts is not None
    return convert.to_ours(found, facts, {k.replace("_", "."): v for k, v in settings.items()})


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(one[key] is other[key] for key in one)


@pytest.mark.parametrize("classes", [2, 22])
def test_shapes_tell_classes_and_keypoints(classes: int) -> None:
    facts = convert.claims(identify(old_files.ffb6d(state(classes))))
    assert facts is not None
    name = {2: "linemod", 22: "ycb"}[classes]
    assert facts.told == {"classes": classes, "keypoints": 8, "data set": name}


def test_another_data_set_s_network_is_told_without_a_name() -> None:
    other = state() | {
        convert.SEGMENTATION: torch.zeros(6, 128, 1),
        convert.KEYPOINTS: torch.zeros(27, 128, 1),
    }
    facts = convert.claims(identify({"model": other}))
    assert facts is not None
    assert facts.told == {"classes": 6, "keypoints": 9}
    assert facts.unsaid[0][0] == "the objects' names"


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_a_training_s_checkpoint_becomes_ours(prefix: str) -> None:
    new, notes = ours(old_files.ffb6d(state(), prefix=prefix))
    assert notes == []
    assert same(new["parts"]["net"], state())
    assert (new["step"], new["best"], new["converted"]["epoch"]) == (83496, 0.0873, 20)
    assert (new["task"], new["dataset"], new["class_count"]) == ("pose", "linemod", 1)
    assert len(new["optimisers"]["net"]["state"]) == len(list(FFB6D(2).parameters()))


def test_the_names_of_ycb_s_objects_are_known() -> None:
    new, _ = ours({"model_state": state(22)})
    assert new["classes"] == list(ycb_objects().names)


def test_linemod_s_object_is_the_user_s_to_name() -> None:
    raw = {"model_state": state()}
    assert "classes" not in ours(raw)[0]
    assert ours(raw, DATA_CLS="ape")[0]["classes"] == ["ape"]
    with pytest.raises(UserError, match="LineMOD has no object 'apes'"):
        ours(raw, DATA_CLS="apes")
    with pytest.raises(UserError, match="a network for 21 objects"):
        ours({"model_state": state(22)}, DATA_CLS="ape")


def test_the_data_set_names_the_objects_of_a_converted_file() -> None:
    new, _ = ours({"model_state": state()})
    assert convert.known_as(new, ["duck"], Path("a.pth"))["classes"] == ["duck"]
    with pytest.raises(UserError, match=r"a\.pth knows 1 objects, the data set 2"):
        convert.known_as(new, ["duck", "ape"], Path("a.pth"))
    named = {"classes": ["x"], "class_count": 1}
    assert convert.known_as(named, ["duck"], Path("a.pth")) == named


def test_an_optimiser_of_another_network_is_left_out() -> None:
    raw = old_files.ffb6d(state())
    raw["optimizer_state"]["param_groups"][0]["params"].pop()
    new, notes = ours(raw)
    assert "optimisers" not in new
    assert notes[0].startswith("optimizer_state is not taken over: it is of 354 parameters")


def test_an_averaged_copy_is_mentioned() -> None:
    _, notes = ours({"model": state(), "model_ema": state()})
    assert len(notes) == 1 and "--weights ema" in notes[0]


def test_an_alias_that_a_file_lacks_is_the_same_tensor() -> None:
    lacking = {key: value for key, value in state().items() if key not in convert.ALIASES}
    new, notes = ours({"model_state": lacking})
    net = new["parts"]["net"]
    assert len(notes) == len(convert.ALIASES) == 2
    assert all(net[second] is net[first] for second, first in convert.ALIASES.items())
    assert net.keys() == state().keys()


def test_the_way_back_gives_the_same_entries() -> None:
    raw = old_files.ffb6d(state())
    back = convert.to_original(ours(raw)[0])
    assert list(back) == list(raw)
    assert same(back["model_state"], raw["model_state"])
    assert {key: back[key] for key in ("epoch", "it", "best_prec")} == {
        key: raw[key] for key in ("epoch", "it", "best_prec")
    }
    then, now = (entry["optimizer_state"]["state"].values() for entry in (raw, back))
    assert [list(own) for own in then] == [list(own) for own in now]
    for one, other in zip(then, now, strict=True):
        assert one["step"] == other["step"] and one["exp_avg"] is other["exp_avg"]


def test_a_state_without_optimiser_goes_back_too() -> None:
    back = convert.to_original({"parts": {"net": state()}, "step": 5, "best": None})
    assert (back["it"], back["optimizer_state"]) == (5, None)
    assert list(back["amp"]) == ["loss_scaler0"]


def test_a_forward_on_made_up_input_gives_every_output() -> None:
    outputs = convert.run(FFB6D(2), CfgNode())
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "segmentation": (1, 2, 1024),
        "keypoint_offsets": (1, 8, 1024, 3),
        "centre_offsets": (1, 1, 1024, 3),
    }
    assert all(value.isfinite().all() for value in outputs.values())


def test_ours_passes_untouched_and_silent() -> None:
    raw = {"task": "pose", "parts": {"net": {}}, "step": 3}
    assert convert.converted(raw, Path("last.pth")) == (raw, "")


def test_an_old_file_is_taken_with_a_line() -> None:
    new, line = convert.converted({"model_state": state()}, Path("old.pth.tar"))
    assert same(new["parts"]["net"], state())
    assert line == (
        "old.pth.tar is a checkpoint with model_state: taken as FFB6D of 2 classes, 8 keypoints"
    )


def test_another_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"x\.pth holds no FFB6D") as caught:
        convert.converted({"conv1.weight": torch.ones(2, 2)}, Path("x.pth"))
    assert "convert-ckpt x.pth --dry-run" in caught.value.hint
