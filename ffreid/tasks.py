"""The two tasks and their modules, imported on first use.

All other modules reach a task through these functions, which mypy and editors can follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from yacs.config import CfgNode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from ffreid.engine.checkpoints.contents import CheckpointContents, NetworkInfo
    from ffreid.engine.distributed.group import World
    from ffreid.engine.task import TaskModules
    from ffreid.pose.predictor import PoseModel
    from ffreid.reid.predictor import ReidModel

TaskName = Literal["pose", "reid"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)


class Defaults(Protocol):
    """A task's module ``defaults``: all settings and their checks; it does not import torch."""

    @property
    def CHOICES(self) -> Mapping[str, Collection[str]]:
        """Allowed values by key."""

    def defaults(self) -> CfgNode:
        """Return a new, unfrozen tree of defaults."""

    def check(self, cfg: CfgNode) -> None:
        """Refuse values that cannot work."""

    def check_root(self, cfg: CfgNode) -> None:
        """Refuse a dataset whose folder is missing."""


class Evaluation(Protocol):
    """A task's module ``evaluation``."""

    def needs_weights(self, options: Mapping[str, Any]) -> bool:
        """Whether an evaluation with these options needs a checkpoint."""

    @property
    def evaluate(self) -> Any:
        """Evaluate; some keyword arguments are the task's own."""


class Converter(Protocol):
    """A task's module ``convert``: checkpoints of any program to ffreid's layout and back."""

    BACKBONE: tuple[str, str]
    ALIASES: dict[str, str]

    def identify_network(self, contents: CheckpointContents) -> NetworkInfo | None:
        """Describe the task's network in a file; None where there is none."""

    def build(self, info: NetworkInfo, cfg: CfgNode) -> nn.Module:
        """Build the network that `info` describes."""

    def run(self, net: nn.Module, cfg: CfgNode) -> dict[str, Tensor]:
        """Run one forward on random input; outputs by name."""

    def to_ffreid(
        self, contents: CheckpointContents, info: NetworkInfo, settings: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """Convert to ffreid's layout; also return notes."""

    def to_original(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Convert from ffreid's layout to the original's."""

    def convert_any(self, raw: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], str]:
        """Convert any checkpoint to ffreid's layout; also return a note if it was another's."""


def defaults(task: str) -> Defaults:
    """Settings of a task."""
    if task == "pose":
        from ffreid.pose import defaults as pose

        return pose
    from ffreid.reid import defaults as reid

    return reid


def modules(task: str) -> TaskModules:
    """The modules of a task that the trainer uses."""
    from ffreid.engine.task import TaskModules

    if task == "pose":
        from ffreid.pose import build as pose_build
        from ffreid.pose import sources as pose_sources
        from ffreid.pose import validation as pose_validation

        return TaskModules(pose_sources, pose_build, pose_validation)
    from ffreid.reid import build as reid_build
    from ffreid.reid import sources as reid_sources
    from ffreid.reid import validation as reid_validation

    return TaskModules(reid_sources, reid_build, reid_validation)


def evaluation(task: str) -> Evaluation:
    """Evaluation of a task."""
    if task == "pose":
        from ffreid.pose import evaluation as pose

        return pose
    from ffreid.reid import evaluation as reid

    return reid


def finish(cfg: CfgNode, world: World, folder: Path) -> None:
    """Evaluate and report the best checkpoint of a finished run."""
    if cfg.TASK == "pose":
        from ffreid.pose.validation import finish as finish_pose

        return finish_pose(cfg, world, folder)
    from ffreid.reid.validation import finish as finish_reid

    return finish_reid(cfg, world, folder)


def dataset_report(cfg: CfgNode, source: Any, json_file: Path | None) -> dict[str, Any]:
    """Print the sizes of a dataset."""
    if cfg.TASK == "pose":
        from ffreid.pose.dataset_report import report_dataset as report_pose

        return report_pose(cfg.DATASET, source, json_file)
    from ffreid.reid.dataset_report import report_dataset as report_reid

    return report_reid(cfg.DATASET, source, json_file)


def converter(task: str) -> Converter:
    """Checkpoint conversion of a task."""
    if task == "pose":
        from ffreid.pose import convert as pose

        return pose
    from ffreid.reid import convert as reid

    return reid


def create_predictor(
    cfg: CfgNode, checkpoint: Path | None, device: torch.device
) -> PoseModel | ReidModel:
    """Create the predictor of the Python API for a configuration."""
    if cfg.TASK == "pose":
        from ffreid.pose import predictor as pose

        return pose.create(cfg, checkpoint, device)
    from ffreid.reid import predictor as reid

    return reid.create(cfg, checkpoint, device)
