"""A search whose pictures have become features, and its file, which is evaluated without them.

The file is numpy's ``.npz`` without pickles: ``query_features`` (N, D) of length 1,
``query_identity``, ``query_camera``, ``query_clothes`` (N,) integers and ``query_path`` (N,) text,
the same for ``gallery_``; which of the columns are known (``columns``); the data set's name, the
network's and the weights', and what trained them (``method``); ``protocols`` and ``single_shot``
as JSON text; and ``version``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffreid.atomic import atomic_write
from ffreid.errors import UserError
from ffreid.reid.retrieval.features import check_finite, unit
from ffreid.reid.retrieval.protocols import ColumnFilter, Labels, Protocol

VERSION = 1
CAL, BASELINE = "CAL", "CAL's baseline"
"""Methods that results are published of."""
COLUMNS = ("identity", "camera", "clothes")
_SIDES = ("query", "gallery")
_TEXTS = ("dataset", "network", "weights", "method", "protocols", "single_shot")
_UNIT = 1e-3
_AGAIN = "write the file again with --save-features FILE"
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class LabelledFeatures:
    """Pictures or tracklets as features.

    Attributes:
        features: (N, D) of length 1, on the CPU.
        labels: columns (N,) ``identity``, ``camera``, ``clothes``, known or not.
        paths: pictures' files and tracklets' folders, below the data set's.
    """

    features: Tensor
    labels: Labels
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.features)

    def known(self, columns: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """Give the identities and the named columns on `device`."""
        return {name: self.labels[name].to(device) for name in ("identity", *columns)}

    def some(self, rows: Tensor) -> "LabelledFeatures":
        """Give the items `rows` (M,) indices."""
        return LabelledFeatures(
            features=self.features[rows],
            labels={name: values[rows] for name, values in self.labels.items()},
            paths=tuple(self.paths[row] for row in rows.tolist()),
        )


@dataclass(frozen=True, kw_only=True)
class ExtractedFeatures:
    """Queries and gallery as features, and how they are judged.

    Attributes:
        dataset: name of the data set.
        network: what made the features, e.g. ``resnet50``.
        weights: where its weights come from.
        columns: which labels are known besides the identity.
        protocols: rows of the table.
        query: what is searched for.
        gallery: what is searched.
        single_shot: small galleries, as indices into the gallery.
        broken: why tracklets and pictures were left out, by path.
        method: what trained the network, `CAL` or `BASELINE`.
    """

    dataset: str
    network: str
    weights: str
    columns: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    query: LabelledFeatures
    gallery: LabelledFeatures
    single_shot: tuple[tuple[int, ...], ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    method: str = CAL

    def labels(self, device: torch.device) -> tuple[Labels, Labels]:
        """Give the known columns of queries and gallery on `device`."""
        return self.query.known(self.columns, device), self.gallery.known(self.columns, device)


def save(path: Path, search: ExtractedFeatures) -> None:
    """Write `search` to exactly `path`, completely or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        "version": np.array(VERSION),
        "dataset": np.array(search.dataset),
        "network": np.array(search.network),
        "weights": np.array(search.weights),
        "method": np.array(search.method),
        "columns": np.array(search.columns, np.str_),
        "protocols": np.array(json.dumps([asdict(protocol) for protocol in search.protocols])),
        "single_shot": np.array(json.dumps(search.single_shot)),
    }
    for name, side in zip(_SIDES, (search.query, search.gallery), strict=True):
        arrays[f"{name}_features"] = side.features.numpy()
        arrays |= {f"{name}_{column}": side.labels[column].numpy() for column in COLUMNS}
        arrays[f"{name}_path"] = np.array(side.paths, np.str_)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:  # numpy would append .npz to a path
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}", "use another path with --save-features FILE"
        ) from error


