"""Speed and memory of a training step in every variant: python -m tests.gpu_figures.

FFB6D at 480 x 640 with 12,800 points and ResNet-50 at 384 x 192, on a CUDA device. A row is the
median time of a step, samples a second, the peak of the memory, and both against fp32.
"""

import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ffreid.engine.task import Task
from ffreid.errors import UserError
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.task import PoseTask
from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.model import NETWORKS
from ffreid.report import show_table
from tests.pose.test_gpu import CLASSES, noise
from tests.reid.cal_task import cal_task, labels
from tests.variants import VARIANTS, switched, train, trainer_of

COLUMNS = ("training", "ms per step", "samples/s", "times as fast", "peak GiB", "of fp32's")


class Size(NamedTuple):
    """Size of a batch."""

    batch: int
    height: int
    width: int
    points: int = 0


FULL = {"pose": Size(8, 480, 640, 12800), "reid": Size(32, 384, 192)}
TOY = {"pose": Size(2, 32, 32, 1024), "reid": Size(4, 64, 32)}


def pose(size: Size) -> tuple[Task, Any]:
    """FFB6D and a batch of noise."""
    task = PoseTask(FFB6D(CLASSES), offset_samples=3.0, frozen=False, momentum_batch=None)
    return task, noise(*size)


def reid(size: Size) -> tuple[Task, Any]:
    """ResNet-50 with CAL, and a batch of noise."""
    net = NETWORKS["resnet50"]()
    images = torch.randn(size.batch, 3, size.height, size.width)
    return cal_task(net, net.feature_dim), ReidBatch(images, *labels(size.batch))


TASKS: dict[str, Callable[[Size], tuple[Task, Any]]] = {"pose": pose, "reid": reid}


def measure(name: str, variant: str, size: Size, device: torch.device, steps: int) -> list[float]:
    """Median seconds of a step, and the peak of the device's memory in bytes."""
    torch.manual_seed(0)
    torch.compiler.reset()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with switched(VARIANTS[variant]):
        task, batch = TASKS[name](size)
        train_step = trainer_of(task, VARIANTS[variant], device)
        batch = batch.to(device, torch.float32)
        train(train_step, batch, 3)
        seconds = []
        for _ in range(steps):
            started = time.perf_counter()
            train(train_step, batch, 1)
            if cuda:
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(device) if cuda else 0
    return [statistics.median(seconds), float(peak)]


def run(arguments: list[str]) -> None:
    """Measure and print; ratios are to the first variant.

    Raises:
        UserError: without --toy there is no CUDA device.
    """
    parser = ArgumentParser(prog="python -m tests.gpu_figures")
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--variant", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=20, help="measured steps a row")
    parser.add_argument("--toy", action="store_true", help="toy sizes, also on a CPU")
    options = parser.parse_args(arguments)
    cuda = torch.cuda.is_available()
    if not cuda and not options.toy:
        raise UserError("there is no CUDA device", "add --toy to try the code on a CPU")
    device = torch.device("cuda", 0) if cuda else torch.device("cpu")
    for name in options.task:
        size, rows, first = (TOY if options.toy else FULL)[name], [], list[float]()
        for variant in options.variant:
            seconds, peak = measure(name, variant, size, device, options.steps)
            first = first or [seconds, peak]
            times = [1e3 * seconds, size.batch / seconds, first[0] / seconds, peak / 2**30]
            share = f"{peak / first[1]:.0%}" if first[1] else "-"
            rows.append([variant, *(f"{value:.2f}" for value in times), share])
        where = torch.cuda.get_device_name(device) if cuda else "CPU"
        title = f"{name}: {size.batch} x {size.height} x {size.width}, {where}"
        show_table(f"{title}, torch {torch.__version__}", COLUMNS, rows)


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except UserError as error:
        sys.stderr.write(f"error: {error.message}\nhint: {error.hint}\n")
        raise SystemExit(2) from None
