"""Finding, reading and writing files of a dataset, with errors that name the file."""

import codecs
import io
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from ffreid.errors import UserError, flat, printable
from ffreid.files import File, opened, regular

DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""Errors that Pillow raises for damaged files, besides `Image.DecompressionBombError`."""
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""Pillow's names of the formats that are read, whatever a file is named: others run programs."""
MAX_PIXELS = 2**30 // 12
"""Of an image, from which on Pillow warns: a small file may unpack to any size."""
LOSSY = ("JPEG", "MPO", "WEBP", "jpeg", "tiff_jpeg", "webp")
"""Pillow's names of formats, and of compressions in TIFF, that change numbers."""
SMALLER = f"reduce it to at most {MAX_PIXELS // 10**6} million pixels"
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
TURNS = dict(
    zip(
        range(2, 9),
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        strict=True,
    )
)
"""What shows an image upright, by its EXIF orientation."""

MARKS = "\ufeff\u200b\u200e\u200f\u2060"
"""Characters that no editor shows: byte order mark, zero width, direction."""


def find_folder(root: Path, names: Sequence[str], evidence: Sequence[str], layout: str) -> Path:
    """Find a dataset's folder: `root`, or one of the `names` below it.

    It contains a file or folder of `evidence`; `layout` describes it in the error.
    """
    # Below the root first: many a folder has a "data" in it.
    for folder in (*(root / name for name in names), root):
        if any((folder / name).exists() for name in evidence):
            return folder
    raise UserError(f"no dataset at {root}: {describe_folder(root)}", f"expected layout: {layout}")


def describe_folder(folder: Path) -> str:
    """The content of a folder, for an error."""
    if not folder.exists():
        return "it does not exist"
    if not folder.is_dir():
        return "it is not a folder"
    names = sorted(entry.name for entry in folder.iterdir())
    return "found " + (", ".join(names[:8]) + (", …" if len(names) > 8 else "") or "nothing")


def read_text(path: File) -> str:
    """Read UTF-8 with or without a byte order mark, or UTF-16 with one, as Windows saves tables.

    Raises:
        OSError, ValueError: the file cannot be read, or is no such text.
    """
    with opened(path) as file:
        content = file.read()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    if "\0" in text:
        raise ValueError("it is not text in UTF-8")
    return text


def read_lines(path: Path, entry: str = "frame") -> list[str]:
    """Lines of a list file without empty ones; each names an `entry`.

    Blanks, invisible marks and quotes around a line are removed; a backslash is read as ``/``.
    """
    try:
        lines = [clean(line).replace("\\", "/") for line in read_text(path).splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the list {path}: {reason_of(error)}",
            f"expected: a text file in UTF-8 with one {entry} per line; {path.parent}: "
            f"{describe_folder(path.parent)}",
        ) from error
    if not any(lines):
        raise UserError(f"the list {path} is empty", f"write one {entry} per line")
    return [line for line in lines if line]


def clean(text: str) -> str:
    """`text` without blanks, invisible marks and quotes around it."""
    text = text.strip().strip(MARKS).strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].strip() if quoted else text


def as_on_disk(folder: Path, paths: Iterable[str]) -> list[str]:
    """Spell paths below `folder` as on disk, where Unicode writes a letter in several ways (NFC).

    A path without such a file stays as it is.
    """

    @cache
    def names(home: str) -> dict[str, str]:
        listed = (folder / home).iterdir() if (folder / home).is_dir() else ()
        return {unicodedata.normalize("NFC", path.name): path.name for path in listed}

    @cache
    def spelt(path: str) -> str:
        home, slash, name = path.rpartition("/")
        home = spelt(home) if home else home
        return home + slash + names(home).get(unicodedata.normalize("NFC", name), name)

    return [path if (folder / path).exists() else spelt(path) for path in paths]


def open_image(path: Path) -> Image.Image:
    """Read an image of one of `FORMATS`, as `to_rgb` converts it."""
    with _open(path, "image") as image:
        return to_rgb(image, str(path))


def stored_as(path: Path) -> tuple[str, bool]:
    """Pillow's mode of an image, and whether it has an EXIF orientation; reads its header only."""
    with _open(path, "image") as image:
        return image.mode, _orientation(image) in TURNS


