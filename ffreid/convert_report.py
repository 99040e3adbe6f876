"""What convert-ckpt says of a file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ffreid import report
from ffreid.engine.checkpoints.contents import CheckpointContents, Facts
from ffreid.engine.checkpoints.io import Comparison
from ffreid.engine.checkpoints.repair import total
from ffreid.pose import convert as pose
from ffreid.reid import convert as reid

SIGNS = {
    "FFB6D": (pose.SEGMENTATION, pose.KEYPOINTS),
    "Simple-CCReID's for pictures": reid.IMAGE_KEYS,
    "Simple-CCReID's for clips": reid.VIDEO_KEYS,
    "torchvision's ResNet-34 or ResNet-50": ("layer4.2.conv2.weight", "fc.weight"),
}
"""Keys without which a state dict is none of the networks that go in here."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a file is, and what became of it.

    Attributes:
        found: what it holds.
        facts: of its network; None where that is none of ours (a backbone).
        comparison: of its keys with the network's; None likewise.
        notes: what was done to it beyond taking it over.
        forward: outputs of the checking forward by name, with shapes; empty where none was asked.
        written: the new file; None where nothing was.
    """

    found: CheckpointContents
    facts: Facts | None = None
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()
    forward: Mapping[str, tuple[int, ...]] | None = None
    written: Path | None = None


def tell(path: Path, told: Report, state: Mapping[str, Tensor], given: Mapping[str, Any]) -> None:
    """Print what a file is, what was dropped of it, what it does not hold, and which keys fit.

    Args:
        path: of the file.
        told: what was found.
        state: the network's state dict.
        given: settings that the user gave, by key.
    """
    found, facts, comparison = told.found, told.facts, told.comparison
    rows = [*_rows(told, state), *(("given", f"{key} {value}") for key, value in given.items())]
    if comparison is not None and comparison.fits:
        rows.append(("keys", f"all {comparison.total} fit"))
    report.show_table(str(path), ("what", "value"), rows)
    if found.dropped and not found.ours:
        report.show_table("dropped", ("entry", "why"), found.dropped)
    if facts is not None and not found.ours:
        unsaid = [row for row in facts.unsaid if not set(row[0].split(", ")) & given.keys()]
        report.show_table("not in the file", ("what", "where it comes from"), unsaid)
    if comparison is not None and not comparison.fits:
        columns = ("module", "missing", "unexpected", "misshapen", "for example")
        report.show_table("keys that do not fit", columns, comparison.rows())
    for note in told.notes:
        report.log(f"note: {note}")


def _rows(told: Report, state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    found, facts = told.found, told.facts
    yield "holds", found.kind
    if facts is not None:
        yield "network", facts.network
        yield from ((name, str(value)) for name, value in facts.told.items())
    for role, own in found.weights.items():
        kinds = {str(v.dtype).removeprefix("torch.") for v in own.values() if v.is_floating_point()}
        size = f"{len(own)} tensors, {total(list(own.values())):,} numbers"
        yield f"weights: {role}", ", ".join([size, *sorted(kinds)])
    if facts is None and state:
        keys = list(state)
        ends = [f"{key} {tuple(state[key].shape)}" for key in (keys[0], keys[-1])]
        yield "first and last key", " … ".join(ends)
    for role, prefixes in found.prefixes.items():
        yield f"prefixes: {role}", f"{' '.join(prefixes)} taken off"
    yield from (("number", f"{name} {value}") for name, value in found.numbers.items())
    yield from (("optimiser", name) for name in found.optimisers)


def refusal(path: Path, found: CheckpointContents, resnet: str) -> tuple[str, str]:
    """Say what a file is not, and what to do.

    Args:
        path: of the file.
        found: in it.
        resnet: its name, where it is one of torchvision's.
    """
    if not found.weights:
        return f"{path} holds no weights", "give a file with a state dict in it"
    if resnet:
        return (
            f"{path} is torchvision's {resnet}, no network of FFB6D or Simple-CCReID",
            "as a backbone pose takes ResNet-34 and reid ResNet-50: MODEL.BACKBONE FILE",
        )
    keys = {key for state in found.weights.values() for key in state}
    lacks = [
        f"not {name} (it has no {next(key for key in signs if key not in keys)})"
        for name, signs in SIGNS.items()
        if not keys.issuperset(signs)
    ]
    return (
        f"{path} is no network of ours: {', '.join(lacks) or 'its shapes are others'}",
        "convert-ckpt takes the checkpoints of FFB6D and Simple-CCReID and of their forks",
    )
