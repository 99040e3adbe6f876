"""FFB6D object pose and CAL clothes-changing re-identification for today's PyTorch.

``create_model``, ``load_checkpoint`` and ``metrics`` are the Python API, imported on first use, so
that ``import ffreid`` and the command line do not wait for torch.
"""

# ruff: noqa: F403, F405
import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ffreid import metrics
    from ffreid.api import *

__all__ = [
    "Pose",
    "PoseModel",
    "ReidModel",
    "Symbol",
    "TensorSpec",
    "UserError",
    "__version__",
    "check_dataset",
    "create_model",
    "create_pose_model",
    "create_reid_model",
    "draw_samples",
    "load_checkpoint",
    "load_model",
    "make_objects",
    "metrics",
    "prepare_frame",
    "render",
]

if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "metrics":
            return importlib.import_module("ffreid.metrics")
        return getattr(importlib.import_module("ffreid.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
