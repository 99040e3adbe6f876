"""What is seen of a training run: one live display on a terminal, a line every so often otherwise.

On a terminal everything that is written meanwhile appears above the display.
"""

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from ffreid import report
from ffreid.engine.task import Plan

WINDOW = 20
"""Steps that are averaged."""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What a step came to.

    Attributes:
        done: steps done, this one included.
        epoch: from 0.
        terms: means over processes; ``loss`` is the sum.
        rates: learning rate of each trained part.
        norms: gradient norm of each part that was stepped.
        waited: seconds waited for data.
        seconds: of computing.
        skipped: why the step was skipped.
        names: the samples that brought that about.
    """

    done: int
    epoch: int
    terms: Mapping[str, float]
    rates: Mapping[str, float]
    norms: Mapping[str, float]
    waited: float
    seconds: float
    skipped: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best value so far of the number that selects, and after how many steps it was had."""

    name: str
    value: float
    step: int | None = None


@dataclass(kw_only=True)
class Recent:
    """What a display shows of a run.

    Attributes:
        title: what is being done.
        plan: how long it is.
        done: steps done.
        last: the last step of this start, None before it.
        skipped: steps skipped since this start.
        validated: steps before the last evaluation, and its numbers.
        best: the best state so far, where it is known.
    """

    title: str
    plan: Plan
    done: int = 0
    last: StepRecord | None = None
    skipped: int = 0
    validated: tuple[int, Mapping[str, float]] | None = None
    best: Best | None = None
    started: float = field(default_factory=time.monotonic)
    _steps: deque[StepRecord] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def add(self, record: StepRecord) -> None:
        """Count a step."""
        self.done, self.last = record.done, record
        self.skipped += record.skipped is not None
        self._steps.append(record)

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, a last short one counted."""
        return math.ceil(self.plan.total / self.plan.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """The epoch that is trained, from 1."""
        step = self.last.done - 1 if self.last else self.done
        return min(step // self.plan.steps_per_epoch + 1, self.epochs)

    @property
    def elapsed(self) -> float:
        """Seconds since this start."""
        return time.monotonic() - self.started

    def terms(self) -> dict[str, float]:
        """Give each term's mean over the last steps; NaN where none of them is a number."""
        names = self.last.terms if self.last else ()
        return {name: self._mean(name) for name in names}

    def _mean(self, name: str) -> float:
        values = [record.terms.get(name, math.nan) for record in self._steps]
        finite = [value for value in values if math.isfinite(value)]
        return fmean(finite) if finite else math.nan

    def speed(self) -> float | None:
        """Give steps a second, waiting for data included; None before the first."""
        seconds = sum(record.waited + record.seconds for record in self._steps)
        return len(self._steps) / seconds if seconds > 0 else None

    def waiting(self) -> float:
        """Give the share of the time that was waited for data."""
        seconds = sum(record.waited + record.seconds for record in self._steps)
        return sum(record.waited for record in self._steps) / seconds if seconds > 0 else 0.0

    def left(self) -> float | None:
        """Give the seconds that the steps to come take at this speed, without evaluations."""
        speed = self.speed()
        return None if speed is None else (self.plan.total - self.done) / speed


def main_rate(rates: Mapping[str, float]) -> str | None:
    """Name the part whose learning rate stands for the run: ``net``, else the first."""
    return "net" if "net" in rates else next(iter(rates), None)


def memory() -> dict[str, float]:
    """Give gigabytes: resident in this process, and the peak on the GPU where one is in use."""
    found: dict[str, float] = {}
    pages = Path("/proc/self/statm")  # it is Linux that tells
    if pages.exists():
        import resource

        held = int(pages.read_text().split()[1]) * resource.getpagesize()
        found["memory"] = held / 1e9
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found["GPU peak"] = torch.cuda.max_memory_allocated() / 1e9
    return found


LIVE_EVERY = 0.25
"""Seconds between pictures of the live display at least."""
PLAIN_EVERY = 10.0
"""Seconds between plain lines at least."""
_SHOWN = 8
"""Numbers of an evaluation that are shown."""
_BAR = (10, 60)
"""Least and largest width of the bar."""


