"""What an epoch took and what its steps add up to."""

import time
from collections.abc import Iterator, Mapping
from typing import Any


def timed(batches: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    """Give each batch with the seconds waited for it."""
    asked = time.monotonic()
    for batch in batches:
        yield batch, time.monotonic() - asked
        asked = time.monotonic()


class EpochSums:
    """Terms summed over the steps of an epoch (of a resumed run's first: since it was resumed).

    Attributes:
        steps: how many were counted.
        waited: seconds that they waited for their batches.
        sums: of each term, by name.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.steps, self.waited = 0, 0.0
        self.sums: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """How long the epoch has taken so far."""
        return time.monotonic() - self.started

    def add(self, terms: Mapping[str, float], waited: float) -> None:
        """Count a step's terms, and the seconds that it waited for its batch."""
        self.steps += 1
        self.waited += waited
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Give every term's mean over the steps."""
        return {name: total / self.steps for name, total in self.sums.items()}