def to_rgb(image: Image.Image, name: str, *, drop_alpha: bool = False) -> Image.Image:
    """Convert an image to RGB with 8 bits per channel, as every viewer shows it.

    An EXIF orientation is applied and grey of 16 bits scaled, 65535 to 255. Colour profiles are
    ignored, and with `drop_alpha` transparency.

    Raises:
        UserError: naming the mode of an image that viewers show in different ways: transparent,
            with several frames, or grey without a known range; or it is empty or too large.
        Exception: of `DAMAGED`.
    """
    _check(image, name)
    image.load()
    turn = TURNS.get(_orientation(image))
    has_alpha = not drop_alpha and (image.mode in WITH_ALPHA or "transparency" in image.info)
    # Pillow does not convert the transparent grey of 16 bits.
    if has_alpha and (
        image.mode[0] == "I" or image.convert("RGBA").getchannel("A").getextrema()[0] != 255
    ):
        hint = "paste it on a background, e.g. magick FILE -background white -flatten NEW"
        raise UserError(f"{name} (mode {image.mode}) is transparent", hint)
    if image.mode[0] in "IF":
        image = _from_16_bits(image, name)
    rgb = image.convert("RGB")
    return rgb if turn is None else rgb.transpose(turn)


def _from_16_bits(image: Image.Image, name: str) -> Image.Image:
    tags = getattr(image, "tag_v2", {})  # of TIFF: bits per sample, and which end is black
    known = image.mode == "I" and image.format in ("PNG", "PPM")  # Pillow's mode for 16 bits
    known |= image.mode[:4] == "I;16" and (tags.get(258, (16,)), tags.get(262, 1)) == ((16,), 1)
    if not known:
        raise UserError(
            f"{name} (mode {image.mode}) has grey values of unknown range",
            "store it with 8 or 16 bits per channel, 0 as black",
        )
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _check(image: Image.Image, name: str) -> None:
    """Refuse what must not be loaded."""
    width, height = image.size
    if not width * height:
        raise UserError(f"{name} is empty: {height} x {width} pixels", "remove it")
    if width * height > MAX_PIXELS:
        raise UserError(f"{name} has {height} x {width} pixels", SMALLER)
    if image.format not in (*FORMATS, "MPO", None):
        raise UserError(f"{name} is of the format {image.format}", f"use {', '.join(FORMATS)}")
    # MPO: a phone's JPEG with further views behind the picture.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        hint = "save one frame as an image of its own"
        raise UserError(f"{name} ({image.format}, mode {image.mode}) has several frames", hint)


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED:  # viewers, too, show an image whose EXIF is damaged as it is stored
        return None


def read_image(path: File, *, registered: bool = False) -> npt.NDArray[np.uint8]:
    """Read an image as (H, W, 3) RGB, see `to_rgb`.

    With `registered`, one with an EXIF orientation is refused: the pixels of other images, and
    intrinsics, refer to its stored pixels or to those shown. Its alpha is dropped: YCB-Video's
    rendered images have colours where they are transparent.
    """
    with _open(path, "image") as image:
        if registered:
            _refuse_turned(image, path)
        return np.array(to_rgb(image, str(path), drop_alpha=registered))


