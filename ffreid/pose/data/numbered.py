"""LineMOD's gt.yml and info.yml: what is known of each frame, by its number."""

import re
from pathlib import Path
from typing import Any

import yaml

from ffreid.config import parse_yaml
from ffreid.errors import UserError, flat
from ffreid.files import regular
from ffreid.pose.defaults import LAYOUTS

_NUMBER = r"[-+]?[.\d][-+.\deE]*"
_LINE = re.compile(
    rf"(\d+): *|(- |  )([A-Za-z]\w*): (?:\[({_NUMBER}(?:, {_NUMBER})*)\]|({_NUMBER})) *", re.ASCII
)
"""Lines of the usual form: a frame, or a number or several under a name."""


def read_numbered(path: Path) -> dict[int, Any]:
    """Read a YAML (or JSON) file of frames by number; all values stay text.

    YAML takes seconds for a scene with several objects: the usual form is read line by line.
    """
    try:
        content = regular(path).read_bytes()
        parsed = parse_lines(content)
        if parsed is None:
            # As text 0010 is 10, which YAML reads as 8.
            parsed = parse_yaml(content, getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except FileNotFoundError as error:
        raise UserError(f"no file {path}", f"expected {LAYOUTS['linemod'].files}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {flat(str(error))}", "copy it again") from error
    if not isinstance(parsed, dict):
        raise UserError(f"{path} contains no frames", "expected 'FRAME: [{cam_R_m2c: …}]'")
    if wrong := [key for key in parsed if frame_number(key) is None]:
        raise UserError(f"{path}: {wrong[0]!r} is not a frame number", "write e.g. 185: …")
    return {int(key): value for key, value in parsed.items()}


def parse_lines(content: bytes) -> Any:
    """What YAML's base loader makes of the usual form; None for any other.

    Below ``185:`` are names with numbers, or, each after ``- ``, several of such blocks.
    """
    try:
        lines = content.decode("ascii").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        return None
    frames: dict[str, Any] = {}
    values: Any = None  # of the frame: None before its first, then a list or a dict
    for line in filter(None, lines):
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        frame, start, name, several, single = match.groups()
        if frame:
            if frames and values is None:
                return None
            key, values = frame, None
            frames[key] = None
            continue
        if not frames:
            return None
        if values is None:
            values = frames[key] = [] if start == "- " else {}
        if start == "- ":
            if isinstance(values, dict):
                return None
            values.append({})
        entry = values[-1] if isinstance(values, list) else values
        entry[name] = several.split(", ") if several else single
    return None if values is None else frames


def frame_number(text: object) -> int | None:
    """The number that `text` is, None if it is none."""
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 10 else None
