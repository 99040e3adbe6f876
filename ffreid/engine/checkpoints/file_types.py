"""Files that are mistaken for checkpoints: what they are, and how to get the checkpoint itself."""

from collections.abc import Collection
from pathlib import Path

from ffreid.errors import UserError

AGAIN = "copy or download it again, or use another file"
SAVED = "use a file written by torch.save"
PAGE = "open the URL in a browser, confirm, and save the file itself"
UNPACK = "unpack it and use the file inside"
FORMATS = (
    (rb"\Z", "the file is empty", AGAIN),
    (rb"\s*<.*Google Drive", "Google Drive's virus-scan warning", PAGE),
    (
        rb"\s*<(!doctype|html|head|\?xml|!--)",
        "a web page, probably of a download that asks for confirmation",
        PAGE,
    ),
    (
        rb"version https://git-lfs",
        "a git-lfs pointer instead of the file",
        "run git lfs pull in its repository",
    ),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ\0|7z\xbc\xaf\x27\x1c|Rar!|\x28\xb5\x2f\xfd",
        "a compressed archive",
        UNPACK,
    ),
    (rb"PK\x05\x06", "an empty zip", AGAIN),
    (rb"\x93NUMPY", "a numpy array (.npy)", SAVED),
    (rb"\x89HDF\r\n", "an HDF5 file, e.g. of Keras", SAVED),
    (rb"\0{512}", "it starts with zeros: it was not written completely", AGAIN),
)
"""First bytes of a file, what it is, and what to do."""


def unreadable(path: Path, problem: str, hint: str = AGAIN) -> UserError:
    """Return the error for a file that is no readable checkpoint."""
    return UserError(f"cannot read checkpoint {path}: {problem}", hint)


def folder_error(path: Path) -> UserError:
    """Return the error for a folder, naming the files to use instead."""
    if (path / "data.pkl").is_file():
        pack = f"pack it: cd {path.parent} && zip -0 -r {path.name}.pth {path.name}"
        return unreadable(path, "it is a folder, an unpacked checkpoint", pack)
    files = sorted(item.name for item in path.iterdir() if item.suffix in (".pth", ".tar", ".pt"))
    use = f"use a file: {', '.join(files[:4]) or 'FOLDER/best.pth'}"
    return unreadable(path, "it is a folder", use)


def check_zip_members(path: Path, names: Collection[str]) -> None:
    """Raise if the names of a zip's members are not those of torch.save."""
    if any(name.endswith(("/constants.pkl", "/model.json")) or "/code/" in name for name in names):
        raise unreadable(
            path,
            "a TorchScript program (constants.pkl, code/)",
            "save its weights: torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        )
    if f"{next(iter(names), '').partition('/')[0]}/data.pkl" in names:
        return
    if names and all(name.endswith(".npy") for name in names):
        raise unreadable(path, "an archive of numpy arrays (.npz)", SAVED)
    first = ", ".join(list(names)[:3]) + (", …" if len(names) > 3 else "")
    raise unreadable(path, f"a zip of {first}", "use the checkpoint itself")
