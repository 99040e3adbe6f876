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
    """Terms summed over the steps of an epoch.

    Args:
        state: of an epoch that was interrupted, from `state`; it goes on.

    Attributes:
        steps: how many were counted.
        seconds: that they took, waiting for their batches included.
        waited: seconds that they waited for their batches.
        sums: of each term, by name.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        past = state or {"steps": 0, "seconds": 0.0, "waited": 0.0, "sums": {}}
        self.steps: int = past["steps"]
        self.seconds: float = past["seconds"]
        self.waited: float = past["waited"]
        self.sums: dict[str, float] = dict(past["sums"])

    def add(self, terms: Mapping[str, float], *, waited: float, seconds: float) -> None:
        """Count a step's terms, the seconds it waited for its batch, and those it then took."""
        self.steps += 1
        self.waited += waited
        self.seconds += waited + seconds
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Give every term's mean over the steps."""
        return {name: total / self.steps for name, total in self.sums.items()}

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint in the middle of an epoch holds of it."""
        return {
            "steps": self.steps,
            "seconds": self.seconds,
            "waited": self.waited,
            "sums": dict(self.sums),
        }
