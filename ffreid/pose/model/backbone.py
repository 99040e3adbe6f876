"""ImageNet weights for the colour branch."""

from pathlib import Path

from torch import Tensor, nn

from ffreid.engine import checkpoint
from ffreid.errors import UserError, flat
from ffreid.pose.model.resnet import backbone_name

HINT = (
    "put torchvision's resnet34-b627a593.pth (or the older 333f7ec4) anywhere and set "
    "MODEL.BACKBONE to its path, or train from scratch with MODEL.BACKBONE random"
)


def load_backbone(net: nn.Module, source: str) -> None:
    """Load ResNet-34's ImageNet weights into FFB6D.

    Args:
        net: the network.
        source: ``imagenet`` (torchvision's, fetched or from its cache), ``random`` (leave as is),
            or the path of torchvision's file.

    Raises:
        UserError: the weights can't be had, or are another network's.
    """
    if source == "random":
        return
    if source != "imagenet" and not Path(source).is_file():
        raise UserError(f"MODEL.BACKBONE: no file {source}", HINT)
    state = _from_torchvision() if source == "imagenet" else checkpoint.load(Path(source))
    own = net.state_dict()
    renamed = {
        name: value for key, value in state.items() if (name := backbone_name(key)) is not None
    }
    expected = [key for key in own if key.startswith(("cnn_pre_stages", "cnn_ds_stages.0"))] + [
        key for key in own if key.startswith(("cnn_ds_stages.1", "cnn_ds_stages.2"))
    ]
    # Files older than PyTorch 0.4.1 have no step counters.
    missing = [k for k in expected if k not in renamed and not k.endswith("num_batches_tracked")]
    misshapen = [key for key in renamed if key in own and renamed[key].shape != own[key].shape]
    unknown = [key for key in renamed if key not in own]
    if missing or misshapen or unknown:
        problem = (missing or misshapen or unknown)[0]
        raise UserError(f"MODEL.BACKBONE {source} is no ResNet-34 (look at {problem})", HINT)
    net.load_state_dict(own | renamed)


def _from_torchvision() -> dict[str, Tensor]:
    from torchvision.models import ResNet34_Weights

    try:
        state: dict[str, Tensor] = ResNet34_Weights.IMAGENET1K_V1.get_state_dict(
            progress=False, check_hash=True
        )
    except Exception as error:
        # urllib, socket, hash and file errors alike: the weights can't be had.
        raise UserError(
            f"ResNet-34's ImageNet weights could not be fetched: {flat(str(error))}", HINT
        ) from error
    return state
