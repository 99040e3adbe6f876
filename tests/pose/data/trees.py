"""The pyramid's own search, asked a single question."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.pose.data.pyramid import _build, _nearest


def tree_nearest(
    kind: str, support: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], k: int
) -> npt.NDArray[Any]:
    """(Q, k) rows of `support`, found as the pyramid finds them (`kind`: points or pixels)."""
    return _nearest(_build(k, kind, support), queries, k)
