"""Options that several commands share, and checks of their combinations."""

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ffreid import files
from ffreid.errors import UserError
from ffreid.recipes import recipes
from ffreid.report import log

DATA, RUN, NUMBERS, DEBUG = "Data", "Run", "Precision and reproducibility", "Debugging"
POSE, REID = "Pose only", "Re-ID only"
"""Panels of the help."""
TASK_OPTIONS = {
    "pose": ("--cls", "--objects", "--test-gt", "--predictions", "--truth", "--frames"),
    "reid": ("--save-features", "--features", "--rerank", "--engine"),
}
NO_EFFECT_WITH = {
    "--predictions": (
        "--checkpoint",
        "--test-gt",
        "--pictures",
        "--precision",
        "--report",
        "--calibrate",
    ),
    "--features": (
        "--checkpoint",
        "--pictures",
        "--save-features",
        "--precision",
        "--engine",
        "--calibrate",
    ),
    "--test-gt": ("--checkpoint", "--precision", "--calibrate"),
    "--eval": ("--dry-run", "--profile"),
    "--dry-run": ("--profile",),
}
NO_EFFECT_WITHOUT = {"--predictions": ("--truth", "--frames"), "--show": ("--output",)}
KEY = re.compile(r"[A-Z0-9_]+(\.[A-Z0-9_]+)+")
NEGATIVE = re.compile(r"-(\d|\.\d|inf$)\S*")
PAIRS = {"ignore_unknown_options": True}
"""Context settings of commands with KEY VALUE pairs, see `accept_negative_numbers`."""


