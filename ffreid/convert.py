"""Converting old checkpoints to ffreid's format and back, on the command line and when loading."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid import atomic, report, tasks
from ffreid.config import check_choices, lookup, merge_pairs
from ffreid.convert_report import ConversionReport, print_report, unsupported_error
from ffreid.engine.checkpoints import io, pretrained
from ffreid.engine.checkpoints.contents import CheckpointContents, NetworkInfo, identify
from ffreid.engine.checkpoints.io import compare
from ffreid.engine.checkpoints.reader import import_safetensors
from ffreid.engine.checkpoints.repair import repair_state
from ffreid.errors import UserError
from ffreid.tasks import Converter

FORMATS = ("ffreid", "original", "safetensors")
"""Choices of ``--to``."""
WRITE_HINT = "free disk space or use another output file"
SUFFIXES = (".pth.tar", ".pth", ".pt", ".th", ".tar", ".ckpt", ".pkl", ".bin", ".safetensors")


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
) -> ConversionReport:
    """Identify a checkpoint, print what it contains, and write it in another format.

    The arguments are those of ``ffreid convert-ckpt``; by default `new` is next to `old`, and
    `settings` are KEY VALUE pairs for what the file does not determine.

    Raises:
        UserError: the file is unreadable or not a supported network, its keys do not match, or
            `new` cannot be written.
    """
    if to not in FORMATS:
        raise UserError(f"unknown format --to {to!r}", f"choose one of: {', '.join(FORMATS)}")
    if legacy and to != "original":
        raise UserError("--legacy needs --to original", "add --to original")
    if to == "safetensors":
        import_safetensors("--to safetensors")
    if new is not None and not dry_run:
        _check_target(old, new, to, force=force)
    raw = io.load(old, trust=trust_pickle)
    contents = _select_weights(identify(raw), weights, old)
    write = partial(_write, old, new, to=to, legacy=legacy, force=force)
    for task in tasks.TASKS:
        converter = tasks.converter(task)
        if (info := converter.identify_network(contents)) is not None:
            break
    else:
        return _convert_backbone(old, contents, raw, to, None if dry_run else write)
    cfg = _configuration(info, settings)
    user_settings = {key: lookup(cfg, key) for key in settings[::2]}
    checkpoint, state, notes = raw, contents.weights[info.role], list[str]()
    if not contents.is_ffreid:
        checkpoint, notes = converter.to_ffreid(contents, info, user_settings)
        checkpoint["converted"]["file"] = old.name
        state = repair_state(state, converter.ALIASES)[0]
    net = converter.build(info, cfg)
    comparison = compare(net, state)
    result = ConversionReport(contents, info, comparison, tuple(notes))
    print_report(old, result, state, user_settings)
    if problems := comparison.problems():
        message = f"{old} does not match the network: {problems}"
        raise UserError(message, "the network was modified, or a KEY VALUE is wrong")
    if check:
        result = replace(result, forward=_check_forward(converter, net, cfg, state))
    if contents.is_ffreid and to == "ffreid":
        report.log(f"{old} is already a checkpoint of ffreid: nothing to convert")
    elif not dry_run:
        target = write(converter.to_original(checkpoint) if to == "original" else checkpoint, state)
        report.log(f"written: {target}")
        result = replace(result, written=target)
    return result


def load_any(path: Path, task: str, *, log: bool = True) -> dict[str, Any]:
    """Load a checkpoint of `task`, converting an old one in memory; log this if `log`."""
    state, note = tasks.converter(task).convert_any(io.load(path), path)
    if note and log:
        report.log(note)
    return state


def _select_weights(contents: CheckpointContents, weights: str, path: Path) -> CheckpointContents:
    if not weights:
        return contents
    if contents.is_ffreid:
        message = f"{path} is a checkpoint of ffreid, which saves EMA weights in separate files"
        raise UserError(message, "use best-ema.pth")
    if weights not in contents.weights:
        roles = ", ".join(contents.weights) or "none"
        raise UserError(f"{path} contains no weights named {weights!r}", f"choose one of: {roles}")
    rest = {role: s for role, s in contents.weights.items() if role not in (weights, "model")}
    return replace(contents, weights={"model": contents.weights[weights], **rest})


def _configuration(info: NetworkInfo, pairs: Sequence[str]) -> CfgNode:
    """Return the task's defaults with the settings of the file and the user."""
    defaults = tasks.defaults(info.task)
    cfg = defaults.defaults()
    for key, value in info.settings.items():
        merge_pairs(cfg, [key, str(value)])
    merge_pairs(cfg, pairs)
    for key, value in info.settings.items():
        if (other := lookup(cfg, key)) != value:
            message = f"{key} is {other}, but the file's keys imply {value}"
            raise UserError(message, f"remove {key}")
    check_choices(cfg, defaults.CHOICES)
    return cfg


