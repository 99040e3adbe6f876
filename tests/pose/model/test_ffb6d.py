"""The network: outputs recorded from the original, sizes, pretrained weights."""

from pathlib import Path

import pytest
import torch
from torchvision.models import resnet34

from ffreid.errors import UserError
from ffreid.pose.convert import ALIASES
from ffreid.pose.model.ffb6d import FFB6D, set_point_momentum
from ffreid.pose.model.resnet import load_backbone
from tests.pose.model.recipes import as_inputs, fill, raw_inputs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> FFB6D:
    net = FFB6D(2)
    fill(net)
    return net.eval()


def test_outputs_are_those_of_the_original(net: FFB6D) -> None:
    inputs = as_inputs(raw_inputs(1002, 1, 104, 136, 1100, 2)).to(CPU)
    with torch.inference_mode():
        outputs = net(inputs)
    recorded = {
        "segmentation": [-0.13538016, -0.13652800, -0.08054044, -0.11295120],
        "keypoint_offsets": [1.42958784, -2.47688746, -1.67796803, 1.45115519],
        "centre_offsets": [1.25730050, 0.93371248, 0.11670445, 1.27672946],
    }
    for name, values in recorded.items():
        ours = getattr(outputs, name).flatten()[:4]
        torch.testing.assert_close(ours, torch.tensor(values), rtol=0, atol=1e-4)


def test_numbers_of_parameters_and_aliases_are_the_originals() -> None:
    for classes, parameters in ((2, 33_850_392), (22, 33_852_972)):
        net = FFB6D(classes)
        state = net.state_dict()
        assert (sum(p.numel() for p in net.parameters()), len(state)) == (parameters, 684)
    for alias, name in ALIASES.items():
        assert state[alias].data_ptr() == state[name].data_ptr()


def test_every_parameter_is_trained_for_any_number_of_classes_and_keypoints() -> None:
    net = FFB6D(7, keypoints=5)
    outputs = net(as_inputs(raw_inputs(0, 2, 64, 64, 1024, 7)).to(CPU))
    assert outputs.segmentation.shape[1] == 7
    assert outputs.keypoint_offsets.shape == (2, 5, 1024, 3)
    total = outputs.segmentation.sum() + outputs.keypoint_offsets.sum()
    torch.autograd.backward(total + outputs.centre_offsets.sum())
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_point_momentum_is_set_in_the_point_branch_alone() -> None:
    net = FFB6D(2)
    set_point_momentum(net, 0.2)
    momenta = {
        (name.startswith("rndla_"), module.momentum)
        for name, module in net.named_modules()
        if hasattr(module, "momentum")
    }
    assert momenta == {(True, 0.2), (False, 0.1)}


def test_imagenet_weights_come_from_torchvisions_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "resnet34.pth"
    expected = resnet34(weights=None).state_dict()
    torch.save(expected, file)
    net = FFB6D(2)
    load_backbone(net, str(file))
    ours = net.state_dict()
    pairs = {
        "cnn_pre_stages.0.weight": "conv1.weight",
        "cnn_ds_stages.1.3.bn2.running_var": "layer2.3.bn2.running_var",
        "cnn_ds_stages.2.1.0.downsample.0.weight": "layer4.0.downsample.0.weight",
    }
    for key, name in pairs.items():
        torch.testing.assert_close(ours[key], expected[name], rtol=0, atol=0)
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match="is not a ResNet-34") as caught:
        load_backbone(net, str(file))
    assert "MODEL.BACKBONE random" in caught.value.hint
