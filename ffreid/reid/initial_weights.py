"""Initial weights of training: ImageNet's, another run's or another program's, or random."""

from collections.abc import Mapping

from torch import nn

from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.contents import State
from ffreid.engine.checkpoints.pretrained import load_except_heads, log_initial, read_parts
from ffreid.reid import convert
from ffreid.reid.model.backbone import load_imagenet


def load_backbone(net: nn.Module, source: str) -> Mapping[str, State]:
    """Load MODEL.BACKBONE into a network; return the parts of another run's checkpoint, else {}.

    `source` is ``imagenet``, ``random``, torchvision's file, or any re-identification checkpoint.

    Raises:
        UserError: the file does not fit the network.
    """
    parts = read_parts(source, convert.identify_network, convert.convert_any)
    if not parts:
        load_imagenet(net, source)
        return {}
    hint = "use a checkpoint of the same MODEL.NAME and MODEL.POOLING.NAME"
    io.load_weights(net, _below(parts["net"], "model."), source, hint)
    return parts


def _below(state: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def load_initial_weights(
    net: nn.Module, heads: Mapping[str, nn.Module | None], source: str
) -> None:
    """Load MODEL.BACKBONE into a `NetworkWithClassifier`, and into the heads whose sizes fit.

    `heads` are the classifiers or memories of clothes by their entry in checkpoints.
    """
    parts = load_backbone(net.get_submodule("model"), source)
    if not parts:
        return
    weights = {"classifier": _below(parts["net"], "classifier."), **parts}
    loaded, new = len(parts["net"]) - len(weights["classifier"]), list[str]()
    for name, module in {"classifier": net.get_submodule("classifier"), **heads}.items():
        if module is not None:
            state = weights.get(name, {})
            count, kept = load_except_heads(module, state, f"{source}, {name},", ("",))
            loaded, new = loaded + count, [*new, *(f"{name}.{line}" for line in kept)]
    log_initial(source, loaded, new)
