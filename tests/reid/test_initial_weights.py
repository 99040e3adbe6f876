"""Training starts from the weights of another run or program; heads of other sizes are new."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ffreid.errors import UserError
from ffreid.reid.initial_weights import load_initial_weights
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from ffreid.reid.model.image import ImageResNet50
from ffreid.reid.task import NetworkWithClassifier


def parts(identities: int, clothes: int, pooling: str = "maxavg") -> dict[str, nn.Module | None]:
    network = ImageResNet50(pooling=pooling)
    features = 4096 if pooling == "maxavg" else 2048
    return {
        "net": NetworkWithClassifier(network, Classifier(features, identities)),
        "clothes": NormalizedClassifier(features, clothes),
        "memory": None,
    }


def load(modules: dict[str, nn.Module | None], path: Path) -> None:
    heads = {name: module for name, module in modules.items() if name != "net"}
    net = modules["net"]
    assert net is not None
    load_initial_weights(net, heads, str(path))


def states(modules: dict[str, nn.Module | None]) -> dict[str, dict[str, torch.Tensor]]:
    return {name: module.state_dict() for name, module in modules.items() if module is not None}


@pytest.fixture(scope="module")
def trained() -> dict[str, dict[str, torch.Tensor]]:
    """States of a run with three identities and five clothes labels."""
    torch.manual_seed(1)
    return states(parts(3, 5))


def save(form: str, trained: dict[str, dict[str, torch.Tensor]], path: Path) -> None:
    net = trained["net"]
    model = {k.removeprefix("model."): v for k, v in net.items() if k.startswith("model.")}
    head = {k.removeprefix("classifier."): v for k, v in net.items() if k not in model}
    head = {k: v for k, v in head.items() if not k.startswith("model.")}
    contents = {
        "ffreid": {"task": "reid", "parts": trained, "model_state_dict": model},
        "Simple-CCReID": {
            "model_state_dict": model,
            "classifier_state_dict": head,
            "clothes_classifier_state_dict": trained["clothes"],
            "rank1": 0.4,
            "epoch": 59,
        },
        "weights only": model,
    }
    torch.save(contents[form], path)


@pytest.mark.parametrize("form", ["ffreid", "Simple-CCReID", "weights only"])
@pytest.mark.parametrize("sizes", [(3, 5), (4, 5), (4, 6)])
def test_heads_of_other_sizes_are_new(
    trained: dict[str, dict[str, torch.Tensor]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
    sizes: tuple[int, int],
) -> None:
    path = tmp_path / "best.pth"
    save(form, trained, path)
    modules = parts(*sizes)
    before = {name: {k: v.clone() for k, v in s.items()} for name, s in states(modules).items()}
    load(modules, path)
    after = states(modules)
    note = capsys.readouterr().err
    assert f"tensors are initialized from {path}" in note
    has_heads = form != "weights only"
    for key, value in after["net"].items():
        taken = key.startswith("model.") or (has_heads and sizes[0] == 3)
        assert torch.equal(value, (trained if taken else before)["net"][key]), key
        assert (key in note) == (not taken), key
    taken = has_heads and sizes[1] == 5
    expected = (trained if taken else before)["clothes"]["weight"]
    assert torch.equal(after["clothes"]["weight"], expected)
    assert ("clothes.weight" in note) == (not taken)


def test_another_network_is_refused(
    trained: dict[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    save("ffreid", trained, tmp_path / "best.pth")
    modules = parts(3, 5, pooling="gem")
    with pytest.raises(UserError, match=r"best\.pth does not match this network"):
        load(modules, tmp_path / "best.pth")
    torch.save({"task": "pose", "parts": {"net": {}}}, tmp_path / "pose.pth")
    with pytest.raises(UserError, match=r"pose\.pth is a pose checkpoint, not a reid checkpoint"):
        load(modules, tmp_path / "pose.pth")
    torch.save({"model_state": {"a": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="is not a ResNet-50") as caught:
        load(modules, tmp_path / "other.pth")
    assert "--init FILE" in caught.value.hint
