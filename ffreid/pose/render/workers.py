"""Processes that render frames; nothing heavy is imported here, as each of them does it again."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import cv2

from ffreid.engine import signals
from ffreid.errors import UserError
from ffreid.pose.render.frames import FrameWriter, Setup
from ffreid.pose.render.renderers import check_installed, open_renderer

AHEAD = 4
"""Frames that wait for each process."""


def cannot_write(out: Path, error: OSError) -> UserError:
    """The error of a full or unwritable disk."""
    return UserError(
        f"cannot write to {out}: {error.strerror or error}",
        "free disk space, or use another folder; the same command continues",
    )


def check_opengl() -> None:
    """Start OpenGL in a process of its own.

    Mesa and triton, which torch imports, bring different versions of LLVM: a process that has used
    Mesa crashes when it imports triton. So OpenGL runs only in processes without torch.

    Raises:
        UserError: it cannot be used here.
    """
    check_installed("opengl")
    with processes(1) as pool:
        try:
            pool.submit(_open, "opengl").result()
        except BrokenProcessPool as error:
            raise UserError(
                "OpenGL cannot be used here: its driver crashes", "use --renderer embree"
            ) from error


def write_all(
    setup: Setup, out: Path, tasks: Sequence[tuple[str, int]], workers: int
) -> Iterator[None]:
    """Write frames, by Embree in this process if that is the only one; yield after each.

    Raises:
        UserError: a file cannot be written.
    """
    if workers == 1 and setup.renderer != "opengl":
        for split, number in tasks:
            write_frame(setup, out, split, number)
            yield
        return
    with processes(workers) as pool:
        waiting = iter(tasks)
        running: set[Future[None]] = set()
        while True:
            with suppress(StopIteration):
                while len(running) < AHEAD * workers:
                    running.add(pool.submit(write_frame, setup, out, *next(waiting)))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                each.result()
                yield


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes of one thread each, which end with this one."""
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    """Prepare a process: one thread."""
    signals.ignore_signals_in_worker()
    os.environ["LP_NUM_THREADS"] = "1"  # Mesa's
    cv2.setNumThreads(1)


def _open(renderer: str) -> None:
    open_renderer(renderer)


@lru_cache(maxsize=2)  # of two renderers, as they are compared
def _writer(setup: Setup, out: Path) -> FrameWriter:
    return FrameWriter(setup, out, open_renderer(setup.renderer))


def write_frame(setup: Setup, out: Path, split: str, number: int) -> None:
    """Write a frame, with the renderer of the last one.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        _writer(setup, out).write(split, number)
    except OSError as error:
        raise cannot_write(out, error) from error
