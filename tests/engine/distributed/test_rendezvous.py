"""Processes that a store greets by the words of earlier ones still find each other."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch.distributed as dist

from ffreid.engine.distributed.rendezvous import Meeting, meet

SIZE = 3


def met(store: Any) -> list[Meeting]:
    """All processes' meetings, as threads; the first one comes last."""
    with ThreadPoolExecutor(SIZE) as pool:
        found = [
            pool.submit(meet, store, rank=rank, size=SIZE, seconds=10.0)
            for rank in reversed(range(SIZE))
        ]
        return [one.result() for one in found]


def test_all_agree_on_a_name_that_no_earlier_start_had() -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    first, *others = met(store)
    assert others == [first] * (SIZE - 1)
    assert len(first.places) == SIZE
    assert not first.again
    second, *others = met(store)
    assert others == [second] * (SIZE - 1)
    assert second.name != first.name
    assert second.again


@pytest.mark.parametrize("rank", [0, 1])
def test_nobody_meets_those_of_an_earlier_start(rank: int) -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    met(store)
    with pytest.raises(RuntimeError, match="timed out waiting"):
        meet(store, rank=rank, size=SIZE, seconds=0.1)
