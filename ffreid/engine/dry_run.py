"""`--dry-run`: one training step and one evaluation batch, and what they take."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ffreid.engine.task import Progress, Task, unwrap
from ffreid.engine.timing import measured
from ffreid.engine.train_step import TrainStep
from ffreid.report import Cell, show_table

Result = TypeVar("Result")
Rows = list[list[Cell]]
BATCH = ["tensor", "shape", "type", "MB"]
NETWORK = ["part", "parameters", "trainable", "output"]
COSTS = ["work", "seconds", "raises memory by MB", "device peak MB"]
MEGABYTE = 1 << 20


def dry_run(
    train_step: TrainStep, parts: Iterable[Any], at: Progress, evaluate: Callable[[], object]
) -> dict[str, Any]:
    """Load the parts of one step, train on them, evaluate, and say what was seen.

    Nothing is written. The trainer's state is that of after the step.

    Args:
        trainer: with the task whose networks are described.
        parts: the batches of one step; loaded as they are drawn, which is timed.
        at: the step.
        evaluate: loads and evaluates one batch.

    Returns:
        ``batch``, ``network`` and ``costs``: rows below `BATCH`, `NETWORK` and `COSTS`;
        ``parts`` and ``samples`` of the step; ``parameters`` and ``trainable`` of all networks;
        ``terms`` of the loss; ``skipped``, why nothing was trained, or None.
    """
    device = train_step.device
    loaded, loading = _taken("load a batch", lambda: list(parts), device)
    with _outputs(train_step.task) as shapes:
        stepped, training = _taken("train a step", lambda: train_step.step(loaded, at), device)
    _, evaluating = _taken("evaluate a batch", evaluate, device)
    parameters = list(train_step.task.parameters())
    return {
        "batch": describe(loaded[0]),
        "parts": len(loaded),
        "samples": sum(len(part) for part in loaded),
        "network": network_rows(train_step.task, shapes),
        "parameters": sum(value.numel() for value in parameters),
        "trainable": sum(value.numel() for value in parameters if value.requires_grad),
        "terms": dict(stepped.terms),
        "skipped": stepped.skipped,
        "costs": [loading, training, evaluating],
    }


def show(found: dict[str, Any]) -> None:
    """Print what `dry_run` found as tables on stdout."""
    count, samples = found["parts"], found["samples"]
    split = f", the first of {count} parts" if count > 1 else ""
    show_table(f"A batch of {samples} samples{split}", BATCH, found["batch"])
    total, trainable = found["parameters"], found["trainable"]
    show_table(
        f"Networks: {total:,} parameters, {trainable:,} trainable", NETWORK, found["network"]
    )
    skipped = f", which was skipped: {found['skipped']}" if found["skipped"] else ""
    rows: Rows = [[name, value] for name, value in found["terms"].items()]
    show_table(f"Losses of the step{skipped}", ["term", "value"], rows, digits=4)
    show_table("Costs", COSTS, found["costs"])


def describe(batch: object, name: str = "") -> Rows:
    """Give a row below `BATCH` for every tensor in dataclasses, mappings, tuples and lists.

    Args:
        batch: holds tensors, however deep.
        name: of what holds it.
    """
    if isinstance(batch, Tensor):
        kind = str(batch.dtype).removeprefix("torch.")
        return [[name, _shape(batch), kind, batch.numel() * batch.element_size() / MEGABYTE]]
    return [
        row
        for own, value in _members(batch)
        for row in describe(value, f"{name}.{own}" if name else own)
    ]


def network_rows(task: Task, shapes: dict[str, str]) -> Rows:
    """Give a row below `NETWORK` for each trained attribute and each module right below it.

    Args:
        task: holds the networks.
        shapes: of outputs, by name; a part that was not called has none.
    """
    return [
        [
            name,
            sum(value.numel() for value in module.parameters()),
            sum(value.numel() for value in module.parameters() if value.requires_grad),
            shapes.get(name),
        ]
        for name, module in _network_parts(task)
    ]


def _network_parts(task: Task) -> Iterator[tuple[str, nn.Module]]:
    for name in task.optimized:
        module = unwrap(getattr(task, name))
        yield name, module
        for own, part in module.named_children():
            yield f"{name}.{own}", part


@contextmanager
def _outputs(task: Task) -> Iterator[dict[str, str]]:
    """Collect the shapes of what each part gives, under its name; of the last call.

    A list of modules is never called itself: its last called member stands for it.
    """
    shapes: dict[str, str] = {}

    def hook(name: str) -> Callable[[nn.Module, object, object], None]:
        def keep(module: nn.Module, given: object, output: object) -> None:
            shapes[name] = ", ".join(str(row[1]) for row in describe(output))

        return keep

    handles = []
    for name, part in _network_parts(task):
        called = part.children() if isinstance(part, nn.ModuleList) else [part]
        handles += [module.register_forward_hook(hook(name)) for module in called]
    try:
        yield shapes
    finally:
        for handle in handles:
            handle.remove()


def _members(holder: object) -> Iterator[tuple[str, object]]:
    if is_dataclass(holder):
        yield from ((field.name, getattr(holder, field.name)) for field in fields(holder))
    elif isinstance(holder, dict):
        yield from ((str(key), value) for key, value in holder.items())
    elif isinstance(holder, list | tuple):
        yield from ((str(index), value) for index, value in enumerate(holder))


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(size) for size in tensor.shape) or "one number"


def _taken(
    work: str, call: Callable[[], Result], device: torch.device
) -> tuple[Result, list[Cell]]:
    """What `call` gives, and its row below `COSTS`."""
    results: list[Result] = []
    on_device = device.type == "cuda"

    def called() -> None:
        results.append(call())
        if on_device:
            torch.cuda.synchronize(device)

    if on_device:
        torch.cuda.reset_peak_memory_stats(device)
    cost = measured(called)
    peak = torch.cuda.max_memory_allocated(device) / MEGABYTE if on_device else None
    return results[0], [work, cost.milliseconds / 1000, cost.megabytes, peak]
