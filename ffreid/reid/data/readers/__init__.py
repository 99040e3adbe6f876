"""One module for each dataset, from its files on disk to records."""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import cast

from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS

Reader = Callable[..., Source]
"""Takes the dataset's folder or the one that contains it (a Path), and `skip_broken` (bool).

Readers raise UserError if a file or folder is missing, empty or malformed, or if training and test
share an identity.
"""


def find_reader(name: str) -> Reader:
    """The reader of a dataset."""
    return cast(Reader, resolve_name(f"{__name__}.{DATASETS[name].reader}"))


READERS = {name: find_reader(name) for name, info in DATASETS.items() if not info.is_toy}
