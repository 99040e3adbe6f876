"""Flags that several commands share, and what they refuse together."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ffreid.errors import UserError
from ffreid.report import log

Dataset = Annotated[
    str, typer.Option(help="ycb, linemod, toy-pose; ltcc, prcc, ccvid, …, folder, toy-reid.")
]
Root = Annotated[
    Path | None, typer.Option(help="Folder that holds the data set's folder, or is it.")
]
Recipe = Annotated[
    Path | None, typer.Option("--cfg", help="YAML file of settings, or a recipe's name.")
]
Output = Annotated[Path | None, typer.Option(help="Folder of runs.")]
Tag = Annotated[str | None, typer.Option(help="Name of this run.")]
Cls = Annotated[str | None, typer.Option(help="pose: LineMOD's object, one network each.")]
Gpu = Annotated[str | None, typer.Option(help="Devices that may be used, e.g. 0,1.")]
Pairs = Annotated[list[str] | None, typer.Argument(metavar="[KEY VALUE]...", help="Settings.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the results there too.")]

AUTO: Literal["auto"] = "auto"
"""What --resume says for the newest sound checkpoint of the run folder."""
OPT_LEVELS = {"O0": False, "O1": True, "O2": True, "O3": True}
"""What --opt_level of the original scripts (apex's) may say, and whether it is --amp today."""

TASKS = {
    "--cls": "pose",
    "--test-gt": "pose",
    "--predictions": "pose",
    "--truth": "pose",
    "--frames": "pose",
    "--save-features": "reid",
    "--features": "reid",
    "--rerank": "reid",
}
"""Flags that one task alone has."""


def choose_devices(gpu: str | None, *, several: str = "") -> None:
    """Show this process only the devices that ``--gpu`` names; call it before torch is imported.

    Args:
        gpu: what the flag says.
        several: what uses {count} devices, where this command uses one.

    Raises:
        UserError: it names none.
    """
    if gpu is None:
        return
    names = [name.strip() for name in gpu.split(",") if name.strip()]
    if not names or not all(name.isdecimal() for name in names):
        raise UserError(f"--gpu {gpu!r} is no list of devices", "write e.g. --gpu 0 or --gpu 0,1")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    if len(names) > 1 and "WORLD_SIZE" not in os.environ and several:
        log(
            f"note: one process uses one device, the first of --gpu {gpu}; for all of them "
            f"{several.format(count=len(names))}"
        )


def train_settings(
    *,
    amp: bool,
    precision: str | None,
    opt_level: str | None,
    deterministic: bool,
    tensorboard: bool,
    overfit: int | None,
) -> list[str]:
    """Give the settings that flags of training stand for.

    Raises:
        UserError: two of them contradict each other.
    """
    named = [
        flag
        for flag, value in (("--amp", amp), ("--precision", precision), ("--opt_level", opt_level))
        if value
    ]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)} both choose the precision", f"keep {named[0]}")
    settings = precision_of(opt_level)
    settings += ["TRAIN.PRECISION", "amp"] if amp else []
    settings += ["TRAIN.PRECISION", precision] if precision else []
    settings += ["TRAIN.DETERMINISTIC", "true"] if deterministic else []
    settings += ["TRAIN.TENSORBOARD", "true"] if tensorboard else []
    settings += ["TRAIN.OVERFIT", str(overfit)] if overfit else []
    return settings


def checkpoint_to_resume(named: str | None) -> Path | Literal["auto"] | None:
    """Give what ``--resume`` names: an existing file, or ``auto``.

    Raises:
        UserError: there is no such file.
    """
    if named is None or named == AUTO:
        return AUTO if named else None
    path = Path(named)
    check_file(path, "checkpoint", "last.pth, or --resume auto")
    return path


def refuse_idle_in_training(given: Mapping[str, Any]) -> None:
    """Refuse flags of ``train`` that would do nothing beside each other.

    Raises:
        UserError: naming two.
    """
    exclusive = ("--dry-run", "--profile", "--eval")
    found = [flag for flag in exclusive if given[flag]]
    if given["--gpus"] is not None and "WORLD_SIZE" in os.environ:
        raise UserError(
            "--gpus starts processes, and torchrun has started this one already",
            "leave --gpus out, or torchrun",
        )
    if len(found) > 1:
        raise UserError(f"{found[0]} does nothing with {found[1]}", f"leave {found[0]} out")


def precision_of(opt_level: str | None) -> list[str]:
    """Settings that ``--opt_level`` stands for; say that it is spelled otherwise today.

    Raises:
        UserError: apex knows no such level.
    """
    if opt_level is None:
        return []
    if opt_level not in OPT_LEVELS:
        raise UserError(
            f"--opt_level {opt_level} is none of {', '.join(OPT_LEVELS)}",
            "leave it out, and say --amp for half precision",
        )
    if not OPT_LEVELS[opt_level]:
        log(f"note: --opt_level {opt_level} is deprecated: single precision is the default")
        return ["TRAIN.PRECISION", "fp32"]
    log(
        f"note: --opt_level {opt_level} is deprecated and means --amp: O1 to O3 differed in what "
        "apex cast, autocast has one way"
    )
    return ["TRAIN.PRECISION", "amp"]


def refuse_foreign(task: str, dataset: str, given: Mapping[str, Any]) -> None:
    """Refuse flags of another task.

    Args:
        task: the data set's.
        dataset: its name.
        given: values of flags, by flag.

    Raises:
        UserError: naming the first that is set.
    """
    for flag, value in given.items():
        if value and TASKS.get(flag, task) != task:
            raise UserError(f"{flag} does nothing for {dataset}", f"leave {flag} out")


def refuse_idle(given: Mapping[str, Any]) -> None:
    """Refuse flags that would do nothing beside the others.

    Raises:
        UserError: naming them.
    """
    if given["--predictions"] is not None:
        idle, reason = ["--checkpoint", "--test-gt", "--pictures"], "with --predictions"
    elif given["--features"] is not None:
        idle = ["--checkpoint", "--pictures", "--save-features"]
        reason = "with --features, which needs no network"
    else:
        idle, reason = ["--truth", "--frames"], "without --predictions"
        if given["--test-gt"] and given["--checkpoint"]:
            idle, reason = ["--checkpoint"], "with --test-gt, which needs no network"
    found = [flag for flag in idle if given[flag]]
    if found:
        raise UserError(f"{', '.join(found)} does nothing {reason}", f"leave {found[0]} out")


def check_pairs_after_file(words: Sequence[str]) -> None:
    """Refuse words of ``[FILE] [KEY VALUE]...`` that miss a value or name two files.

    Raises:
        UserError: naming the word.
    """
    key = re.compile(r"[A-Z0-9_]+(\.[A-Z0-9_]+)+")
    file, pairs = words[: len(words) % 2], words[len(words) % 2 :]
    for word in file:
        if key.fullmatch(word):
            raise UserError(f"{word} has no value", f"write e.g. {word} VALUE")
    for word in pairs[::2]:
        if not key.fullmatch(word):
            raise UserError(
                f"{word} is neither the one file to write nor a setting",
                "write OLD [NEW] [KEY VALUE]..., e.g. old.pth.tar new.pth MODEL.POOLING.NAME avg",
            )


def check_file(path: Path | None, what: str, example: str) -> None:
    """Refuse a file that does not exist.

    Raises:
        UserError: naming it.
    """
    if path is not None and not path.is_file():
        raise UserError(f"no {what} {path}", f"give an existing file, e.g. {example}")