def option(help: str, *names: str, panel: str | None = None, **more: Any) -> Any:
    """Declare an option with its help, in a panel of the help page."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def accept_negative_numbers(context: typer.Context, values: list[str] | None) -> list[str]:
    """Pass negative numbers on, which click takes for options, and refuse unknown options."""
    options = [name for param in context.command.params for name in param.opts if name[0] == "-"]
    for value in values or []:
        if value.startswith("-") and not NEGATIVE.fullmatch(value):
            name = value.partition("=")[0]
            close = get_close_matches(name, options, n=1)
            hint = f"did you mean {close[0]}?" if close else f"see {context.command_path} --help"
            raise UserError(f"no such option: {name}", hint)
    return values or []


Dataset = Annotated[str, option(f"Dataset: {', '.join(recipes())}.", panel=DATA)]
Root = Annotated[
    Path | None, option("The dataset's folder or its parent; default: $FFREID_DATA.", panel=DATA)
]
Cls = Annotated[
    str | None, option("LineMOD: ape, or ape,cat, or all; BOP: 1,5; toy-pose: duck.", panel=DATA)
]
OBJECTS = "Object set of ffreid objects (BOP), instead of the dataset's models."
Objects = Annotated[Path | None, option(OBJECTS, "--objects", panel=DATA)]
Recipe = Annotated[Path | None, option("YAML file, or the name of a recipe.", "--cfg", panel=RUN)]
Output = Annotated[Path | None, option("Folder for runs; default: runs.", panel=RUN)]
Tag = Annotated[str | None, option("Name of the run; results go to OUTPUT/DATASET/TAG.", panel=RUN)]
Resume = Annotated[
    str | None, option("Checkpoint to resume from, or auto for the latest.", panel=RUN)
]
CHECKPOINT = "Checkpoint to evaluate; default: best.pth of the run, else last.pth."
Init = Annotated[
    Path | None,
    option(
        "Checkpoint whose weights training starts from; heads of other sizes are new.", panel=RUN
    ),
]
DataChanged = Annotated[
    bool,
    option("Resume even if the data have changed.", "--data-changed", panel=RUN),
]
Checkpoint = Annotated[Path | None, option(CHECKPOINT, "--checkpoint", "--resume", panel=RUN)]
Gpu = Annotated[str | None, option("GPUs to use, e.g. 0 or 0,1.", panel=RUN)]
Gpus = Annotated[int | None, option("Number of processes to launch, one per device.", panel=RUN)]
TensorBoard = Annotated[
    bool, option("Also write TensorBoard event files.", "--tensorboard", panel=RUN)
]
EvaluateOnly = Annotated[
    bool, option("Only evaluate the checkpoint of --resume.", "--eval", panel=RUN)
]
Precision = Annotated[
    str | None,
    option("Data type: fp32 (default) or fp64; fp16 or bf16 for mixed precision.", panel=NUMBERS),
]
TestPrecision = Annotated[
    str | None,
    option("Network's data type: fp32 (default), or bf16.", "--precision", panel=NUMBERS),
]
ENGINE = "What computes features: torch (default), or openvino on CPUs."
Engine = Annotated[str | None, option(ENGINE, panel=REID)]
Amp = Annotated[
    bool,
    option("Mixed precision: bf16; without it fp16 on GPUs, fp32 on CPUs.", "--amp", panel=NUMBERS),
]
OptLevel = Annotated[
    str | None, option("Deprecated apex option; O1 to O3 mean --amp.", "--opt_level", panel=NUMBERS)
]
Deterministic = Annotated[
    bool, option("Use only deterministic GPU kernels (slower).", "--deterministic", panel=NUMBERS)
]
Overfit = Annotated[int | None, option("Train on only this many samples.", panel=DEBUG, min=1)]
DRY_RUN = "Run one training step and one evaluation batch; write nothing."
DryRun = Annotated[bool, option(DRY_RUN, "--dry-run", panel=DEBUG)]
Profile = Annotated[
    int, option("Number of steps to trace with torch.profiler.", panel=DEBUG, min=0)
]
Pictures = Annotated[int, option("Number of images to draw: poses, or rank lists.", min=0)]
Report = Annotated[Path | None, option("Also write an HTML page with figures.", "--report")]
JsonFile = Annotated[Path | None, option("Also write the results to this JSON file.", "--json")]
CALIBRATE = "Write what scores (pose) or cosines (re-ID) mean beside the checkpoint."
Calibrate = Annotated[bool, option(CALIBRATE, "--calibrate")]
CHECK = "Read all files and list mistakes, each with its remedy; exit code 1 if there are any."
Check = Annotated[bool, option(CHECK, "--check", panel=DATA)]
SHOW = "Number of samples to draw as the network gets them."
Show = Annotated[int, option(SHOW, panel=DATA, min=0)]
SAMPLES = "Folder for the images of --show; default: runs/DATASET/samples."
Samples = Annotated[Path | None, option(SAMPLES, "--output", panel=DATA)]
TEST_GT = "Use ground-truth labels and offsets instead of predictions."
TestGt = Annotated[bool, option(TEST_GT, "--test-gt", panel=POSE)]
PREDICTIONS = "Poses to score: text files' folder, a BOP CSV file, or LineMOD's runs' folder."
Predictions = Annotated[Path | None, option(PREDICTIONS, panel=POSE)]
Truth = Annotated[Path | None, option("Ground-truth poses for --predictions.", panel=POSE)]
Frames = Annotated[Path | None, option("File that lists the frames of --predictions.", panel=POSE)]
SaveFeatures = Annotated[
    Path | None, option("Write features and labels to this .npz file.", panel=REID)
]
Features = Annotated[Path | None, option("Evaluate this file of --save-features.", panel=REID)]
Rerank = Annotated[
    bool, option("Also evaluate with k-reciprocal re-ranking.", "--rerank", panel=REID)
]
Pairs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY VALUE",
        help="Settings that override the recipe, e.g. SEED 1 TRAIN.LOG_EVERY 50.",
        callback=accept_negative_numbers,
    ),
]


def choose_devices(gpu: str | None, *, several: str = "") -> None:
    """Restrict this process to the devices of ``--gpu``; call it before torch is imported.

    `several` says how to use {count} devices, where this command uses one.
    """
    if gpu is None:
        return
    names = [name.strip() for name in gpu.split(",") if name.strip()]
    if not names or not all(name.isdecimal() for name in names):
        raise UserError(f"--gpu {gpu!r} is not a list of devices", "use e.g. --gpu 0 or --gpu 0,1")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    if len(names) > 1 and "WORLD_SIZE" not in os.environ and several:
        log(
            f"note: one process uses only one device, the first of --gpu {gpu}; to use all, "
            f"{several.format(count=len(names))}"
        )


def precision(amp: bool, name: str | None, opt_level: str | None) -> list[str]:
    """Convert ``--amp``, ``--precision`` and apex's ``--opt_level`` to settings."""
    options = {"--precision": name, "--amp": amp, "--opt_level": opt_level}
    if len(given := [option for option, value in options.items() if value]) > 1:
        raise UserError(f"{given[0]} and {given[1]} cannot be combined", f"remove {given[1]}")
    if opt_level is not None:
        if opt_level not in ("O0", "O1", "O2", "O3"):
            raise UserError(f"unknown --opt_level {opt_level!r}", "use --amp, or O0 to O3")
        name = "fp32" if opt_level == "O0" else "amp"
        new = "--precision fp32, the default" if opt_level == "O0" else "--amp"
        log(f"note: --opt_level {opt_level} is deprecated; use {new}")
    name = "amp" if amp else name
    return ["TRAIN.PRECISION", name] if name else []


