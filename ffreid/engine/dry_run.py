"""`--dry-run`: one training step and one evaluation batch, and their costs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ffreid.engine.task import Progress, Task, unwrap
from ffreid.engine.timing import measure
from ffreid.engine.train_step import TrainStep
from ffreid.report import Cell, show_table

Rows = list[list[Cell]]
BATCH = ["tensor", "shape", "type", "MB"]
NETWORK = ["part", "parameters", "trainable", "output"]
COSTS = ["work", "seconds", "memory increase MB", "device peak MB"]
MEGABYTE = 1 << 20


def dry_run(
    train_step: TrainStep, steps: Iterator[list[Any]], at: Progress, evaluate: Callable[[], object]
) -> dict[str, Any]:
    """Load the micro-batches of one of the `steps`, train on them and evaluate one batch.

    In the result, ``batch``, ``network`` and ``costs`` are rows of `BATCH`, `NETWORK` and `COSTS`.
    """
    task, device = train_step.task, train_step.device
    on_device, costs = device.type == "cuda", Rows()

    def run(work: str, call: Callable[[], Any]) -> Any:
        def synchronised() -> Any:
            result = call()
            if on_device:
                torch.cuda.synchronize(device)
            return result

        if on_device:
            torch.cuda.reset_peak_memory_stats(device)
        result, cost = measure(synchronised)
        peak = torch.cuda.max_memory_allocated(device) / MEGABYTE if on_device else None
        costs.append([work, cost.milliseconds / 1000, cost.megabytes, peak])
        return result

    batches = run("data loading", partial(next, steps))
    with _output_shapes(task) as shapes:
        step = run("training step", partial(train_step.step, batches, at))
    run("evaluation batch", evaluate)
    total, trainable = _parameters(task)
    return {
        "batch": describe(batches[0]),
        "micro_batches": len(batches),
        "samples": sum(map(len, batches)),
        "network": [
            [name, *_parameters(module), shapes.get(name)] for name, module in _parts(task)
        ],
        "parameters": total,
        "trainable": trainable,
        "terms": step.terms,
        "skipped": step.skipped,
        "costs": costs,
    }


def show(result: dict[str, Any]) -> None:
    """Print the result of `dry_run` as tables on stdout."""
    count = result["micro_batches"]
    split = f", the first of {count} micro-batches" if count > 1 else ""
    show_table(f"A batch of {result['samples']} samples{split}", BATCH, result["batch"])
    title = "Networks: {parameters:,} parameters, {trainable:,} trainable".format(**result)
    show_table(title, NETWORK, result["network"])
    skipped = f", which was skipped: {result['skipped']}" if result["skipped"] else ""
    rows: Rows = [[name, value] for name, value in result["terms"].items()]
    show_table(f"Losses of the step{skipped}", ["term", "value"], rows, digits=4)
    show_table("Costs", COSTS, result["costs"])


def describe(batch: object, name: str = "") -> Rows:
    """A row of `BATCH` for every tensor in nested dataclasses, mappings, tuples and lists."""
    if isinstance(batch, Tensor):
        shape = " x ".join(map(str, batch.shape)) or "one number"
        dtype = str(batch.dtype).removeprefix("torch.")
        return [[name, shape, dtype, batch.numel() * batch.element_size() / MEGABYTE]]
    members: dict[Any, Any] = {}
    if is_dataclass(batch):
        members = {field.name: getattr(batch, field.name) for field in fields(batch)}
    elif isinstance(batch, dict):
        members = batch
    elif isinstance(batch, list | tuple):
        members = dict(enumerate(batch))
    prefix = name and f"{name}."
    return [row for key, value in members.items() for row in describe(value, f"{prefix}{key}")]


def _parameters(module: nn.Module) -> tuple[int, int]:
    """Numbers of all and of trainable parameters."""
    sizes = [(value.numel(), value.requires_grad) for value in module.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable)


def _parts(task: Task) -> Iterator[tuple[str, nn.Module]]:
    """Each optimised attribute and its children, by name."""
    for name in task.optimized:
        module = unwrap(getattr(task, name))
        yield name, module
        yield from ((f"{name}.{child}", part) for child, part in module.named_children())


@contextmanager
def _output_shapes(task: Task) -> Iterator[dict[str, str]]:
    """Collect the output shapes of each part's last call.

    A ModuleList is not called itself; its last called member stands for it.
    """
    shapes: dict[str, str] = {}

    def hook(name: str, module: nn.Module, inputs: object, output: object) -> None:
        shapes[name] = ", ".join(str(row[1]) for row in describe(output))

    handles = [
        module.register_forward_hook(partial(hook, name))
        for name, part in _parts(task)
        for module in (part if isinstance(part, nn.ModuleList) else [part])
    ]
    try:
        yield shapes
    finally:
        for handle in handles:
            handle.remove()
