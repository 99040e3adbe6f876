"""The Python API: models by dataset name, and checkpoints."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from yacs.config import CfgNode

from ffreid import convert, tasks
from ffreid.engine.checkpoints import io as checkpoints
from ffreid.engine.specs import Symbol, TensorSpec
from ffreid.errors import UserError, flat
from ffreid.pose import predictor as pose
from ffreid.pose.object_set.make import make_objects
from ffreid.pose.predictor import Pose, PoseModel
from ffreid.pose.preparation import prepare_frame
from ffreid.recipes import compose, compose_like
from ffreid.reid import predictor as reid
from ffreid.reid.predictor import ReidModel
from ffreid.tasks import TaskName

__all__ = [
    "Pose",
    "PoseModel",
    "ReidModel",
    "Symbol",
    "TensorSpec",
    "UserError",
    "check_dataset",
    "create_model",
    "create_pose_model",
    "create_reid_model",
    "draw_samples",
    "load_checkpoint",
    "load_model",
    "make_objects",
    "prepare_frame",
    "render",
]


class ModelOptions(TypedDict, total=False):
    """Keyword arguments of `create_model`."""

    device: str | torch.device
    cls: str | None
    cfg: str | Path | None
    settings: Mapping[str, object] | None


def create_model(
    dataset: str,
    checkpoint: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    cls: str | None = None,
    cfg: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> PoseModel | ReidModel:
    """Create the network of a dataset's recipe, in evaluation mode; no data are needed.

    `create_pose_model` and `create_reid_model` are the same for type checkers and editors.

    Args:
        dataset: as for ``ffreid --dataset``: those below ``configs/pose/`` give a `PoseModel`,
            those below ``configs/reid/`` a `ReidModel`.
        checkpoint: file of ffreid or of the original authors (converted in memory, with a note);
            None gives random weights that depend on SEED alone. Nothing is downloaded.
        device: e.g. ``cpu``, ``cuda``, ``cuda:1``.
        cls: LineMOD's object, e.g. ``ape``.
        cfg: YAML file, e.g. the ``config.yaml`` of a run with other settings.
        settings: keys and values that override it, e.g. ``{"MODEL.POINTS": 4096}``.

    Raises:
        UserError: unknown dataset, key, value or device; the checkpoint is unreadable, or of
            another network. The error's ``hint`` says what to do.

    Example:
        >>> model = ffreid.create_model("linemod", "best.pth", cls="ape", device="cuda")
        >>> print(*model.input_spec(), sep="\\n")
    """
    pairs = {key: str(value) for key, value in (settings or {}).items()}
    if pairs.get("MODEL.BACKBONE", "random") != "random":
        raise UserError(
            "MODEL.BACKBONE is used only for training", "remove it and pass a checkpoint"
        )
    config = compose(
        dataset,
        file=None if cfg is None else Path(cfg),
        pairs=[text for pair in pairs.items() for text in pair],
        cls=cls,
    )
    file = None if checkpoint is None else Path(checkpoint)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.SEED)  # torch.manual_seed would seed GPUs too
        if config.TASK == "pose":
            return pose.create(config, file, _available(device))
        return reid.create(config, file, _available(device))


def create_pose_model(
    dataset: str, checkpoint: str | Path | None = None, **options: Unpack[ModelOptions]
) -> PoseModel:
    """Create the network of a pose dataset, see `create_model`."""
    model = create_model(dataset, checkpoint, **options)
    if isinstance(model, PoseModel):
        return model
    raise UserError(f"{dataset} is a re-ID dataset", "use create_reid_model")


def create_reid_model(
    dataset: str, checkpoint: str | Path | None = None, **options: Unpack[ModelOptions]
) -> ReidModel:
    """Create the network of a re-ID dataset, see `create_model`."""
    model = create_model(dataset, checkpoint, **options)
    if isinstance(model, ReidModel):
        return model
    raise UserError(f"{dataset} is a pose dataset", "use create_pose_model")


def load_model(
    checkpoint: str | Path,
    dataset: str | None = None,
    *,
    cls: str | None = None,
    root: str | Path | None = None,
    device: str | torch.device = "cpu",
    settings: Mapping[str, object] | None = None,
) -> PoseModel | ReidModel:
    """Create the network of a checkpoint with the dataset and settings it was trained with.

    Args:
        checkpoint: file of ffreid; other files do not name their dataset.
        dataset: for other files, as in `create_model`.
        cls: LineMOD's object, for other files.
        root: folder of the pose dataset, whose meshes are used; default: $FFREID_DATA, else the
            folder at training.
        device: e.g. ``cpu``, ``cuda``, ``cuda:1``.
        settings: keys and values that override the checkpoint's.

    Raises:
        UserError: the file is unreadable, or names no dataset; or see `create_model`.

    Example:
        >>> model = ffreid.load_model("runs/ltcc/default/best.pth", device="cuda")
    """
    file = Path(checkpoint)
    pairs = [text for key, value in (settings or {}).items() for text in (key, str(value))]
    folder = None if root is None else Path(root)
    state = checkpoints.load(file)
    config = compose_like(state, str(file), dataset=dataset, cls=cls, root=folder, pairs=pairs)
    if config.TASK == "pose":
        return pose.create(config, file, _available(device), content=state)
    return reid.create(config, file, _available(device), content=state)


def check_dataset(
    dataset: str,
    root: str | Path | None = None,
    *,
    cls: str | None = None,
    cfg: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Read all of a dataset and find mistakes, as ``ffreid data --check``.

    Args:
        dataset: as for ``ffreid --dataset``.
        root: its folder or its parent; default: $FFREID_DATA.
        cls: LineMOD's object.
        cfg: YAML file, or the name of a recipe.
        settings: keys and values that override the recipe's.

    Returns:
        JSON data: ``mistakes`` with ``what``, ``mend`` and all ``cases``, ``checks`` with the
        numbers of what was looked at, and ``notes``.

    Raises:
        UserError: there is no such folder or dataset; a dataset that cannot be opened is a mistake.

    Example:
        >>> for mistake in ffreid.check_dataset("folder", "pictures")["mistakes"]:
        ...     print(mistake["what"], mistake["cases"][0], mistake["mend"])
    """
    return tasks.check_dataset(_config(dataset, root, cls, cfg, settings)).payload()


