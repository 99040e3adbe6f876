"""Old checkpoints to ours and back, for the command and for whatever loads a file."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid import atomic, report, tasks
from ffreid.config import check_choices, lookup, merge_pairs
from ffreid.convert_report import Report, refusal, tell
from ffreid.engine.checkpoints import contents, io, pretrained
from ffreid.engine.checkpoints.contents import CheckpointContents, Facts
from ffreid.engine.checkpoints.io import Comparison, compare
from ffreid.errors import UserError
from ffreid.tasks import Converter

TARGETS = ("ffreid", "original", "safetensors")
"""What ``--to`` may say."""
ENDINGS = (".pth.tar", ".pth", ".pt", ".th", ".tar", ".ckpt", ".pkl", ".bin", ".safetensors")


def convert(
    old: Path,
    new: Path | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    check: bool = False,
    to: str = "ffreid",
    legacy: bool = False,
    trust_pickle: bool = False,
    settings: Sequence[str] = (),
    weights: str = "",
) -> Report:
    """Recognise a checkpoint, tell what it is, and write it in another form.

    Args:
        old: the file.
        new: where to; by default a name beside `old`.
        force: write over an existing file.
        dry_run: only tell.
        check: build the network, load strictly and run one forward.
        to: of `TARGETS`.
        legacy: with ``original``, the container that PyTorch before 1.6 reads.
        trust_pickle: execute what a pickle in the file says.
        settings: KEY VALUE words for what no file tells.
        weights: of several state dicts in the file, the role to take, e.g. ``ema``.

    Raises:
        UserError: the file is unreadable or no network of ours, its keys do not fit, or `new`
            cannot be written.
    """
    _check_asked(to, legacy=legacy)
    raw = _mapping(io.read(old, trust=trust_pickle), old)
    found = _choose(contents.identify(raw), weights, old)
    claimed = _claimed(found)
    if claimed is None:
        return _without_network(old, new, found, raw, to=to, force=force, dry_run=dry_run)
    room, facts = claimed
    cfg, given = _settings(facts, settings)
    state, ours, notes = _in_our_layout(old, room, raw, found, facts, given)
    net: nn.Module = room.build(facts, cfg)
    comparison = compare(net, state)
    told = Report(found=found, facts=facts, comparison=comparison, notes=tuple(notes))
    tell(old, told, state, given)
    _check_fit(old, comparison)
    forward = _forward(room, net, cfg, state) if check else None
    target = None
    if not dry_run and not (found.ours and to == "ffreid"):
        target = _target(old, new, to, force=force)
        _write(target, _payload(room, facts, ours, state, to), to=to, legacy=legacy)
        report.log(f"written: {target}")
    elif found.ours and to == "ffreid":
        report.log(f"{old} is a checkpoint of ffreid already: nothing to convert")
    return replace(told, forward=forward, written=target)


def load_any(path: Path, task: str, *, say: bool = True) -> dict[str, Any]:
    """Read a checkpoint of `task`, converting an old one in memory and saying so in a line.

    Args:
        path: of the file.
        task: pose or reid.
        say: whether this process says it.

    Raises:
        UserError: it is unreadable, or holds no network of the task.
    """
    raw = _mapping(io.read(path), path)
    state, line = tasks.converter(task).converted(raw, path)
    if line and say:
        report.log(line)
    loaded: dict[str, Any] = state
    return loaded


def _check_asked(to: str, *, legacy: bool) -> None:
    if to not in TARGETS:
        raise UserError(f"--to {to!r} is no form", f"choose one of: {', '.join(TARGETS)}")
    if legacy and to != "original":
        raise UserError("the legacy container is for the authors' code alone", "add --to original")
    if to == "safetensors":
        _safetensors()


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise UserError(
            "--to safetensors needs the package safetensors",
            "type: pip install 'ffreid[safetensors]'",
        ) from error


def _mapping(raw: Any, path: Path) -> Mapping[Any, Any]:
    if isinstance(raw, nn.Module):  # saved whole, and trusted
        return {"state_dict": raw.state_dict()}
    if not isinstance(raw, Mapping):
        raise UserError(
            f"{path} holds a {type(raw).__name__}, no checkpoint",
            "give a file with a state dict in it",
        )
    return raw


def _choose(found: CheckpointContents, weights: str, path: Path) -> CheckpointContents:
    if not weights:
        return found
    if found.ours:
        raise UserError(
            f"{path} is a checkpoint of ffreid, whose averaged weights have files of their own",
            "give best-ema.pth",
        )
    if weights not in found.weights:
        raise UserError(
            f"{path} holds no weights {weights!r}",
            f"it has: {', '.join(found.weights) or 'none'}",
        )
    return contents.taking(found, weights)


def _claimed(found: CheckpointContents) -> tuple[Converter, Facts] | None:
    for task in tasks.TASKS:
        room = tasks.converter(task)
        facts: Facts | None = room.claims(found)
        if facts is not None:
            return room, facts
    return None


def _settings(facts: Facts, words: Sequence[str]) -> tuple[CfgNode, dict[str, Any]]:
    """The task's defaults with what the file and the user tell; and what the user told alone."""
    defaults = tasks.defaults(facts.task)
    cfg = defaults.defaults()
    merge_pairs(cfg, [word for key, v in facts.settings.items() for word in (key, str(v))])
    merge_pairs(cfg, words)
    for key, value in facts.settings.items():
        if lookup(cfg, key) != value:
            raise UserError(
                f"{key} is {lookup(cfg, key)}, the file's keys say {value}", f"leave {key} out"
            )
    check_choices(cfg, defaults.CHOICES)
    return cfg, {key: lookup(cfg, key) for key in words[::2]}


