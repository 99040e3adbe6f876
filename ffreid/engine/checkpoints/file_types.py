"""What people take for checkpoints and is none: what it is, and how they come to the real one."""

import re
from collections.abc import Collection
from pathlib import Path

from ffreid.errors import UserError

AGAIN = "copy or download it again, or give another file"
SAVED = "give a file that torch.save wrote"
TAR = {"storages", "tensors", "pickle"}
"""What torch's tar form, the one before 0.1.10, consists of."""
FORMS = (
    (
        rb"\s*<(!doctype|html|head|\?xml|!--)",
        "it is a web page, as a download gives that asks for something first",
        "open the address in a browser, confirm what it asks, and save the file itself",
    ),
    (
        rb"version https://git-lfs",
        "it is a pointer of git-lfs, which tells where the file lies",
        "type in its repository: git lfs pull",
    ),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ\0|7z\xbc\xaf\x27\x1c|Rar!|\x28\xb5\x2f\xfd",
        "it is a compressed archive",
        "unpack it first and give the file inside",
    ),
    (rb"PK\x05\x06", "it is an empty zip", AGAIN),
    (rb"\x93NUMPY", "it is an array of numpy (.npy)", SAVED),
    (rb"\x89HDF\r\n", "it is an HDF5 file, as Keras writes", SAVED),
    (rb"\0{512}", "it begins with zeros, so it was never written whole", AGAIN),
)
"""First bytes, what the file is, and what to do."""
ASKED = "it is Google Drive's page on a virus scan"


def unreadable(path: Path, what: str, hint: str = AGAIN) -> UserError:
    """Say of a file why it is not read."""
    return UserError(f"{path} is no readable checkpoint: {what}", hint)


def shown(name: str) -> str:
    """Give a name out of a file so that it can be shown: it may try to write on the terminal."""
    return name.encode("unicode_escape").decode()[:120]


def foreign(path: Path, head: bytes) -> UserError | None:
    """Tell by its first bytes, 512 or more where it has them, what a file is if not torch's."""
    if not head:
        return unreadable(path, "it is empty")
    for first, what, hint in FORMS:
        if re.match(first, head, re.IGNORECASE):
            return unreadable(path, ASKED if b"Google Drive" in head else what, hint)
    return None


def foreign_folder(path: Path) -> UserError:
    """Tell what to give in place of a folder."""
    message = f"no checkpoint {path}: it is a folder"
    if (path / "data.pkl").is_file():
        return UserError(
            f"{message}, an unpacked checkpoint",
            f"pack it: cd {path.parent} && zip -0 -r {path.name}.pth {path.name}",
        )
    inside = sorted(item.name for item in path.iterdir() if item.suffix in (".pth", ".tar", ".pt"))
    return UserError(message, f"give a file: {', '.join(inside[:4]) or 'FOLDER/best.pth'}")


def foreign_zip(path: Path, names: Collection[str]) -> UserError | None:
    """Tell by its records' names what a zip is if not torch.save's."""
    root = min(names, default="", key=[*names].index).partition("/")[0]
    if any(name.endswith(("/constants.pkl", "/model.json")) or "/code/" in name for name in names):
        return unreadable(
            path,
            "it is a TorchScript program (constants.pkl, code/)",
            "save its weights alone: torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        )
    if f"{root}/data.pkl" in names:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return unreadable(path, "it holds numpy's arrays (.npz)", SAVED)
    few = ", ".join([shown(name) for name in names][:3]) + (", …" if len(names) > 3 else "")
    return unreadable(path, f"it is a zip of {few}", "give the checkpoint itself")


def foreign_tar(path: Path, names: Collection[str]) -> UserError | None:
    """Tell by its members' names that a tar is not torch's."""
    if TAR.issubset(names):
        return None
    return unreadable(path, "it is a tar archive", "unpack it and give the file inside")