def checkpoint_to_resume(name: str | None) -> Path | Literal["auto"] | None:
    """Convert the value of ``--resume``: an existing file, or ``auto``."""
    if name is None or name == "auto":
        return "auto" if name else None
    check_file(Path(name), "checkpoint", "last.pth, or --resume auto")
    return Path(name)


def initial_weights(init: Path | None, resume: str | None, pairs: Sequence[str]) -> list[str]:
    """Convert the value of ``--init``, an existing file, to settings."""
    if init is None:
        return []
    others = ["MODEL.BACKBONE"] * ("MODEL.BACKBONE" in pairs[::2])
    others += [f"--resume {resume}"] * (resume not in (None, "auto"))
    if others:
        raise UserError(f"--init and {others[0]} cannot be combined", f"remove {others[0]}")
    check_file(init, "checkpoint", "best.pth of a run")
    return ["MODEL.BACKBONE", str(init)]


def check_options(task: str, dataset: str, values: Mapping[str, Any]) -> None:
    """Refuse options (false where not set) of the other task, and those without effect here."""
    reasons = [
        (option, f"for {dataset}")
        for other, options in TASK_OPTIONS.items()
        for option in options
        if other != task
    ]
    for other, options in NO_EFFECT_WITH.items():
        reasons += [(option, f"with {other}") for option in options if values.get(other)]
    for other, options in NO_EFFECT_WITHOUT.items():
        if not values.get(other, True):  # of a command that has it
            reasons += [(option, f"without {other}") for option in options]
    for option, reason in reasons:
        if values.get(option):
            raise UserError(f"{option} has no effect {reason}", f"remove {option}")


def check_pairs_after_file(values: Sequence[str]) -> None:
    """Refuse ``[FILE] [KEY VALUE]...`` with a missing value or a second file."""
    file, pairs = values[: len(values) % 2], values[len(values) % 2 :]
    for value in file:
        if KEY.fullmatch(value):
            raise UserError(f"{value} has no value", f"use e.g. {value} VALUE")
    for key in pairs[::2]:
        if not KEY.fullmatch(key):
            raise UserError(
                f"{key} is not a setting, and there can be only one output file",
                "use OLD [NEW] [KEY VALUE]..., e.g. old.pth.tar new.pth MODEL.POOLING.NAME avg",
            )


def check_file(path: Path | None, kind: str, example: str) -> None:
    """Refuse a file that does not exist, or is none."""
    if path is not None:
        files.check_file(path, kind, f"use an existing file, e.g. {example}")