def read_plain_jpeg(path: Path) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG as `read_image` does, bit for bit, in two thirds of the time.

    None for what needs `to_rgb` (an orientation, CMYK, further views), is damaged, or no JPEG.
    """
    try:
        with regular(path).open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if (start := file.read(2)) != b"\xff\xd8":
                return None
            content = start + file.read()
            with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
                is_plain = image.format == "JPEG" and image.mode in ("RGB", "L")
                _check(image, str(path))
                is_plain &= content.endswith(b"\xff\xd9") and _orientation(image) not in TURNS
    except (*DAMAGED, Image.DecompressionBombError, UserError):
        return None
    if not is_plain:
        return None
    decoded: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return None if decoded is None else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)


def read_single_channel(
    path: File, kind: str, *, first_of_several: bool = False
) -> npt.NDArray[Any]:
    """Read a one-channel image (H, W) as stored, or the first of several equal channels.

    `kind` is e.g. "label image", for errors.
    """
    with _open(path, kind) as image:
        _check(image, str(path))
        _refuse_turned(image, path)
        _refuse_lossy(image, path, kind)
        array = _without_alpha(image) if first_of_several else np.array(image)
    if first_of_several and array.ndim == 3:
        if (array != array[..., :1]).any():
            raise UserError(
                f"{path} has colours, not class numbers", f"store a {kind} as a single-channel PNG"
            )
        array = array[..., 0]
    if array.ndim != 2:
        raise UserError(
            f"{path} has shape {array.shape}, not one channel",
            f"store a {kind} as a single-channel PNG",
        )
    return array


def read_mask(path: File) -> npt.NDArray[np.bool_]:
    """Read a mask (H, W): where any channel but alpha is above 0."""
    with _open(path, "mask") as image:
        _check(image, str(path))
        _refuse_turned(image, path)
        _refuse_lossy(image, path, "mask")
        array = _without_alpha(image.convert("RGB") if image.mode in ("P", "PA") else image)
    return np.asarray(np.atleast_3d(array > 0).any(axis=2), np.bool_)


def _without_alpha(image: Image.Image) -> npt.NDArray[Any]:
    """The other channels of an image, (H, W) or (H, W, C)."""
    array = np.array(image)
    return array[..., :-1] if image.mode in WITH_ALPHA else array


def _refuse_turned(image: Image.Image, path: File) -> None:
    if _orientation(image) in TURNS:
        raise UserError(
            f"{path} has an EXIF orientation",
            "remove the mark from all images of the frame, or turn their pixels alike",
        )


def _refuse_lossy(image: Image.Image, path: File, kind: str) -> None:
    for name in (image.format, image.info.get("compression")):
        if name in LOSSY:
            raise UserError(
                f"{path} is a {kind} in the lossy format {name.upper()}",
                "make it again as PNG: lossy compression changes its numbers",
            )


@contextmanager
def _open(path: File, kind: str) -> Iterator[Image.Image]:
    try:
        with opened(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on what is checked here or harmless
            try:
                image = Image.open(file, formats=FORMATS)
            except UnidentifiedImageError as error:
                file.seek(0)
                start = file.read(12)
                if mode := _unread_tiff(file) if start[:4] in (b"II*\0", b"MM\0*") else "":
                    hint = "store it as RGB or grey with 8 bits per channel"
                    raise UserError(f"cannot read {path}: a TIFF of {mode}", hint) from error
                raise UserError(
                    f"cannot read {path}: not a {', '.join(FORMATS)} image, it starts with "
                    f"{start!r}",
                    "convert it to PNG, or copy or extract it again if it is damaged",
                ) from error
            yield image
    except FileNotFoundError as error:
        raise UserError(
            f"no {kind} {path}", "complete the dataset, or remove the sample from its list"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"cannot read {path}: its size is over {MAX_PIXELS:,}", SMALLER) from error
    except DAMAGED as error:
        raise UserError(
            f"cannot read {path}: {reason_of(error)}",
            "the file is damaged: copy or extract it again",
        ) from error


def _unread_tiff(file: BinaryIO) -> str:
    """The mode of a TIFF that Pillow does not read, empty if it cannot be found."""
    file.seek(0)
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
    file.seek(tags.next)
    tags.load(file)
    bits, is_float = tags.get(258), tags.get(339, (1,))[0] == 3
    return f"mode {len(bits)} x {bits[0]} bits{' (float)' * is_float}" if bits else ""


def reason_of(error: Exception) -> str:
    """Say in a line why a file cannot be read or written."""
    return getattr(error, "strerror", None) or flat(str(error)) or type(error).__name__


def file_name(text: str) -> str:
    """Make a PNG's name from a path or another text: visible, and short enough for file systems."""
    name = printable(text).replace("/", "_").replace("\\", "_").encode()
    if len(name) > 200:
        name = b"%s-%08x-%s" % (name[:60], zlib.crc32(name), name[-100:])
    return name.decode(errors="ignore") + ".png"


def write_images(folder: Path, images: Iterable[tuple[str, npt.NDArray[np.uint8]]]) -> None:
    """Write RGB images by name, and remove those that an earlier call wrote in `folder`.

    Their names are in its file ``.drawn``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".drawn").open("a+") as drawn:
            drawn.seek(0)
            for name in drawn.read().splitlines():
                (folder / Path(name).name).unlink(missing_ok=True)
            drawn.truncate(0)
            for name, image in images:
                drawn.write(f"{name}\n")
                write_image(folder / name, image)
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error}", "use another folder") from error


def write_image(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write an RGB image (H, W, 3) as PNG or JPEG, by the suffix; create its folder."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"cannot write an image to {path}", "use a name that ends in .png or .jpg")
    encoded, content = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(rgb[..., ::-1]))
    assert encoded
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "use another folder") from error
