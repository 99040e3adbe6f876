"""Finding the colour and depth images that people name, in the usual layouts."""

import os
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffreid.engine.dataset_files import clean, describe_folder, read_lines
from ffreid.errors import UserError
from ffreid.files import regular
from ffreid.report import log

COLOUR_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".exr", ".npy", ".pgm")
COLOURS = ("color", "colour", "rgb", "image", "img")
DEPTHS = ("depth", "depths", "d")
"""Words of file and folder names."""
LISTS = (".txt", ".csv", ".lst", ".tsv")
TUM_GAP, TUM_SCALE = 0.02, 5000.0
"""Seconds between colour and depth of a frame, and depth units per metre, of the TUM benchmark."""
DEEPEST = 2
"""Levels of folders that are searched below a folder without frames."""
LAYOUTS = (
    "a-color.png with a-depth.png, rgb/ with depth/, color/ with depth/, scene_camera.json (BOP), "
    "or rgb.txt with depth.txt (TUM)"
)


@dataclass(frozen=True)
class FramePaths:
    """Files of a frame.

    `name` is that of the colour image without what says "colour", `folder` where cameras beside
    the frame are looked for. `depth_scale` (units per metre) is the layout's, if it has one.
    `problem` is why a listed frame was not found.
    """

    name: str
    colour: Path
    depth: Path
    folder: Path
    depth_scale: float | None = None
    problem: UserError | None = None

    @property
    def number(self) -> int | None:
        """The frame's number: the last one in its name."""
        digits = re.findall(r"\d+", self.name.rpartition("/")[2])
        return int(digits[-1]) if digits and len(digits[-1]) < 19 else None


def find(argument: Path, depth: Path | None = None) -> list[FramePaths]:
    """Frames of a colour image (with its `depth`), a folder, or a list.

    Raises:
        UserError: there are none.
    """
    if depth is not None:
        check_image(argument)
        return [_pair(argument, depth)]
    if argument.is_dir():
        frames = list(_in_folder(argument))
        if not frames:
            raise UserError(
                f"no frames in {argument}: {describe_folder(argument)}", f"expected {LAYOUTS}"
            )
        return frames
    check_image(argument)
    if argument.suffix.lower() in LISTS:
        return [frame for line in read_lines(argument) for frame in of_line(line, argument.parent)]
    return [_pair(argument, _depth_of(argument))]


def check_image(path: Path) -> None:
    """Refuse what is no regular file."""
    try:
        regular(path)
    except FileNotFoundError as error:
        hint = "use a colour image, a folder of frames, a list of them, or - for standard input"
        raise UserError(f"no file or folder {path}", hint) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "use a regular file") from error


def of_line(line: str, folder: Path) -> list[FramePaths]:
    """Frames of a line of a list: a path, or colour and depth separated by tab, comma or blank.

    A frame that is not found has its `problem`: it does not stop the others.
    """
    try:
        if not os.path.lexists(folder / line):
            for separator in ("\t", ",", " "):
                parts = [clean(part) for part in line.split(separator)]
                if len(parts) == 2 and all(parts) and os.path.lexists(folder / parts[0]):
                    return find(folder / parts[0], folder / parts[1])
        return find(folder / line)
    except UserError as error:
        path = folder / line
        return [FramePaths(line, path, path, folder, problem=error)]


def _in_folder(folder: Path, level: int = 0) -> Iterator[FramePaths]:
    with os.scandir(folder) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    names = {entry.name for entry in entries}
    folders = [entry.name for entry in entries if entry.is_dir()]
    colours, depths = (
        next((name for word in words for name in folders if name.lower() == word), None)
        for words in (COLOURS, DEPTHS)
    )
    found: Sequence[FramePaths] = ()
    if {"rgb.txt", "depth.txt"} <= names:
        found = _tum(folder)
    elif colours and depths:
        found = _two_folders(folder, colours, depths)
    if not found:
        found = _side_by_side(folder, [entry.name for entry in entries if not entry.is_dir()])
    yield from found
    if not found and level < DEEPEST:
        for name in folders:
            yield from _in_folder(folder / name, level + 1)


def _two_folders(folder: Path, colours: str, depths: str) -> list[FramePaths]:
    """``rgb/NAME.png`` with ``depth/NAME.png``, of any two suffixes."""
    images, maps = (
        {path.stem: path for path in sorted((folder / part).iterdir()) if is_of(path, suffixes)}
        for part, suffixes in ((colours, COLOUR_SUFFIXES), (depths, DEPTH_SUFFIXES))
    )
    # frame-1.color.png with frame-1.depth.png: the same words as side by side
    maps |= {key: path for path in maps.values() if (key := _without(path.stem, DEPTHS))}
    frames = []
    for stem, path in images.items():
        partner = maps.get(stem) or maps.get(_without(stem, COLOURS) or stem)
        partner = partner or folder / depths / f"{stem}.png"  # an error when it is read
        frames.append(FramePaths(f"{folder.name}/{stem}", path, partner, folder))
    used = {frame.depth for frame in frames}
    if images and not any(frame.depth.exists() for frame in frames):
        raise UserError(
            f"no image in {folder / colours} has a partner of its name in {folder / depths}, e.g. "
            f"{next(iter(images.values())).name}",
            "name them alike, or write a list with colour and depth on each line",
        )
    _note_unused(folder / depths, len(set(maps.values()) - used))
    return frames


