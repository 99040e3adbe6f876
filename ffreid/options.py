"""Flags that several commands share, and what they refuse together."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ffreid.errors import UserError
from ffreid.report import say

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

TASKS = {
    "--cls": "pose",
    "--test-gt": "pose",
    "--predictions": "pose",
    "--truth": "pose",
    "--frames": "pose",
    "--amp": "reid",
    "--save-features": "reid",
    "--features": "reid",
    "--rerank": "reid",
}
"""Flags that one task alone has."""


def choose_devices(gpu: str | None) -> None:
    """Show this process only the devices that ``--gpu`` names; call it before torch is imported.

    Raises:
        UserError: it names none.
    """
    if gpu is None:
        return
    names = [name.strip() for name in gpu.split(",") if name.strip()]
    if not names or not all(name.isdecimal() for name in names):
        raise UserError(f"--gpu {gpu!r} is no list of devices", "write e.g. --gpu 0 or --gpu 0,1")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    if len(names) > 1 and "WORLD_SIZE" not in os.environ:
        say(
            f"note: one process uses one device, the first of --gpu {gpu}; for all of them: "
            f"torchrun --nproc-per-node {len(names)} -m ffreid …"
        )


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


def check_file(path: Path | None, what: str, example: str) -> None:
    """Refuse a file that does not exist.

    Raises:
        UserError: naming it.
    """
    if path is not None and not path.is_file():
        raise UserError(f"no {what} {path}", f"give an existing file, e.g. {example}")
