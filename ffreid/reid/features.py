"""Extracted features of queries and gallery, and the file that stores them for later evaluation.

The file is numpy's ``.npz`` without pickles: ``query_features`` (N, D) of length 1,
``query_identity``, ``query_camera``, ``query_clothes`` (N,) integers and ``query_path`` (N,) text,
the same for ``gallery_``; the known columns (``columns``); the names of dataset, network and
weights, and the training ``method``; ``protocols``, ``single_shot`` and ``about`` (the remaining
attributes of `ExtractedFeatures`; older files lack it) as JSON text; ``version``.
"""

import json
import zipfile
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
from ffreid.files import check_file
from ffreid.reid.data.records import Names, own_names
from ffreid.reid.retrieval.features import check_features, unit
from ffreid.reid.retrieval.protocols import Labels, Protocol

VERSION = 1
CAL, BASELINE = "CAL", "CAL's baseline"
"""Methods with published results."""
COLUMNS = ("identity", "camera", "clothes")
_PARTS = ("query", "gallery")
_NAMES = ("dataset", "network", "weights", "method")
_ABOUT = ("broken", "skipped", "own_images", "trained_on", "computed", "names")
_TEXT_KEYS = (*_NAMES, "protocols", "single_shot")
MAX_UNPACKED = 100
"""The file may claim this many times its own size: features hardly shrink, zip bombs do."""
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_UNIT_TOLERANCE = 1e-3
_REWRITE = "write the file again with --save-features FILE"
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class LabelledFeatures:
    """Features (N, D) of images or tracklets, of length 1 and on the CPU, with their labels.

    `labels` are the columns ``identity``, ``camera``, ``clothes``, known or not; `paths` are image
    files or tracklet folders, relative to the dataset's folder.
    """

    features: Tensor
    labels: Labels
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.features)

    def known(self, columns: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """Identities and the named columns on `device`."""
        return {name: self.labels[name].to(device) for name in ("identity", *columns)}

    def own_names(self, names: Names, columns: Sequence[str], index: int) -> dict[str, str]:
        """Identity and labels of the named columns of an item, by column, as in `EvalSplit`."""
        shown = ("identity", *columns)
        return own_names(names, {column: int(self.labels[column][index]) for column in shown})

    def select(self, rows: Tensor) -> "LabelledFeatures":
        """The items with the indices `rows` (M,)."""
        return LabelledFeatures(
            features=self.features[rows],
            labels={name: values[rows] for name, values in self.labels.items()},
            paths=tuple(self.paths[row] for row in rows.tolist()),
        )


@dataclass(frozen=True, kw_only=True)
class ExtractedFeatures:
    """Features of queries and gallery, and the protocols of their evaluation.

    Attributes:
        weights: path of the checkpoint.
        columns: known labels besides the identity.
        single_shot: galleries of one image per identity, as indices into the gallery.
        broken: reasons by path of the unreadable files.
        skipped: numbers of queries and of gallery items with unreadable files.
        own_images: paths of the queries, each with the gallery item that has its image and counts
            as a match.
        method: of training, `CAL` or `BASELINE`.
        trained_on: the dataset that trained the weights, empty if unknown.
        computed: how, e.g. "in bfloat16"; empty is by torch in float32.
        names: the dataset's own names of labels, see `EvalSplit`.
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
    skipped: tuple[int, int] = (0, 0)
    own_images: Mapping[str, str] = field(default_factory=dict)
    method: str = CAL
    trained_on: str = ""
    computed: str = ""
    names: Names = field(default_factory=dict)

    def labels(self, device: torch.device) -> tuple[Labels, Labels]:
        """The known columns of queries and gallery on `device`."""
        return self.query.known(self.columns, device), self.gallery.known(self.columns, device)


def save(path: Path, features: ExtractedFeatures) -> None:
    """Write `features` to exactly `path`, completely or not at all."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "version": np.array(VERSION),
        **{name: np.array(getattr(features, name)) for name in _NAMES},
        "columns": np.array(features.columns, np.str_),
        "protocols": np.array(json.dumps([asdict(protocol) for protocol in features.protocols])),
        "single_shot": np.array(json.dumps(features.single_shot)),
        "about": np.array(json.dumps({name: getattr(features, name) for name in _ABOUT})),
    }
    for name, part in zip(_PARTS, (features.query, features.gallery), strict=True):
        arrays[f"{name}_features"] = part.features.numpy()
        arrays |= {f"{name}_{column}": part.labels[column].numpy() for column in COLUMNS}
        arrays[f"{name}_path"] = np.array(part.paths, np.str_)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path.resolve()) as file:  # numpy would append .npz to a path
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}", "use another path with --save-features FILE"
        ) from error


