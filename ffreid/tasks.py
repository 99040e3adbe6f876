"""The two tasks and their modules, imported on first use.

All other modules reach a task through these functions, which mypy and editors can follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from yacs.config import CfgNode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from ffreid.engine.cache import Plan
    from ffreid.engine.checkpoints.contents import CheckpointContents, NetworkInfo
    from ffreid.engine.distributed.group import World
    from ffreid.engine.findings import Findings
    from ffreid.engine.task import TaskModules

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
        """Convert any checkpoint to ffreid's layout; also return a note if it was converted."""


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


def evaluate(cfg: CfgNode, world: World, **options: Any) -> dict[str, Any]:
    """Evaluate a checkpoint, with the task's options; return the results as JSON data."""
    if cfg.TASK == "pose":
        from ffreid.pose.evaluation import evaluate as evaluate_pose

        return evaluate_pose(cfg, world, **options)
    from ffreid.reid.evaluation import evaluate as evaluate_reid

    return evaluate_reid(cfg, world, **options)


def dataset_report(cfg: CfgNode, source: Any, json_file: Path | None) -> dict[str, Any]:
    """Print the sizes of a dataset."""
    if cfg.TASK == "pose":
        from ffreid.pose.sources import report_dataset as report_pose

        return report_pose(cfg, source, json_file)
    from ffreid.reid.dataset_report import report_dataset as report_reid

    return report_reid(cfg.DATASET, source, json_file)


def cache_plan(cfg: CfgNode, source: Any) -> Plan:
    """What `ffreid data cache` keeps of a dataset."""
    if cfg.TASK == "pose":
        from ffreid.pose.cache import plan as plan_pose

        return plan_pose(cfg, source)
    from ffreid.reid.cache import plan as plan_reid

    return plan_reid(cfg, source)


def check_dataset(cfg: CfgNode) -> Findings:
    """Read all of a dataset and find mistakes."""
    if cfg.TASK == "pose":
        from ffreid.pose.dataset_check import check_dataset as check_pose

        return check_pose(cfg)
    from ffreid.reid.dataset_check import check_dataset as check_reid

    return check_reid(cfg)


def draw_samples(cfg: CfgNode, count: int, folder: Path) -> list[str]:
    """Draw samples of a dataset as the network gets them; return the names of the images."""
    if cfg.TASK == "pose":
        from ffreid.pose.samples import draw_samples as draw_pose

        return draw_pose(cfg, count, folder)
    from ffreid.reid.samples import draw_samples as draw_reid

    return draw_reid(cfg, count, folder)


def converter(task: str) -> Converter:
    """Checkpoint conversion of a task."""
    if task == "pose":
        from ffreid.pose import convert as pose

        return pose
    from ffreid.reid import convert as reid

    return reid
