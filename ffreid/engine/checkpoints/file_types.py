"""Files that are mistaken for checkpoints: what they are, and how to get the checkpoint itself."""

import re
from collections.abc import Collection
from pathlib import Path

from ffreid.errors import UserError

AGAIN = "copy or download it again, or use another file"
SAVED = "use a file that torch.save wrote"
TAR_MEMBERS = {"storages", "tensors", "pickle"}
"""What torch's tar format, the one before 0.1.10, consists of."""
FORMATS = (
    (
        rb"\s*<(!doctype|html|head|\?xml|!--)",
        "a web page, as downloads give that ask for a confirmation first",
        "open the address in a browser, confirm, and save the file itself",
    ),
    (
        rb"version https://git-lfs",
        "a git-lfs pointer instead of the file",
        "type in its repository: git lfs pull",
    ),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ\0|7z\xbc\xaf\x27\x1c|Rar!|\x28\xb5\x2f\xfd",
        "a compressed archive",
        "unpack it and use the file inside",
    ),
    (rb"PK\x05\x06", "an empty zip", AGAIN),
    (rb"\x93NUMPY", "a numpy array (.npy)", SAVED),
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras writes", SAVED),
    (rb"\0{512}", "it starts with zeros: it was not written completely", AGAIN),
)
"""First bytes of a file, what it is, and what to do."""


def unreadable(path: Path, problem: str, hint: str = AGAIN) -> UserError:
    """Return the error for a file that is no readable checkpoint."""
    return UserError(f"cannot read checkpoint {path}: {problem}", hint)


def check_header(path: Path, head: bytes) -> None:
    """Raise if the first 512 bytes or more of a file are not a checkpoint's."""
    if not head:
        raise unreadable(path, "the file is empty")
    for first, what, hint in FORMATS:
        if re.match(first, head, re.IGNORECASE):
            is_drive = b"Google Drive" in head
            raise unreadable(
                path, "Google Drive's page on its virus scan" if is_drive else what, hint
            )


def check_folder(path: Path) -> None:
    """Raise for a folder, naming the files to use instead."""
    message = f"cannot read checkpoint {path}: it is a folder"
    if (path / "data.pkl").is_file():
        raise UserError(
            f"{message}, an unpacked checkpoint",
            f"pack it: cd {path.parent} && zip -0 -r {path.name}.pth {path.name}",
        )
    files = sorted(item.name for item in path.iterdir() if item.suffix in (".pth", ".tar", ".pt"))
    raise UserError(message, f"use a file: {', '.join(files[:4]) or 'FOLDER/best.pth'}")


def check_zip_members(path: Path, names: Collection[str]) -> None:
    """Raise if the names of a zip's members are not those of torch.save."""
    root = next(iter(names), "").partition("/")[0]
    if any(name.endswith(("/constants.pkl", "/model.json")) or "/code/" in name for name in names):
        raise unreadable(
            path,
            "a TorchScript program (constants.pkl, code/)",
            "save its weights: torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        )
    if f"{root}/data.pkl" in names:
        return
    if names and all(name.endswith(".npy") for name in names):
        raise unreadable(path, "an archive of numpy arrays (.npz)", SAVED)
    first = ", ".join([printable(name) for name in names][:3]) + (", …" if len(names) > 3 else "")
    raise unreadable(path, f"a zip of {first}", "use the checkpoint itself")


def check_tar_members(path: Path, names: Collection[str]) -> None:
    """Raise if the names of a tar's members are not those of torch's tar format."""
    if not TAR_MEMBERS.issubset(names):
        raise unreadable(path, "a tar archive", "unpack it and use the file inside")


def printable(name: str) -> str:
    """Escape a name from a file for display: it may try to control the terminal."""
    return name.encode("unicode_escape").decode()[:120]
