"""Initial weights of training: ImageNet's, another run's or another program's, or random."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.contents import identify
from ffreid.engine.checkpoints.pretrained import load_except_heads, log_initial
from ffreid.reid import convert
from ffreid.reid.model.backbone import load_backbone


def load_initial_weights(parts: Mapping[str, nn.Module | None], source: str) -> None:
    """Load MODEL.BACKBONE into the parts of a task: its network, and its heads if their sizes fit.

    Args:
        parts: ``net``, a `NetworkWithClassifier`, and ``clothes`` or ``memory``, if not None.
        source: ``imagenet``, ``random``, torchvision's file, or any re-identification checkpoint.

    Raises:
        UserError: the file does not fit the network.
    """
    path = Path(source)
    raw = io.load(path) if path.is_file() else {}
    if raw and convert.identify_network(identify(raw)) is None:
        raw = {}
    if not raw:
        net = parts["net"]
        assert net is not None
        load_backbone(net.get_submodule("model"), source)
        return
    state, _ = convert.convert_any(raw, path)
    loaded, new = 0, list[str]()
    for name, module in parts.items():
        if module is None:
            continue
        heads = ("classifier.",) if name == "net" else ("",)
        weights = state["parts"].get(name, {})
        count, kept = load_except_heads(module, weights, f"{source}, entry {name!r},", heads)
        loaded, new = loaded + count, [*new, *(f"{name}.{line}" for line in kept)]
    log_initial(source, loaded, new)
