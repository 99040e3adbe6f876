"""One file for each data set, from its layout on disk to records."""

from collections.abc import Callable

from ffreid.reid.data.readers import (
    ccvid,
    deepchange,
    folder,
    last,
    ltcc,
    market1501,
    prcc,
    vcclothes,
)
from ffreid.reid.data.records import Source

READERS: dict[str, Callable[..., Source]] = {
    "ltcc": ltcc.read,
    "prcc": prcc.read,
    "vcclothes": vcclothes.read,
    "vcclothes_sc": vcclothes.read_same_clothes,
    "vcclothes_cc": vcclothes.read_changed_clothes,
    "last": last.read,
    "deepchange": deepchange.read,
    "ccvid": ccvid.read,
    "folder": folder.read,
    "market1501": market1501.read,
}
"""Data sets by name; each takes the data set's own folder or the one that holds it (a Path)."""

LISTED = ("ccvid", "deepchange", "folder")
"""Those that lists describe, which may name what isn't there; they take `skip_broken` as well."""
