"""Configuration: defaults, a YAML file and KEY VALUE pairs merged into one frozen yacs tree.

yacs holds and dumps the tree. Merging is done here: one error type that names the source, a
suggestion for a mistyped key, integers where floats are expected, and ``true`` on the command line.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from ffreid.errors import UserError, flat


def merge_file(cfg: CfgNode, path: Path) -> None:
    """Merge a YAML file of nested keys into `cfg`.

    Raises:
        UserError: the file is missing, is no YAML mapping, or holds an unknown key or wrong value.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}", "give an existing YAML file with --cfg FILE"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is no YAML: {flat(str(error))}", "write lines like 'TRAIN:' and '  BATCH: 8'"
        ) from error
    if tree is None:
        return
    if not isinstance(tree, Mapping):
        raise UserError(f"{path} holds no keys", "write lines like 'TRAIN:' and '  BATCH: 8'")
    for key, value in _leaves(tree):
        _set(cfg, key, value, str(path))


def merge_pairs(cfg: CfgNode, pairs: Sequence[str]) -> None:
    """Merge ``KEY VALUE KEY VALUE …`` from the command line into `cfg`.

    Raises:
        UserError: an odd number of words, an unknown key or a wrong value.
    """
    if len(pairs) % 2:
        raise UserError(
            f"{pairs[-1]!r} has no value",
            "settings come in pairs, e.g. TRAIN.BATCH 8 SEED 1",
        )
    for key, text in zip(pairs[::2], pairs[1::2], strict=True):
        _set(cfg, key, _parse(text), "the command line", text)


def keys(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    """All dotted keys of the tree that hold a value."""
    for key, _ in _leaves(cfg, prefix):
        yield key


def lookup(cfg: CfgNode, key: str) -> Any:
    """Value at a dotted key that exists."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def differing(cfg: CfgNode, dumped: str) -> list[tuple[str, Any, Any]]:
    """Keys whose value in a configuration dumped earlier is another: (key, then, now).

    Keys that only one of the two knows are left out.
    """
    earlier = dict(_leaves(yaml.safe_load(dumped)))
    now = dict(_leaves(cfg))
    shared = [key for key in now if key in earlier]
    return [(key, earlier[key], now[key]) for key in shared if earlier[key] != now[key]]


def check_choices(cfg: CfgNode, choices: Mapping[str, Sequence[str]]) -> None:
    """Refuse values outside their list.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    for key, allowed in choices.items():
        if (value := lookup(cfg, key)) not in allowed:
            raise UserError(f"{key} is {value!r}", f"choose one of: {', '.join(allowed)}")


def check_least(cfg: CfgNode, least: Mapping[str, float]) -> None:
    """Refuse numbers below their least value.

    Raises:
        UserError: naming the key, its value and the least.
    """
    for key, bound in least.items():
        if not (value := lookup(cfg, key)) >= bound:  # NaN is no number to go on with
            raise UserError(f"{key} is {value}", f"set {key} to {bound} or more")


def check_folder(cfg: CfgNode, tree: str) -> None:
    """Refuse a data set whose folder nobody named, or that does not exist.

    Args:
        cfg: with DATASET and DATA.ROOT.
        tree: the expected layout in one line.

    Raises:
        UserError: saying how to name it.
    """
    if not cfg.DATA.ROOT:
        raise UserError(
            f"nobody said where {cfg.DATASET} lies",
            "add --root FOLDER or set FFREID_DATA: the folder that holds the data set's folder, or "
            f"that folder itself: {tree}",
        )
    if not Path(cfg.DATA.ROOT).is_dir():
        raise UserError(
            f"no folder {cfg.DATA.ROOT}",
            f"--root FOLDER holds the data set's folder, or is that folder itself: {tree}",
        )


def _leaves(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parse(text: str) -> Any:
    """A command line word as YAML would read it (``1e-3``, which YAML calls text, as a number)."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _set(cfg: CfgNode, key: str, value: Any, source: str, text: str | None = None) -> None:
    node = cfg
    *parents, last = key.split(".")
    for part in parents:
        node = node.get(part) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or last not in node or isinstance(node[last], CfgNode):
        raise UserError(f"unknown key {key} in {source}", _suggest(cfg, key))
    node[last] = _fit(key, value, node[last], source, text)


def _fit(key: str, value: Any, default: Any, source: str, text: str | None) -> Any:
    """Bring `value` to the type of `default`, where nothing is lost."""
    if isinstance(default, str):
        return text if text is not None else _expect(key, value, str, source)
    if isinstance(default, bool):
        return _expect(key, value, bool, source)
    if isinstance(default, int | float) and isinstance(value, bool):
        raise _wrong(key, value, type(default), source)
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if isinstance(default, float) and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise _wrong(key, value, float, source) from None
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(default, list):
        return list(value) if isinstance(value, list | tuple) else [text or value]
    return _expect(key, value, type(default), source)


def _expect(key: str, value: Any, wanted: type, source: str) -> Any:
    if not isinstance(value, wanted):
        raise _wrong(key, value, wanted, source)
    return value


def _wrong(key: str, value: Any, wanted: type, source: str) -> UserError:
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
    example = {bool: "true", int: "8", float: "0.1"}.get(wanted, "TEXT")
    return UserError(
        f"{key} in {source} is {value!r}; {names.get(wanted, wanted.__name__)} is expected",
        f"write for example: {key} {example}",
    )


def _suggest(cfg: CfgNode, key: str) -> str:
    known = list(keys(cfg))
    close = get_close_matches(key.upper(), known, n=1, cutoff=0.5)
    if not close:
        tails = {name.rpartition(".")[2]: name for name in known}
        tail = get_close_matches(key.upper().rpartition(".")[2], list(tails), n=1, cutoff=0.6)
        close = [tails[name] for name in tail]
    if close:
        return f"did you mean {close[0]}? (now {lookup(cfg, close[0])!r})"
    return "the keys and their defaults stand in ffreid/<task>/defaults.py"
