"""Configuration: defaults, a YAML file and KEY VALUE pairs merged into one yacs tree.

yacs holds and dumps the tree; merging and type checks are done here, so that every error names
its source and suggests a correction.
"""

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import Any

import yaml
from yacs.config import CfgNode

from ffreid.errors import UserError, flat
from ffreid.files import regular
from ffreid.report import log


def _precision_from_amp(amp: Any, precision: Any) -> Any:
    if str(amp).lower() == "true":
        return "amp" if precision == "fp32" else precision
    return "fp32" if precision == "amp" else precision


def _select_metric(metric: str, select: str) -> str:
    if metric == "rank1":
        return select  # the default
    *protocol, _, _ = select.rsplit(" ", 2) if select else ("", "")
    return " ".join([*protocol, "mAP" if metric == "map" else str(metric), "max"])


def _select_protocol(protocol: str, select: str) -> str:
    return f"{protocol} {select.split(' ')[-2] if select else 'rank-1'} max" if protocol else select


RENAMED: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "TRAIN.AMP": ("TRAIN.PRECISION", _precision_from_amp),
    "DATA.OVERFIT": ("DATA.FRAMES", lambda frames, _: frames),
    "TEST.SELECT_METRIC": ("TRAIN.SELECT", _select_metric),
    "TEST.SELECT_PROTOCOL": ("TRAIN.SELECT", _select_protocol),
}
"""Old keys that are still accepted: the new key, and its value from (old value, current value)."""

ADDED = {"DATA.DECODE": ("DATA.SKIP_BROKEN", "pil")}
"""Newer keys: a key that configurations had already before, and the value that they meant."""

LONGEST_INTEGER = 400
"""Characters of an integer in YAML."""
MAX_EXPANDED = 10_000
"""Values that aliases in YAML may add to those written out, at most one a character."""


class _Loader(yaml.SafeLoader):
    """YAML without dates: 2024-02-30 is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _construct_integer(loader: Any, node: yaml.ScalarNode) -> int:
    """Refuse integers that Python does not print, or that in base 60 take long."""
    if len(node.value) > LONGEST_INTEGER:
        raise ValueError(f"an integer of {len(node.value):,} characters")
    return int(loader.construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_integer)


def parse_yaml(text: str | bytes, loader: Any = _Loader) -> Any:
    """Parse YAML in time linear in its length.

    Raises:
        ValueError: it is invalid, too deeply nested, or its aliases expand to far more than it.
    """
    try:
        parsed = yaml.load(text, loader)
    except (yaml.YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else flat(str(error))
        raise ValueError(reason) from error
    queue, count = [parsed], 0
    while queue:
        item = queue.pop()
        if isinstance(item, Mapping):
            item = [*item.keys(), *item.values()]
        if isinstance(item, list | tuple | set):
            queue += item
            count += len(item)
        if count > len(text) + MAX_EXPANDED:
            raise ValueError("its aliases expand without end, or nearly so")
    return parsed


def merge_file(cfg: CfgNode, path: Path) -> None:
    """Merge a YAML file of nested keys into `cfg`."""
    hint = "write lines like 'TRAIN:' and '  BATCH: 8'"
    try:
        tree = parse_yaml(regular(path).read_text())
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}", "use --cfg FILE with an existing YAML file"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}", hint) from error
    if not isinstance(tree, Mapping | None):
        raise UserError(f"{path} has no keys", hint)
    # Old keys last: a dumped configuration of before has both TRAIN.AMP and TRAIN.PRECISION.
    for key, value in sorted(leaves(tree or {}), key=lambda leaf: leaf[0] in RENAMED):
        if value is not None or not isinstance(_get(cfg, key), CfgNode):  # else an empty section
            _set(cfg, key, value, f"in {path}")


def split_pairs(pairs: Sequence[str]) -> list[tuple[str, str]]:
    """Keys and values of KEY VALUE pairs."""
    if len(pairs) % 2:
        raise UserError(
            f"{pairs[-1]!r} has no value", "settings come in pairs, e.g. TRAIN.BATCH 8 SEED 1"
        )
    return list(zip(pairs[::2], pairs[1::2], strict=True))


def merge_pairs(cfg: CfgNode, pairs: Sequence[str]) -> None:
    """Merge ``KEY VALUE KEY VALUE …`` from the command line into `cfg`."""
    for key, text in split_pairs(pairs):
        _set(cfg, key, text, "on the command line")


def leaves(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of nested sections by dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def keys(cfg: CfgNode) -> Iterator[str]:
    """All dotted keys of the tree that have a value."""
    return (key for key, _ in leaves(cfg))


def lookup(cfg: CfgNode, key: str) -> Any:
    """Value at a dotted key that exists."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def dumped_settings(dumped: str) -> dict[str, Any]:
    """Settings of a dumped configuration by dotted key.

    Raises:
        ValueError: the text is no dumped configuration.
    """
    tree = parse_yaml(dumped)
    if not isinstance(tree, Mapping):
        raise ValueError(f"a {type(tree).__name__} instead of keys")
    return dict(leaves(tree))


