"""Training starts from the weights of another run; heads of other sizes are new."""

from pathlib import Path

import pytest
import torch

from ffreid.errors import UserError
from ffreid.pose.initial_weights import HEADS, load_initial_weights
from ffreid.pose.model.ffb6d import FFB6D


@pytest.mark.parametrize(("classes", "keypoints"), [(6, 8), (3, 8), (6, 9)])
def test_heads_of_other_sizes_are_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: int, keypoints: int
) -> None:
    path, trained = tmp_path / "best.pth", FFB6D(6, 8).state_dict()
    torch.save({"task": "pose", "classes": list("abcde"), "parts": {"net": trained}}, path)
    net = FFB6D(classes, keypoints)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    load_initial_weights(net, str(path))
    note = capsys.readouterr().err
    assert f"tensors are initialized from {path}" in note
    new = HEADS[: classes != 6] + HEADS[1:][: keypoints != 8]
    for key, value in net.state_dict().items():
        is_new = bool(new) and key.startswith(new)
        assert torch.equal(value, (before if is_new else trained)[key]), key
        assert (key in note) == is_new


def test_an_incomplete_network_is_refused(tmp_path: Path) -> None:
    trained = FFB6D(6, 8).state_dict()
    del trained["cnn_pre_stages.0.weight"]
    torch.save({"task": "pose", "parts": {"net": trained}}, tmp_path / "best.pth")
    with pytest.raises(UserError, match=r"1 missing \(cnn_pre_stages"):
        load_initial_weights(FFB6D(3, 8), str(tmp_path / "best.pth"))
