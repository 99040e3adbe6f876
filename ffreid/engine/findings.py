"""Mistakes in a dataset: what is wrong, where, and how to mend it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from ffreid import report
from ffreid.engine.distributed import group
from ffreid.errors import UserError

Item = TypeVar("Item")
Look = TypeVar("Look")
NAMED = 5
"""Cases of a kind that are printed; JSON has all."""


def in_threads(
    look: Callable[[Item], Look], items: Sequence[Item], *, ahead: int
) -> Iterator[Look]:
    """Yield `look` of each item in order, on all cores; results of `ahead` items may wait."""
    with ThreadPoolExecutor(group.cores()) as pool:
        for start in range(0, len(items), ahead):
            yield from pool.map(look, items[start : start + ahead])


class Kind(NamedTuple):
    """A kind of mistake: the check that finds it, what is wrong, and how to mend it."""

    check: str
    what: str
    mend: str


class Findings:
    """The mistakes found in a dataset, each kind with its cases, and what was checked.

    Attributes:
        checked: number of things looked at, by check.
        notes: lines on what was not checked, and why, and on what need not be wrong.
        tables: further counts, each a title, columns and rows.
        more: further entries of `payload`.
    """

    def __init__(self, dataset: str, *checks: str) -> None:
        self.dataset = dataset
        self.checked = dict.fromkeys(checks, 0)
        self.notes: list[str] = []
        self.tables: list[tuple[str, Sequence[str], Sequence[Sequence[report.Cell]]]] = []
        self.more: dict[str, Any] = {}
        self._found: dict[Kind, dict[str, None]] = {}

    def add(self, kind: Kind, case: str) -> None:
        """Add a case, in one line; the same one again changes nothing."""
        assert kind.check in self.checked
        self._found.setdefault(kind, {})[case] = None

    def add_error(self, check: str, what: str, error: UserError) -> None:
        """Add what a reader refuses; its hint says how to mend it."""
        self.add(Kind(check, what, error.hint), error.message)

    def wrong(self, check: str | None = None) -> int:
        """Number of cases that a check, or all, found."""
        return sum(len(cases) for k, cases in self._found.items() if check in (None, k.check))

    def payload(self) -> dict[str, Any]:
        """All cases as JSON data."""
        checks = [
            {"check": check, "checked": count, "wrong": self.wrong(check)}
            for check, count in self.checked.items()
        ]
        mistakes = [
            {**kind._asdict(), "count": len(cases), "cases": [*cases]}
            for kind, cases in self._found.items()
        ]
        result = {"dataset": self.dataset, "checks": checks, "mistakes": mistakes}
        return result | self.more | {"notes": self.notes}

    def show(self) -> None:
        """Print a table of the checks and, of each kind, the first cases and how to mend them."""
        rows = [(check, count, self.wrong(check)) for check, count in self.checked.items()]
        report.show_table(self.dataset, ["check", "checked", "wrong"], rows)
        for table in self.tables:
            report.show_table(*table)
        for kind, cases in self._found.items():
            left = len(cases) - NAMED
            report.show_lines(
                f"{kind.check}: {kind.what}: {len(cases)}",
                *(f"  {case}" for case in [*cases][:NAMED]),
                *[f"  … and {left} more"] * (left > 0),
                f"  mend: {kind.mend}",
                "",
            )
        for note in self.notes:
            report.log(f"note: {note}")