def _note_unused(folder: Path, count: int) -> None:
    if count:
        log(f"note: depth images in {folder} without a colour image: {count}")


def _side_by_side(folder: Path, names: Sequence[str]) -> list[FramePaths]:
    """``NAME-color.png`` with ``NAME-depth.png``, or ``color-NAME.png`` with ``depth-NAME.png``."""
    maps: dict[str, str] = {}
    for name in names:
        if is_of(Path(name), DEPTH_SUFFIXES) and (key := _without(Path(name).stem, DEPTHS)):
            maps[key] = name
    frames = []
    for name in names:
        if is_of(Path(name), COLOUR_SUFFIXES) and (key := _without(Path(name).stem, COLOURS)):
            partner = folder / maps.get(key, _renamed(Path(name)))
            frames.append(FramePaths(f"{folder.name}/{key}", folder / name, partner, folder))
    used = {frame.depth.name for frame in frames}
    _note_unused(folder, len(set(maps.values()) - used))
    return frames


def _tum(folder: Path) -> list[FramePaths]:
    """Images of ``rgb.txt`` with the nearest of ``depth.txt``, each used once."""
    images, maps = (_times(folder / name) for name in ("rgb.txt", "depth.txt"))
    times = [time for time, _ in maps]
    near = []
    for index, (time, _) in enumerate(images):
        start = bisect_left(times, time - TUM_GAP)
        while start < len(times) and times[start] <= time + TUM_GAP:
            near.append((abs(times[start] - time), index, start))
            start += 1
    pairs: dict[int, int] = {}
    used: set[int] = set()
    for _, image, partner in sorted(near):
        if image not in pairs and partner not in used:
            pairs[image] = partner
            used.add(partner)
    if not pairs:
        raise UserError(
            f"{folder}: no time in rgb.txt is within {TUM_GAP} s of one in depth.txt",
            "use lists of one recording, times in seconds",
        )
    if left := len(images) - len(pairs):
        log(f"note: images in {folder / 'rgb.txt'} without depth within {TUM_GAP} s: {left}")
    return [
        FramePaths(
            f"{folder.name}/{Path(images[i][1]).stem}",
            folder / images[i][1],
            folder / maps[partner][1],
            folder,
            TUM_SCALE,
        )
        for i, partner in sorted(pairs.items())
    ]


def _times(path: Path) -> list[tuple[float, str]]:
    rows = []
    for line in read_lines(path, "time and file"):
        if line.startswith("#"):
            continue
        time, _, name = line.replace(",", " ").partition(" ")
        try:
            rows.append((float(time), name.strip()))
        except ValueError as error:
            hint = "write 'SECONDS FILE', as the TUM benchmark does"
            raise UserError(f"{path}: {line!r} has no time", hint) from error
    return sorted(rows)


def _pair(colour: Path, depth: Path) -> FramePaths:
    stem = _without(colour.stem, COLOURS) or colour.stem
    parent = colour.absolute().parent
    folder = parent.parent if parent.name.lower() in COLOURS else parent
    return FramePaths(f"{folder.name}/{stem}", colour, depth, folder)


def _depth_of(colour: Path) -> Path:
    """The depth image of a colour image, by the usual namings."""
    parent = colour.absolute().parent
    named = Path(_renamed(colour)).stem
    places = [colour.with_name(named)]
    if parent.name.lower() in COLOURS:
        places += [parent.parent / word / stem for word in DEPTHS for stem in (colour.stem, named)]
    for place in places:
        for suffix in DEPTH_SUFFIXES:
            if (path := place.with_name(f"{place.name}{suffix}")).is_file():
                return path
    if (key := _without(colour.stem, COLOURS)) is not None:
        for path in sorted(colour.parent.iterdir()):
            if is_of(path, DEPTH_SUFFIXES) and _without(path.stem, DEPTHS) == key:
                return path
    raise UserError(
        f"no depth image of {colour}",
        f"add --depth FILE, or name it {_renamed(colour)} beside the colour image",
    )


def is_of(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether a file's name ends in one of `suffixes`, in any case; hidden files do not."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def _without(stem: str, words: Sequence[str]) -> str | None:
    """A name without its word "colour" or "depth"; None where it has none."""
    parts = re.split(r"([-_.])", stem)
    for index in range(len(parts) - 1, -1, -2):
        if parts[index].lower() in words:
            left, right = parts[: max(0, index - 1)], parts[index + 1 + (not index) :]
            return "".join([*left, *right]) or "frame"
    return None


def _renamed(colour: Path) -> str:
    key = _without(colour.stem, COLOURS)
    if key is None:
        return f"{colour.stem}-depth.png"
    for word in COLOURS:
        name = re.sub(rf"(?<![a-zA-Z]){word}(?![a-zA-Z])", "depth", colour.stem, flags=re.I)
        if name != colour.stem:
            return f"{name}.png"
    return f"{key}-depth.png"