def load(path: Path, dataset: str) -> ExtractedFeatures:
    """Read a file of `save`; features that are not of length 1 are scaled.

    Args:
        path: of the file.
        dataset: whose features are expected.

    Raises:
        UserError: it is missing or unreadable, of another data set, or lacks something; its arrays
            are of different lengths or no features; a feature is NaN or infinite.
    """
    arrays = _read(path)
    sides = (f"{side}_{name}" for side in _SIDES for name in ("features", *COLUMNS, "path"))
    needed = ("version", "columns", *_TEXTS, *sides)
    if "version" not in arrays:
        raise UserError(f"{path} is no .npz that --save-features wrote", _AGAIN)
    if missing := [name for name in needed if name not in arrays]:
        raise UserError(f"{path} lacks {', '.join(missing)}", _AGAIN)
    if arrays["version"].tolist() != VERSION:
        raise UserError(f"{path} is of version {arrays['version']}, not {VERSION}", _AGAIN)
    texts = {name: str(arrays[name]) for name in _TEXTS}
    if texts["dataset"] != dataset:
        raise UserError(
            f"{path} holds features of {texts['dataset']}, not of {dataset}",
            f"evaluate it with --dataset {texts['dataset']}",
        )
    query, gallery = (_side(path, arrays, name) for name in _SIDES)
    if query.features.shape[1] != gallery.features.shape[1]:
        lengths = f"{query.features.shape[1]} and {gallery.features.shape[1]}"
        raise UserError(f"{path}: query and gallery features are {lengths} long", _AGAIN)
    columns = tuple(arrays["columns"].reshape(-1).tolist())
    if unknown := set(columns) - set(COLUMNS):
        raise UserError(f"{path}: unknown columns {', '.join(map(str, sorted(unknown)))}", _AGAIN)
    try:
        protocols = tuple(_protocol(row) for row in json.loads(texts["protocols"]))
        single_shot = tuple(tuple(map(int, some)) for some in json.loads(texts["single_shot"]))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: protocols or single_shot cannot be read", _AGAIN) from error
    if any(not 0 <= index < len(gallery) for some in single_shot for index in some):
        raise UserError(f"{path}: single_shot names items that the gallery lacks", _AGAIN)
    return ExtractedFeatures(
        dataset=texts["dataset"],
        network=texts["network"],
        weights=texts["weights"],
        method=texts["method"],
        columns=columns,
        protocols=protocols,
        query=query,
        gallery=gallery,
        single_shot=single_shot,
    )


def _read(path: Path) -> Arrays:
    if not path.is_file():
        raise UserError(f"no file {path}", "--features takes a file that --save-features wrote")
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            if not isinstance(held, np.lib.npyio.NpzFile):
                raise ValueError("it is one array")
            return {key: held[key] for key in held.files}
    except Exception as error:
        # zipfile and numpy raise errors of many kinds; numpy's text advises to load pickles.
        raise UserError(
            f"{path} is no .npz that --save-features wrote ({type(error).__name__})", _AGAIN
        ) from error


def _side(path: Path, arrays: Arrays, name: str) -> LabelledFeatures:
    values = arrays[f"{name}_features"]
    if values.ndim != 2 or values.dtype not in (np.float16, np.float32, np.float64):
        shape = f"{values.dtype} of shape {values.shape}"
        raise UserError(f"{path}: {name}_features are {shape}, not rows of floats", _AGAIN)
    for column in (*COLUMNS, "path"):
        labels = arrays[f"{name}_{column}"]
        if labels.shape != values.shape[:1]:
            raise UserError(
                f"{path}: {name}_{column} has shape {labels.shape} for {len(values)} features",
                _AGAIN,
            )
        if labels.dtype.kind not in ("U" if column == "path" else "iu"):
            raise UserError(f"{path}: {name}_{column} is of type {labels.dtype}", _AGAIN)
    features = torch.from_numpy(values if values.dtype != np.float16 else values.astype(np.float32))
    check_finite(features, name)
    if bool(((features.norm(dim=1) - 1).abs() > _UNIT).any()):
        features = unit(features)
    columns = {c: torch.from_numpy(arrays[f"{name}_{c}"].astype(np.int64)) for c in COLUMNS}
    return LabelledFeatures(
        features=features, labels=columns, paths=tuple(arrays[f"{name}_path"].tolist())
    )


def _protocol(row: Mapping[str, Any]) -> Protocol:
    return Protocol(
        name=str(row["name"]),
        same=tuple(row["same"]),
        other=tuple(row["other"]),
        queries=_choice(row["queries"]),
        gallery=_choice(row["gallery"]),
    )


def _choice(rows: Sequence[tuple[str, Sequence[int]]]) -> ColumnFilter:
    return tuple((str(column), tuple(map(int, values))) for column, values in rows)
