"""What convert-ckpt prints about a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ffreid import report
from ffreid.engine.checkpoints.contents import CheckpointContents, NetworkInfo
from ffreid.engine.checkpoints.io import Comparison
from ffreid.engine.checkpoints.repair import count_numbers
from ffreid.errors import UserError
from ffreid.pose import convert as pose
from ffreid.reid import convert as reid

SHOWN = 100
"""Rows of a table: a file may have any number of entries."""
REQUIRED_KEYS = {
    "FFB6D": (pose.SEGMENTATION, pose.KEYPOINTS),
    "an image network of Simple-CCReID": reid.IMAGE_KEYS,
    "a video network of Simple-CCReID": reid.VIDEO_KEYS,
    "a ResNet-34 or ResNet-50 of torchvision": ("layer4.2.conv2.weight", "fc.weight"),
}
"""Keys that a state dict of each supported network has."""


@dataclass(frozen=True)
class ConversionReport:
    """What a file is, and how it was converted; backbones have no `network` or `comparison`.

    `forward` has the shapes of the outputs of ``--check`` by name.
    """

    contents: CheckpointContents
    network: NetworkInfo | None = None
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()
    forward: Mapping[str, tuple[int, ...]] | None = None
    written: Path | None = None


def print_report(
    path: Path, result: ConversionReport, state: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> None:
    """Print what a file is, what is dropped, what it does not determine, and which keys fit.

    `state` is the network's state dict, `settings` are the user's, by key.
    """
    contents, network, comparison = result.contents, result.network, result.comparison
    rows = [("file", contents.kind)]
    if network is not None:
        rows += [("network", network.name), *((k, str(v)) for k, v in network.facts.items())]
    for role, weights in contents.weights.items():
        values = list(weights.values())
        types = {str(v.dtype).removeprefix("torch.") for v in values if v.is_floating_point()}
        size = f"{len(values)} tensors, {count_numbers(values):,} numbers"
        rows.append((f"weights: {role}", ", ".join([size, *sorted(types)])))
    if network is None and state:
        shapes = [f"{key} {tuple(value.shape)}" for key, value in state.items()]
        rows.append(("first and last key", f"{shapes[0]} … {shapes[-1]}"))
    for role, prefixes in contents.prefixes.items():
        rows.append((f"prefixes: {role}", f"{' '.join(prefixes)} removed"))
    rows += [("number", f"{name} {value}") for name, value in contents.numbers.items()]
    rows += [("optimiser", name) for name in contents.optimisers]
    rows += [("setting", f"{key} {value}") for key, value in settings.items()]
    if comparison is not None and not comparison.problems():
        rows.append(("keys", f"all {comparison.total} match"))
    report.show_table(str(path), ("what", "value"), _first(rows))
    if contents.dropped and not contents.is_ffreid:
        report.show_table("dropped", ("entry", "reason"), _first(contents.dropped))
    if network is not None and not contents.is_ffreid:
        unknown = [row for row in network.unknown if not set(row[0].split(", ")) & settings.keys()]
        report.show_table("not in the file", ("what", "set by"), unknown)
    if comparison is not None and comparison.problems():
        columns = ("module", "missing", "unexpected", "wrong shape", "example")
        report.show_table("keys that do not match", columns, _first(comparison.rows()))
    for note in result.notes:
        report.log(f"note: {note}")


def _first(rows: Sequence[Sequence[report.Cell]]) -> list[Sequence[report.Cell]]:
    """The first rows of a table, and a row that counts the rest."""
    more = [("…", f"{len(rows) - SHOWN} more", *[None] * (len(rows[0]) - 2))]
    return [*rows[:SHOWN], *(more if len(rows) > SHOWN else [])]


def unsupported_error(path: Path, contents: CheckpointContents, resnet: str) -> UserError:
    """Return the error for a file without a supported network, or with torchvision's `resnet`."""
    if not contents.weights:
        return UserError(f"{path} contains no weights", "use a file with a state dict")
    if resnet:
        return UserError(
            f"{path} is torchvision's {resnet}, not a network of FFB6D or Simple-CCReID",
            "use it as MODEL.BACKBONE FILE (ResNet-34 for pose, ResNet-50 for reid)",
        )
    keys = {key for state in contents.weights.values() for key in state}
    missing = [
        f"not {name} (no {next(key for key in required if key not in keys)})"
        for name, required in REQUIRED_KEYS.items()
        if not keys.issuperset(required)
    ]
    return UserError(
        f"{path} is not a supported network: {', '.join(missing) or 'wrong tensor shapes'}",
        "convert-ckpt converts checkpoints of FFB6D, Simple-CCReID and their forks",
    )