def _check_forward(
    converter: Converter, net: nn.Module, cfg: CfgNode, state: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    net.load_state_dict(state)
    outputs = converter.run(net, cfg)
    if broken := [name for name, value in outputs.items() if not value.isfinite().all()]:
        raise UserError(
            f"the network's {', '.join(broken)} is not finite for random input",
            "the weights are damaged: copy the file again or use an earlier checkpoint",
        )
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    report.log(f"check passed: loaded strictly, one forward pass, all outputs finite: {listed}")
    return shapes


def _convert_backbone(
    old: Path,
    contents: CheckpointContents,
    raw: Mapping[Any, Any],
    to: str,
    write: Callable[..., Path] | None,
) -> ConversionReport:
    """Report a file without a network of FFB6D or Simple-CCReID; refuse all but backbones."""
    result = ConversionReport(contents)
    state = contents.weights.get("model", {})
    print_report(old, result, state, {})
    name = pretrained.name_of_resnet(state)
    usable = dict(tasks.converter(task).BACKBONE for task in tasks.TASKS)
    if name not in usable or to == "original":
        raise unsupported_error(old, contents, name)
    report.log(f"{old} is torchvision's {name}: a pretrained backbone")
    is_bare = "model" not in contents.prefixes and all(key in raw for key in state)
    if write is not None and (to == "safetensors" or not is_bare):
        result = replace(result, written=write(state, state))
    use = f"ffreid train … MODEL.BACKBONE {result.written or old}"
    report.log(f"use it with: {use} ({usable[name]} datasets)")
    return result


def default_target(old: Path, to: str) -> Path:
    """Return the path next to `old` for its other format."""
    suffix = next((end for end in SUFFIXES if old.name.lower().endswith(end)), "")
    stem = old.name[: len(old.name) - len(suffix)].removesuffix(".ffreid")
    new = {"ffreid": ".ffreid.pth", "original": ".original.pth.tar"}.get(to, ".safetensors")
    return old.with_name(stem + new)


def _check_target(old: Path, path: Path, to: str, *, force: bool) -> None:
    """Check that the new file can be written, and that no other is lost by that."""
    if path.is_dir():
        hint = f"use a file, e.g. {path / default_target(old, to).name}"
        raise UserError(f"{path} is a folder", hint)
    if path.exists() and old.samefile(path):
        raise UserError(f"{path} is the input file", "choose another name for the new one")
    if path.exists() and not force:
        raise UserError(f"{path} already exists", "add --force, or use another output file")
    try:
        atomic.check_writable(path, stream=False, magic=b"")
    except UserError as error:
        raise UserError(error.message, WRITE_HINT) from error


def _write(
    old: Path,
    new: Path | None,
    payload: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    to: str,
    legacy: bool,
    force: bool,
) -> Path:
    """Write `payload`, or `state` as safetensors, and return the path."""
    path = new or default_target(old, to)
    _check_target(old, path, to, force=force)
    try:
        if to != "safetensors" and not legacy:
            io.save(path, payload)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.atomic_write(path) as file:
            if legacy:
                torch.save(dict(payload), file, _use_new_zipfile_serialization=False)
            else:
                # Copied: safetensors refuses shared tensors.
                tensors = {key: value.clone().contiguous() for key, value in state.items()}
                save = import_safetensors("--to safetensors").save
                file.write(save(tensors, metadata={"format": "pt"}))
    except UserError as error:  # its hint is for training
        raise UserError(error.message, WRITE_HINT) from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", WRITE_HINT) from error
    return path
