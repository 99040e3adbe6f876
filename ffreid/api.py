"""The Python API: models by the names of the command line, and checkpoints."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, overload

import torch

from ffreid import convert, tasks
from ffreid.engine.checkpoints import io as checkpoints
from ffreid.engine.specs import Symbol, TensorSpec
from ffreid.errors import UserError, flat
from ffreid.pose.predictor import Pose, PoseModel
from ffreid.recipes import compose
from ffreid.reid.predictor import ReidModel
from ffreid.tasks import TaskName

__all__ = [
    "Pose",
    "PoseModel",
    "ReidModel",
    "Symbol",
    "TensorSpec",
    "UserError",
    "create_model",
    "load_checkpoint",
]

PoseData = Literal["ycb", "linemod", "toy-pose"]
ReidData = Literal[
    "ltcc",
    "prcc",
    "vcclothes",
    "vcclothes_sc",
    "vcclothes_cc",
    "last",
    "deepchange",
    "market1501",
    "folder",
    "ccvid",
    "toy-reid",
    "toy-reid-video",
]


@overload
def create_model(
    dataset: PoseData,
    checkpoint: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    cls: str | None = None,
    cfg: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> PoseModel: ...
@overload
def create_model(
    dataset: ReidData,
    checkpoint: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    cls: str | None = None,
    cfg: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> ReidModel: ...
@overload
def create_model(
    dataset: str,
    checkpoint: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    cls: str | None = None,
    cfg: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> PoseModel | ReidModel: ...
def create_model(
    dataset: str,
    checkpoint: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    cls: str | None = None,
    cfg: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> PoseModel | ReidModel:
    """Make the network of a data set's recipe, in evaluation mode; the data set need not be there.

    Args:
        dataset: as ``ffreid --dataset``: ``ycb``, ``linemod`` and ``toy-pose`` give a `PoseModel`,
            ``ltcc``, ``ccvid`` and the other sets of people a `ReidModel`.
        checkpoint: of a run, or one of the authors' (converted in memory, which is said in a
            line); None leaves the weights random, always the same ones. Nothing is downloaded.
        device: e.g. ``cpu``, ``cuda``, ``cuda:1``.
        cls: LineMOD's object, e.g. ``ape``.
        cfg: YAML file, e.g. the ``config.yaml`` of a run that was trained otherwise.
        settings: keys and values over all that, e.g. ``{"MODEL.POINTS": 4096}``.

    Raises:
        UserError: unknown data set, key, value or device; the checkpoint is unreadable, or of
            another network. The error's ``hint`` says what to do.

    Example:
        >>> model = ffreid.create_model("linemod", "best.pth", cls="ape", device="cuda")
        >>> print(*model.input_spec(), sep="\\n")
    """
    chosen = {key: str(value) for key, value in (settings or {}).items()}
    if chosen.get("MODEL.BACKBONE", "random") != "random":
        raise UserError(
            "MODEL.BACKBONE is what training starts from", "leave it out, and give a checkpoint"
        )
    tree = compose(
        dataset,
        file=None if cfg is None else Path(cfg),
        pairs=[word for pair in chosen.items() for word in pair],
        cls=cls,
    )
    file = None if checkpoint is None else Path(checkpoint)
    with _seeded(tree.SEED):
        return tasks.create_predictor(tree, file, _device(device))


def load_checkpoint(path: str | Path, task: TaskName | None = None) -> dict[str, Any]:
    """Read a checkpoint of ours, the authors' or a fork's; nothing that it contains is executed.

    Args:
        path: of the file.
        task: whose layout of today to bring an old file to, saying so in a line; None gives what
            the file holds.

    Returns:
        Tensors, on the CPU, numbers and text by name.

    Raises:
        UserError: it is missing, unreadable, or holds code; or it is none of `task`.

    Example:
        >>> ffreid.load_checkpoint("runs/ltcc/res50-cels-cal/best.pth")["step"]
        12000
    """
    if task is None:
        return checkpoints.load(Path(path))
    if task not in (known := get_args(TaskName)):
        raise UserError(f"task is {task!r}", f"choose one of: {', '.join(known)}")
    return convert.load_any(Path(path), task)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw weights from `seed`, and leave the caller's stream as it is."""
    before = torch.get_rng_state()
    # Not torch.manual_seed: it seeds the GPUs' streams too.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _device(device: str | torch.device) -> torch.device:
    """Check that a device is there, by putting a number on it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.device(device)
            return torch.empty(1, device=found).device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise UserError(
            f"device {str(device)!r} cannot be used: {flat(str(error)).partition('. ')[0]}",
            "give cpu, or cuda where torch sees a GPU",
        ) from error