def differing(cfg: CfgNode, dumped: str) -> list[tuple[str, Any, Any]]:
    """Keys whose value differs from a configuration dumped earlier: (key, then, now).

    Keys that only one of the two has are ignored.
    """
    earlier, now = dumped_settings(dumped), dict(leaves(cfg))
    for old, (new, convert) in RENAMED.items():
        if old in earlier and old not in now and new in now:
            earlier[new] = convert(earlier[old], earlier.get(new, now[new]))
    for key, (beside, value) in ADDED.items():
        if beside in earlier:
            earlier.setdefault(key, value)
    shared = [key for key in now if key in earlier]
    return [(key, earlier[key], now[key]) for key in shared if earlier[key] != now[key]]


def check_choices(cfg: CfgNode, choices: Mapping[str, Collection[str]]) -> None:
    """Refuse values that are not among the choices of their key."""
    for key, allowed in choices.items():
        if (value := lookup(cfg, key)) not in allowed:
            raise UserError(f"{key} is {value!r}", f"choose one of: {', '.join(allowed)}")


def check_least(cfg: CfgNode, least: Mapping[str, float]) -> None:
    """Refuse numbers below their minimum."""
    for key, bound in least.items():
        if not (value := lookup(cfg, key)) >= bound:  # also refuses NaN
            raise UserError(f"{key} is {value}", f"set {key} to {bound} or more")


def check_folder(cfg: CfgNode, tree: str) -> None:
    """Refuse a dataset without an existing folder; `tree` is the expected layout in one line."""
    root = cfg.DATA.ROOT
    if not root or not Path(root).is_dir():
        raise UserError(
            f"no folder {root}" if root else f"no data folder for {cfg.DATASET}",
            "use --root FOLDER (or set FFREID_DATA) with the dataset's folder or the one that "
            f"contains it; expected layout: {tree}",
        )


def _get(cfg: CfgNode, key: str) -> Any:
    """Value or section at a dotted key, None where there is none."""
    node: Any = cfg
    for part in key.split("."):
        node = node.get(part) if isinstance(node, CfgNode) else None
    return node


def _set(cfg: CfgNode, key: str, value: Any, source: str) -> None:
    current, note = _get(cfg, key), ""
    if current is None and key in RENAMED and _get(cfg, RENAMED[key][0]) is not None:
        new, convert = RENAMED[key]
        current = _get(cfg, new)
        value = convert(value, current)
        key, note = new, f"note: {key} {source} is deprecated; use {new} {quote(str(value))}"
    if current is None or isinstance(current, CfgNode):
        raise UserError(f"unknown key {key} {source}", _suggest(cfg, key))
    try:
        fitted = _fit(value, current)
    except ValueError as error:
        example = str(current).lower() if isinstance(current, bool) else current
        raise UserError(
            f"{key} is {'empty' if value is None else repr(value)} {source}; expected {error}",
            f"use e.g. {key} {str(example).replace(' ', '') or 'TEXT'}",
        ) from None
    if note and fitted != current and os.environ.get("RANK", "0") == "0":
        log(note)
    section, _, name = key.rpartition(".")
    (_get(cfg, section) if section else cfg)[name] = fitted


def _fit(value: Any, default: Any) -> Any:
    """Convert `value` to the type of `default` where nothing is lost; text may hold a number.

    Items of a list have the type of the default's items, text where it has none; a single value
    is a list of one. The message of a ValueError is the expected type.
    """
    if isinstance(default, list):
        like = default[0] if default else ""
        try:
            if isinstance(value, str) and value.startswith("["):
                value = parse_yaml(value, yaml.BaseLoader)
        except ValueError:
            raise ValueError("a list, e.g. [1, 2]") from None
        try:
            return [_fit(item, like) for item in (value if isinstance(value, list) else [value])]
        except ValueError as error:
            raise ValueError(f"a list, each item {error}") from None
    if isinstance(default, str):
        if isinstance(value, str):
            return value
        raise ValueError("text")
    if isinstance(default, bool):
        truth = _Loader.bool_values.get(value.lower()) if isinstance(value, str) else value
        if isinstance(truth, bool):
            return truth
        raise ValueError("true or false")
    with suppress(ArithmeticError, ValueError):
        number = Decimal(str(value))
        if math.isfinite(float(number)):
            if isinstance(default, float):
                return float(number)
            if number == int(number):
                return int(number)
    raise ValueError("a finite number" if isinstance(default, float) else "an integer")


def _suggest(cfg: CfgNode, key: str) -> str:
    names = {name.rpartition(".")[2]: name for name in keys(cfg)} | {n: n for n in keys(cfg)}
    for close in get_close_matches(key.upper(), names, n=1, cutoff=0.5):
        return f"did you mean {names[close]}? (now {lookup(cfg, names[close])!r})"
    return "all keys and their defaults are in ffreid/<task>/defaults.py"
