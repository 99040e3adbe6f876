"""Which pixels become points."""

from typing import Any

import numpy as np
import numpy.typing as npt

# A frame with fewer measured pixels is not fed.
MIN_POINTS = 400


def choose_points(
    valid: npt.NDArray[np.integer[Any]], count: int, rng: np.random.RandomState
) -> npt.NDArray[np.int32]:
    """Choose `count` of the measured pixels, in random order.

    Too few pixels are repeated from the start. The generator is called as the original calls
    numpy's, so equal seeds give equal choices.

    Args:
        valid: flat indices of the measured pixels, ascending, at least one.
        count: points wanted.
        rng: is advanced by one shuffle, or two where there are more pixels than wanted.

    Returns:
        (count,) int32.
    """
    if len(valid) > count:
        kept = np.zeros(len(valid), int)
        kept[:count] = 1
        rng.shuffle(kept)
        chosen = valid[kept.nonzero()]
    else:
        chosen = np.pad(valid, (0, count - len(valid)), "wrap")
    order = np.arange(count)
    rng.shuffle(order)
    return chosen[order].astype(np.int32)