def load(path: Path, dataset: str) -> ExtractedFeatures:
    """Read a file of `save` for `dataset`; features that are not of length 1 are normalised."""
    arrays = _read(path)
    parts = (f"{part}_{name}" for part in _PARTS for name in ("features", *COLUMNS, "path"))
    needed = ("version", "columns", *_TEXT_KEYS, *parts)
    if "version" not in arrays:
        raise UserError(f"{path} was not written by --save-features", _REWRITE)
    if missing := [name for name in needed if name not in arrays]:
        raise UserError(f"{path} lacks {', '.join(missing)}", _REWRITE)
    if arrays["version"].tolist() != VERSION:
        raise UserError(f"{path} has version {arrays['version']}, expected {VERSION}", _REWRITE)
    texts: dict[str, Any] = {name: str(arrays[name]) for name in _TEXT_KEYS}
    if texts["dataset"] != dataset:
        raise UserError(
            f"{path} contains features of {texts['dataset']}, not of {dataset}",
            f"evaluate it with --dataset {texts['dataset']}",
        )
    query, gallery = (_part(path, arrays, name) for name in _PARTS)
    if query.features.shape[1] != gallery.features.shape[1]:
        lengths = f"{query.features.shape[1]} and {gallery.features.shape[1]}"
        raise UserError(f"{path}: query and gallery features have lengths {lengths}", _REWRITE)
    columns = tuple(arrays["columns"].reshape(-1).tolist())
    if unknown := set(columns) - set(COLUMNS):
        raise UserError(f"{path}: unknown columns {', '.join(map(str, sorted(unknown)))}", _REWRITE)
    try:
        protocols = tuple(_protocol(row) for row in json.loads(texts["protocols"]))
        single_shot = tuple(tuple(map(int, trial)) for trial in json.loads(texts["single_shot"]))
        about = _about(json.loads(str(arrays.get("about", "{}"))))
    except _MALFORMED as error:
        raise UserError(f"{path}: cannot read protocols, single_shot or about", _REWRITE) from error
    if any(not 0 <= index < len(gallery) for trial in single_shot for index in trial):
        raise UserError(f"{path}: single_shot has indices beyond the gallery", _REWRITE)
    return ExtractedFeatures(
        **{name: texts[name] for name in _NAMES},
        columns=columns,
        protocols=protocols,
        query=query,
        gallery=gallery,
        single_shot=single_shot,
        **about,
    )


def _about(values: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes `_ABOUT` from JSON."""
    queries, items = values.get("skipped", (0, 0))
    return {
        "skipped": (int(queries), int(items)),
        **{name: str(values.get(name, "")) for name in ("trained_on", "computed")},
        "names": {
            str(column): {int(number): str(name) for number, name in names.items()}
            for column, names in values.get("names", {}).items()
        },
        **{
            name: {str(k): str(v) for k, v in values.get(name, {}).items()}
            for name in ("broken", "own_images")
        },
    }


def _read(path: Path) -> Arrays:
    check_file(path, "file", "use --features FILE with a file of --save-features")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as members:
            unpacked = sum(item.file_size for item in members.infolist())
            if unpacked > MAX_UNPACKED * path.stat().st_size:
                raise ValueError("features hardly shrink")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            return {key: archive[key] for key in archive.files}
    except Exception as error:
        # zipfile and numpy raise many kinds of errors; numpy's text suggests loading pickles.
        raise UserError(
            f"{path} was not written by --save-features ({type(error).__name__})", _REWRITE
        ) from error


def _part(path: Path, arrays: Arrays, name: str) -> LabelledFeatures:
    values = arrays[f"{name}_features"]
    if values.ndim != 2 or values.dtype not in (np.float16, np.float32, np.float64):
        found = f"{values.dtype} of shape {values.shape}"
        raise UserError(f"{path}: {name}_features are {found}, expected (N, D) floats", _REWRITE)
    for column in (*COLUMNS, "path"):
        labels, kinds = arrays[f"{name}_{column}"], "U" if column == "path" else "iu"
        if labels.shape != values.shape[:1] or labels.dtype.kind not in kinds:
            found = f"{labels.dtype} of shape {labels.shape}, for {len(values)} features"
            raise UserError(f"{path}: {name}_{column} is {found}", _REWRITE)
    features = torch.from_numpy(values if values.dtype != np.float16 else values.astype(np.float32))
    check_features(features, name, arrays[f"{name}_path"].tolist())
    if bool(((features.norm(dim=1) - 1).abs() > _UNIT_TOLERANCE).any()):
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
        **{
            part: tuple((str(column), tuple(map(int, values))) for column, values in row[part])
            for part in ("queries", "gallery")
        },
    )