def _in_our_layout(
    old: Path,
    room: Converter,
    raw: Mapping[Any, Any],
    found: CheckpointContents,
    facts: Facts,
    given: Mapping[str, Any],
) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """The network's state dict, the checkpoint in our layout, and what was done."""
    if found.ours:
        return found.weights[facts.role], dict(raw), []
    ours, notes = room.to_ours(found, facts, given)
    ours["converted"]["file"] = old.name
    return room.repaired(found, facts)[0], ours, notes


def _check_fit(path: Path, comparison: Comparison) -> None:
    if comparison.fits:
        return
    counts = {
        "missing": comparison.missing,
        "unexpected": comparison.unexpected,
        "misshapen": comparison.misshapen,
    }
    words = ", ".join(f"{len(keys)} {word}" for word, keys in counts.items() if keys)
    raise UserError(
        f"{path} does not fit: {words} keys, as the table shows",
        "it is of a network that was changed, or a KEY VALUE is another here",
    )


def _forward(
    room: Converter, net: nn.Module, cfg: CfgNode, state: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    net.load_state_dict(state)
    outputs: dict[str, Tensor] = room.run(net, cfg)
    broken = [name for name, value in outputs.items() if not value.isfinite().all()]
    if broken:
        raise UserError(
            f"the network's {', '.join(broken)} are not finite on made-up input",
            "the weights are broken: copy the file again, or give an earlier one",
        )
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    report.log(
        "checked: loaded strictly, one forward, finite: "
        + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    )
    return shapes


def _without_network(
    old: Path,
    new: Path | None,
    found: CheckpointContents,
    raw: Mapping[Any, Any],
    *,
    to: str,
    force: bool,
    dry_run: bool,
) -> Report:
    """Tell of a file without a network of ours, and refuse it unless it is a backbone."""
    told = Report(found=found)
    state = found.weights.get("model", {})
    tell(old, told, state, {})
    name = pretrained.name_of(state)
    usable = {tasks.converter(task).BACKBONE[0]: task for task in tasks.TASKS}
    if name not in usable or to == "original":
        raise UserError(*refusal(old, found, name))
    report.log(f"{old} is torchvision's {name}: a backbone to start training from")
    plain = "model" not in found.prefixes and all(key in raw for key in state)
    target = None
    if not dry_run and (to == "safetensors" or not plain):
        target = _target(old, new, to, force=force)
        _write(target, _tensors(state) if to == "safetensors" else state, to=to, legacy=False)
    report.log(
        f"use it with: ffreid train … MODEL.BACKBONE {target or old} (data sets of {usable[name]})"
    )
    return replace(told, written=target)


def _payload(
    room: Converter, facts: Facts, ours: Mapping[str, Any], state: Mapping[str, Tensor], to: str
) -> Mapping[str, Any]:
    if to == "original":
        original: dict[str, Any] = room.to_original(ours)
        return original
    return ours if to == "ffreid" else _tensors(state)


def _tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with storage of their own each: safetensors refuses shared ones."""
    return {key: value.clone().contiguous() for key, value in state.items()}


def _target(old: Path, new: Path | None, to: str, *, force: bool) -> Path:
    """Where to write, which is nowhere that holds something unless `force` says so."""
    target = new or beside(old, to)
    if target.is_dir():
        raise UserError(f"{target} is a folder", f"name a file: {target / beside(old, to).name}")
    if target.exists() and old.samefile(target):
        raise UserError(f"{target} is the old file itself", "give the new one another name")
    if target.exists() and not force:
        raise UserError(f"{target} exists already", "add --force, or name another file: OLD NEW")
    return target


def beside(old: Path, to: str) -> Path:
    """The name beside `old` that its other form gets."""
    ending = next((e for e in ENDINGS if old.name.lower().endswith(e)), "")
    stem = old.name[: len(old.name) - len(ending)]
    suffix = {"ffreid": ".ffreid.pth", "original": ".original.pth.tar"}.get(to, ".safetensors")
    return old.with_name(stem.removesuffix(".ffreid") + suffix)


def _write(path: Path, payload: Mapping[str, Any], *, to: str, legacy: bool) -> None:
    hint = "free some space or name another file: OLD NEW"
    if to != "safetensors" and not legacy:
        try:
            io.save(path, payload)
        except UserError as error:  # whose hint is a run's
            raise UserError(error.message, hint) from error
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.atomic_write(path) as file:
            if legacy:
                torch.save(dict(payload), file, _use_new_zipfile_serialization=False)
            else:
                file.write(_safetensors().save(payload, metadata={"format": "pt"}))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", hint) from error