class Display:
    """Shows a run; this one shows nothing, as in processes other than the first."""

    def __init__(self, recent: Recent) -> None:
        self.recent = recent

    def start(self) -> None:
        """Begin to show."""

    def step(self, record: StepRecord) -> None:
        """Take in a step, and show it where it is time to."""

    def pause(self) -> None:
        """Leave the terminal to others until `start`."""

    def stop(self) -> None:
        """Show the last state and end."""


class PlainDisplay(Display):
    """A line on stderr every so often."""

    def __init__(self, recent: Recent) -> None:
        super().__init__(recent)
        self.shown = time.monotonic()

    def step(self, record: StepRecord) -> None:
        """Take in a step; say a line where the last one was long ago."""
        self.recent.add(record)
        if time.monotonic() - self.shown >= PLAIN_EVERY:
            self.shown = time.monotonic()
            report.log(plain_line(self.recent))


class LiveDisplay(Display):
    """A few lines at the foot of a terminal, drawn anew at most four times a second.

    There is no thread that draws: data workers are forked, and would inherit its locks.

    Args:
        recent: what is shown.
        console: where; stderr by default.
    """

    def __init__(self, recent: Recent, console: Console | None = None) -> None:
        super().__init__(recent)
        self.console = console or Console(stderr=True)
        self.live: Live | None = None
        self.shown = 0.0

    def start(self) -> None:
        """Begin to show, or go on."""
        self.live = Live(
            Panel(self.recent),
            console=self.console,
            auto_refresh=False,
            transient=True,
            # Results that go to a file stay there: rich would send them to the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )
        self.live.start(refresh=True)
        # A run that exits at once, or is killed, shall not leave a terminal without a cursor.
        self.console.show_cursor(True)

    def step(self, record: StepRecord) -> None:
        """Take in a step; draw where the last picture is old enough."""
        self.recent.add(record)
        if self.live is not None and time.monotonic() - self.shown >= LIVE_EVERY:
            self.live.refresh()
            self.shown = time.monotonic()

    def pause(self) -> None:
        """Take the display off the terminal."""
        self._end(transient=True)

    def stop(self) -> None:
        """Leave the last picture on the terminal."""
        self._end(transient=False)

    def _end(self, *, transient: bool) -> None:
        if self.live is not None:
            self.live.transient = transient
            self.live.stop()
            self.live = None


class Panel:
    """Draws a run at any width: what does not fit on a line goes on the next, nothing is cut."""

    def __init__(self, recent: Recent) -> None:
        self.recent = recent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        bar = "=-" if options.ascii_only else "━─"
        yield from self._head(width, bar)
        for group in groups(self.recent):
            yield from _wrapped(group, width)

    def _head(self, width: int, bar: str) -> Iterator[Text]:
        """The first line: title, bar, and where training stands."""
        recent = self.recent
        place: list[Chunk] = [("", part) for part in _place(recent)]
        place += [("elapsed", clock(recent.elapsed)), ("ETA", clock(recent.left()))]
        (shown,) = _wrapped(place, sys.maxsize)
        room = width - cell_len(recent.title) - shown.cell_len - 4
        if room < _BAR[0]:
            yield from _wrapped([("", recent.title), *place], width)
            return
        size = min(room, _BAR[1])
        full = size * recent.done // max(recent.plan.total, 1)
        line = Text(f"{recent.title}  ")
        line.append(bar[0] * full, "cyan").append(bar[1] * (size - full), "bright_black")
        yield line.append("  ").append(shown)


Chunk = tuple[str, str]
"""A label, perhaps none, and a value."""


def make_display(recent: Recent, *, show: bool) -> Display:
    """Choose the display: none, a live one where stderr is a terminal, or plain lines."""
    if not show:
        return Display(recent)
    if not sys.stderr.isatty():
        return PlainDisplay(recent)
    console = Console(stderr=True)
    return PlainDisplay(recent) if console.is_dumb_terminal else LiveDisplay(recent, console)


def groups(recent: Recent) -> list[list[Chunk]]:
    """Give what stands below the bar: losses, then speed and memory, then evaluations."""
    if recent.last is None:
        return [[("", "waiting for the first batch")]]
    losses = [(name, f"{value:.4f}") for name, value in recent.terms().items()]
    if recent.skipped:
        losses.append(("skipped", str(recent.skipped)))
    main = main_rate(recent.last.rates)
    rates = recent.last.rates.items()
    machine = [("lr" if name == main else f"lr {name}", f"{rate:.1e}") for name, rate in rates]
    if speed := recent.speed():
        samples = speed * recent.plan.batch
        machine.append(("", f"{_rounded(speed)} steps/s ({_rounded(samples)} samples/s)"))
    machine.append(("waiting for data", _share(recent)))
    machine += [(name, f"{size:.1f} GB") for name, size in memory().items()]
    return [losses, machine, *([found] if (found := _evaluated(recent)) else [])]


def plain_line(recent: Recent) -> str:
    """Say in a line where training stands."""
    assert recent.last is not None, "no step is done"
    terms = {name: f"{value:.4f}" for name, value in recent.terms().items()}
    rest = ", ".join(f"{name} {text}" for name, text in terms.items() if name != "loss")
    loss = f"loss {terms['loss']}" if "loss" in terms else "loss -"
    rates, main = recent.last.rates, main_rate(recent.last.rates)
    speed = recent.speed()
    parts = [
        *_place(recent),
        *([f"{_rounded(speed)} steps/s"] if speed else []),
        f"{loss} ({rest})" if rest else loss,
        *(f"{'lr' if name == main else f'lr {name}'} {rate:.1e}" for name, rate in rates.items()),
        f"data {_share(recent)}",
        *(
            f"{size:.1f} GB{'' if name == 'memory' else f' {name}'}"
            for name, size in memory().items()
        ),
        *([f"{recent.skipped} skipped"] if recent.skipped else []),
        f"ETA {clock(recent.left())}",
    ]
    return f"{recent.title}: {', '.join(parts)}"


def _place(recent: Recent) -> list[str]:
    return [f"{recent.done}/{recent.plan.total}", f"epoch {recent.epoch}/{recent.epochs}"]


def _share(recent: Recent) -> str:
    return f"{round(100 * recent.waiting())} %"


def _rounded(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _evaluated(recent: Recent) -> list[Chunk]:
    found: list[Chunk] = []
    if recent.validated is not None:
        done, row = recent.validated
        found.append(("validated at", str(done)))
        found += [(name, f"{value:.4f}") for name, value in _first(row, recent).items()]
        if len(row) > _SHOWN:
            found.append(("", f"and {len(row) - _SHOWN} more"))
    if recent.best is not None:
        at = "" if recent.best.step is None else f" at {recent.best.step}"
        found.append((f"best {recent.best.name}", f"{recent.best.value:.4f}{at}"))
    return found


def _first(row: Mapping[str, float], recent: Recent) -> dict[str, float]:
    """Give the first few numbers, the one that selects before all others."""
    selecting = recent.best.name if recent.best is not None else None
    names = sorted(row, key=lambda name: name != selecting)
    return {name: row[name] for name in names[:_SHOWN]}


def _wrapped(group: Sequence[Chunk], width: int) -> Iterator[Text]:
    """Break before what would not fit; later lines are indented by two columns."""
    line = Text(overflow="fold")
    for label, value in group:
        chunk = Text.assemble((f"{label} " if label else "", "bright_black"), value)
        if line and line.cell_len + 2 + chunk.cell_len > width:
            yield line
            line = Text("  ", overflow="fold")
        elif line:
            line.append("  ")
        line.append(chunk)
    yield line


def clock(seconds: float | None) -> str:
    """Write seconds as minutes:seconds, with hours and days where there are any."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours}:{minutes:02d}:{rest:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