def draw_samples(
    dataset: str,
    folder: str | Path,
    count: int = 8,
    *,
    root: str | Path | None = None,
    cls: str | None = None,
    cfg: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> list[Path]:
    """Draw samples of a dataset as the network gets them, as ``ffreid data --show``.

    Args:
        dataset: as for `check_dataset`, as are the others.
        folder: where the images are written.
        count: number of frames, or of identities.

    Returns:
        The images.
    """
    config = _config(dataset, root, cls, cfg, settings)
    return [Path(folder, name) for name in tasks.draw_samples(config, count, Path(folder))]


def _config(
    dataset: str,
    root: str | Path | None,
    cls: str | None,
    cfg: str | Path | None,
    settings: Mapping[str, object] | None,
) -> CfgNode:
    """The configuration of a dataset that is there."""
    config = compose(
        dataset,
        root=None if root is None else Path(root),
        file=None if cfg is None else Path(cfg),
        pairs=[text for key, value in (settings or {}).items() for text in (key, str(value))],
        cls=cls,
    )
    tasks.defaults(config.TASK).check_root(config)
    return config


def load_checkpoint(path: str | Path, task: TaskName | None = None) -> dict[str, Any]:
    """Read a checkpoint of ffreid, the authors or a fork; no code in it is executed.

    With `task`, an old file is converted to that task's layout, with a note; else its entries are
    returned unchanged: tensors on the CPU, numbers and text by name.

    Raises:
        UserError: the file is missing, unreadable, contains code, or is not one of `task`.

    Example:
        >>> ffreid.load_checkpoint("runs/ltcc/res50-cels-cal/best.pth")["step"]
        12000
    """
    if task is None:
        return checkpoints.load(Path(path))
    if task not in tasks.TASKS:
        raise UserError(f"task is {task!r}", f"choose one of: {', '.join(tasks.TASKS)}")
    return convert.load_any(Path(path), task)


def render(
    objects: str | Path,
    out: str | Path,
    *,
    frames: int,
    test: int = 0,
    camera: str | Path | None = None,
    size: str | None = None,
    instances: int = 1,
    views: str = "all",
    split: str = "train_pbr",
    seed: int = 0,
    noise: bool = True,
    renderer: str | None = None,
    workers: int | None = None,
) -> Path:
    """Render training data of objects into a BOP dataset, as ``ffreid render``.

    The same arguments give the same frames, whatever the number of workers; frames that are
    there are kept, so a stopped call continues, and a larger number adds to a smaller one.

    Args:
        objects: folder of ``ffreid objects``, or with the models of a BOP dataset.
        out: folder of the dataset; new, empty, or of the same arguments.
        frames: number of frames in `split`.
        test: number of frames in ``test``, with a list of targets.
        camera: file of intrinsics; default: LineMOD's sensor.
        size: ``HEIGHTxWIDTH``; default: the camera's, else 480x640.
        instances: of an object in a frame, at most.
        views: ``all``, or ``front``: objects stand, z upwards, within 65 degrees of the view
            along y.
        split: folder of the training frames.
        seed: start of all random numbers.
        noise: simulate the noise and holes of a structured-light camera.
        renderer: ``opengl``, ``embree`` or ``mitsuba`` (photoreal, slow); None is OpenGL, or
            Embree without it.
        workers: number of processes, one for a call without any; default: one a core. Several
            need ``if __name__ == "__main__":`` in the script that calls.

    Returns:
        `out`.

    Raises:
        UserError: a wrong argument, objects or camera that cannot be used, a missing package, or
            `out` holds other files.

    Example:
        >>> ffreid.render("set", "rendered", frames=1000, test=100)
    """
    from ffreid.pose.render.command import render as run

    return run(
        Path(objects),
        Path(out),
        frames=frames,
        test=test,
        camera=None if camera is None else Path(camera),
        size=size,
        instances=instances,
        views=views,
        split=split,
        seed=seed,
        noise=noise,
        renderer=renderer,
        workers=workers,
    )


def _available(device: str | torch.device) -> torch.device:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.empty(1, device=torch.device(device)).device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise UserError(
            f"cannot use device {str(device)!r}: {flat(str(error)).partition('. ')[0]}",
            "use cpu, or cuda on a machine with a GPU",
        ) from error
