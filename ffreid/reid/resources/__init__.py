"""Facts shipped with the package: published counts of the datasets, published results."""

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def resource(name: str) -> dict[str, Any]:
    """Read ``<name>.json`` of this folder (``counts``, ``published``)."""
    parsed: dict[str, Any] = json.loads((files(__name__) / f"{name}.json").read_text())
    return parsed
