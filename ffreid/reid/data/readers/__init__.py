"""One module for each dataset, from its files on disk to records."""

from collections.abc import Callable
from pkgutil import resolve_name

from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS

READERS: dict[str, Callable[..., Source]] = {
    name: resolve_name(f"{__name__}.{info.reader}")
    for name, info in DATASETS.items()
    if info.reader
}
"""Datasets by name; each takes the dataset's folder or the one that contains it (a Path)."""
