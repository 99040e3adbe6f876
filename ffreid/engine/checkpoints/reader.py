"""Reading any file that may be a checkpoint: what it is, whether it is whole, and what it holds."""

import errno
import importlib
import io
import itertools
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch

from ffreid.engine.checkpoints.file_types import (
    SAVED,
    foreign,
    foreign_folder,
    foreign_tar,
    foreign_zip,
    shown,
    unreadable,
)
from ffreid.errors import UserError

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
"""torch's storages by the names that they have had in files since 2017."""
NUMBERS = ("bool", *(f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)))
NUMBERS += ("float16", "float32", "float64", "complex64", "complex128")
"""numpy's numbers; no texts, no objects."""
EXPANDED = 2**20
"""As many elements may a tensor have whose storage has fewer, since it repeats them."""
_NUMBER = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c(8|16))")


@dataclass(frozen=True)
class Storage:
    """Numbers in a row: how many, and how many bytes each takes."""

    elements: int
    width: int


@dataclass
class Survey:
    """What a pickle asks for.

    Args:
        refused: names of what weights do not need, in the order of the file; running them may do
            anything.
        storages: by their keys.
        value: what it holds, stand-ins in place of tensors.
        protocol: of pickle.
        damage: why it was not followed to its end.
    """

    refused: list[str] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)
    value: Any = None
    protocol: int = 0
    damage: str | None = None


def survey(file: BinaryIO) -> Survey:
    """Follow one pickle from where `file` stands to its end, building nothing."""
    found = Survey()
    reader = Reader(file, _stand_ins(), encoding="utf-8", storages=found.storages)
    found.refused = reader.refused
    try:
        value = reader.load()
        demand(bool(reader.refused) or _is_whole(value))
        found.value = value
    except Exception as error:  # a damaged pickle raises errors of any kind
        found.damage = type(error).__name__
    found.protocol = reader.proto
    return found


class Refused:
    """Stands in for what is refused, so that every name is found."""

    def __new__(cls, *_: object, **__: object) -> "Refused":
        """Make one of anything."""
        return super().__new__(cls)

    def __call__(self, *_: object, **__: object) -> "Refused":
        """Be called with anything."""
        return self

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, value: object) -> None:
        """Take a value, as a list does, and forget it."""

    def add(self, value: object) -> None:
        """Take a value, as a set does, and forget it."""

    def accept(self, state: object) -> None:
        """Take a state and forget it."""


class Dtype:
    """Stands in for a dtype of numpy: a bad state given to a true one spoils it everywhere."""

    def __init__(self, code: str) -> None:
        self.numpy = np.dtype(code)

    def accept(self, state: Any) -> None:
        """Take what numpy writes for numbers: the order of bytes."""
        version, order, *structure = state
        demand(version in (3, 4) and order in ("<", ">", "|", "="))
        demand(structure[:6] == [None, None, None, -1, -1, 0])
        self.numpy = self.numpy.newbyteorder(order)


class _Tensor:
    """Stands in for a tensor that was measured."""


class Reader(pickle._Unpickler):
    """Unpickles with stand-ins alone. It is Python's: the one in C has a memo that files blow up.

    Args:
        file: where a pickle starts.
        known: what stands in for each name, by ``module.name``; ``numpy.dtype`` always does.
        encoding: of what Python 2 wrote as text.
        storages: told of torch's storages, by their keys.
    """

    # What the class has and no stub tells.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    proto: int = 0

    def __init__(
        self,
        file: BinaryIO,
        known: Mapping[str, Any],
        *,
        encoding: str,
        storages: dict[str, Storage] | None = None,
    ) -> None:
        super().__init__(file, encoding=encoding)
        self.known = {**known, "numpy.dtype": self._dtype}
        self.storages = {} if storages is None else storages
        self.refused: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        """Give a stand-in, and note what has none."""
        # Names of Python 2, which protocol 2 keeps.
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        return self.known[full] if full in self.known else self._refuse(full)

    def get_extension(self, code: int) -> None:
        """Note a name that is registered by number."""
        self.append(self._refuse(f"copyreg extension {code}"))

    def _refuse(self, name: str) -> type[Refused]:
        if shown(name) not in self.refused:
            self.refused.append(shown(name))
        return Refused

    def _dtype(self, code: Any, *how: Any) -> Dtype | Refused:
        if isinstance(code, str) and _NUMBER.fullmatch(code):
            demand(how == (False, True))  # as a copy; else it is the one that all share
            return Dtype(code)
        return self._refuse(f"numpy.dtype({code if isinstance(code, str) else ''!r})")()

    def persistent_load(self, pid: Any) -> Any:
        """Note a storage; ('storage', type, key, device, elements[, view]) stands for it."""
        if not isinstance(pid, tuple) or pid[:1] != ("storage",):
            return Refused  # ('module', class, …), whose class is noted
        kind, key, device, elements = pid[1:5]
        if isinstance(kind, type) and issubclass(kind, Refused):
            return Refused()
        demand(isinstance(kind, Storage) and isinstance(key, str) and isinstance(device, str))
        storage = Storage(count(elements), kind.width)
        demand(self.storages.setdefault(key, storage) == storage)
        if len(pid) == 6 and pid[5] is not None:
            _, start, length = pid[5]
            demand(count(start) + count(length) <= elements)
            return Storage(length, kind.width)
        return storage

    def load_build(self) -> None:
        """Give a stand-in its state; of a dict (``_metadata``) it is left out."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], OrderedDict):
            demand(isinstance(state, dict))
        else:
            self.stack[-1].accept(state)

    def load_bytearray8(self) -> None:
        """Take bytes, as many as are there; the class makes room for as many as are declared."""
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    dispatch: ClassVar[dict[int, Any]] = {  # actions by opcode
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def demand(holds: bool) -> None:
    """Raise the error of a damaged pickle unless something holds."""
    if not holds:
        raise pickle.UnpicklingError("contradicts itself")


def count(number: Any) -> int:
    """Take `number` for a size, or raise."""
    demand(type(number) is int and 0 <= number < 2**63)
    return int(number)


def _stand_ins() -> dict[str, Any]:
    """What weights need; torch's own list has more, such as sparse tensors."""
    dtypes = {str(value): value for value in vars(torch).values() if type(value) is torch.dtype}
    widths = {f"torch.{name}": Storage(0, STORAGES[name].itemsize) for name in STORAGES}
    return {
        **dtypes,
        **widths,
        "torch.storage.UntypedStorage": Storage(0, 1),
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch.Size": tuple,
        "torch.device": _plain,
        "numpy.core.multiarray.scalar": _number,
        "numpy._core.multiarray.scalar": _number,
        "collections.OrderedDict": OrderedDict,
        "collections.Counter": Counter,
        "builtins.set": set,
        "builtins.complex": complex,
        "_codecs.encode": encoded,
    }


def _is_whole(value: Any) -> bool:
    """Whether everything in `value` is of use: no storage without a tensor, no bare function."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set):
            waiting += item
        elif not isinstance(item, PLAIN):
            return False
    return True


PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, _Tensor)
"""What a checkpoint consists of, in containers."""


def _tensor(storage: Any, start: int, shape: Any, strides: Any, *rest: Any) -> Any:
    if isinstance(storage, Refused):
        return storage
    demand(isinstance(storage, Storage) and len(shape) == len(strides))
    # (requires gradient, hooks[, dtype][, conjugate and negative bits])
    demand(not rest[1:2] or not rest[1])
    typed = rest[2] if len(rest) > 2 and isinstance(rest[2], torch.dtype) else None
    room = storage.elements * storage.width // (typed.itemsize if typed else storage.width)
    elements, end = 1, 1
    for size, stride in zip(shape, strides, strict=True):
        elements *= count(size)
        end += (size - 1) * count(stride)
    demand(elements <= max(room, EXPANDED))
    demand(elements == 0 or count(start) + end <= room)
    return _Tensor()


def _parameter(data: Any, requires_grad: bool, hooks: Any) -> Any:
    demand(not hooks)
    return data


def _number(dtype: Any, content: Any) -> Any:
    if isinstance(dtype, Refused):
        return dtype
    demand(len(content) == dtype.numpy.itemsize)
    return 0


def _plain(*values: Any) -> Any:
    demand(all(isinstance(value, str | int) for value in values))
    return values


def encoded(text: str, encoding: str) -> bytes:
    """Give the bytes that Python 3 writes as text for Python 2."""
    demand(encoding == "latin1")
    return text.encode(encoding)


MAPPED = 10**9
"""From so many bytes on, tensors are read from the disk as they are used."""
UNPACKED = 100
"""A zip may claim so many times its own size; weights hardly shrink, zip bombs do."""
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
"""What torch's stream form, the one before 1.6, begins with: two pickled numbers."""
MORE = "it asks for more than weights"
DANGER = "a pickle can run any program as you"


@dataclass(frozen=True)
class _Opened:
    """A file to read: open, so many bytes long, trusted or not."""

    path: Path
    file: BinaryIO
    size: int
    trust: bool


def read(path: Path, *, trust: bool = False) -> Any:
    """Read what torch.save (of any age) or safetensors wrote, onto the CPU.

    Nothing in it is executed: tensors, numbers, texts, dicts, lists and numpy's numbers are read.
    Tensors of a file of `MAPPED` bytes and more stay on the disk until they are used.

    Args:
        path: the file.
        trust: where it holds more than these, let its pickle run; for
            ``convert-ckpt --trust-pickle`` alone.

    Raises:
        UserError: the file is missing, damaged or something else, or it holds more than these,
            which is then listed.
    """
    try:
        if path.is_dir():
            raise foreign_folder(path)
        if not path.is_file():
            raise UserError(
                f"no checkpoint {path}", "give an existing file, e.g. runs/DATASET/TAG/best.pth"
            )
        with path.open("rb") as file:
            return _read(_Opened(path, file, path.stat().st_size, trust))
    except PermissionError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}", f"make it readable: chmod u+r {path}"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or type(error).__name__}",
            "see to the disk, or copy the file to another",
        ) from error


def _read(opened: _Opened) -> Any:
    head = opened.file.read(4096)
    opened.file.seek(0)
    if other := foreign(opened.path, head):
        raise other
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(opened)
    if head[257:262] == b"ustar":
        return _read_tar(opened)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < opened.size:
        return _read_safetensors(opened.path)
    return _read_stream(opened)


def _read_zip(opened: _Opened) -> Any:
    try:
        with zipfile.ZipFile(opened.file) as archive:
            found = _look_into(opened, archive)
            stored = all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
    except (UserError, PermissionError):
        raise
    except Exception as error:  # zipfile raises errors of many kinds on a damaged file
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which a wrong place gives
            raise
        raise unreadable(
            opened.path, f"it is damaged or cut short after {opened.size:,} bytes"
        ) from error
    if _needs_trust(found):
        return _run(opened)
    return _load(opened, mapped=stored and opened.size >= MAPPED)


def _look_into(opened: _Opened, archive: zipfile.ZipFile) -> Survey:
    path = opened.path
    sizes = {item.filename: item.file_size for item in archive.infolist()}
    if other := foreign_zip(path, sizes):
        raise other
    if sum(sizes.values()) > UNPACKED * opened.size:
        raise unreadable(path, f"unpacked it would be over {UNPACKED} times as large")
    if len({name.lower() for name in sizes}) < len(archive.infolist()):
        raise unreadable(path, "its zip has two records of one name")
    damaged = archive.testzip()  # torch does not look at the check sums
    if damaged is not None:
        raise unreadable(path, f"it is damaged in its record {shown(damaged)}")
    root = next(iter(sizes)).partition("/")[0]
    found = survey(io.BytesIO(archive.read(f"{root}/data.pkl")))
    _check(opened, found)
    for key, storage in found.storages.items():
        if sizes.get(f"{root}/data/{key}") != storage.elements * storage.width:
            raise unreadable(path, f"its record data/{shown(key)} is missing or of wrong size")
    return found


def _read_tar(opened: _Opened) -> Any:
    try:
        with tarfile.open(fileobj=opened.file, mode="r:") as archive:
            names = archive.getnames()
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise unreadable(opened.path, "it is a tar, cut short or damaged") from error
    if other := foreign_tar(opened.path, names):
        raise other
    if not opened.trust:
        raise unreadable(
            opened.path,
            "it is a tar of torch before 0.1.10 (2017), which is read only by running its pickles",
            _trusting("look for a newer file", opened.path),
        )
    return _run(opened)


def _read_safetensors(path: Path) -> Any:
    try:
        package = importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise UserError(
            f"{path} is a safetensors file, which needs the package safetensors",
            "type: pip install 'ffreid[safetensors]'",
        ) from error
    try:
        return package.load_file(path)
    except OSError:
        raise
    except Exception as error:  # the package has an error type of its own
        raise unreadable(path, "it is a damaged safetensors file") from error


def _read_stream(opened: _Opened) -> Any:
    path, magic = opened.path, survey(opened.file)
    if magic.refused:
        raise unreadable(path, f"{MORE}: {', '.join(magic.refused)}", SAVED)
    if magic.value != MAGIC:
        if magic.damage:
            raise unreadable(path, "it is of no known form, or damaged at its start")
        raise unreadable(path, "it is a pickle, but not of torch.save", SAVED)
    version, _, found, keys = (survey(opened.file) for _ in range(4))
    _check(opened, found)
    if _needs_trust(found):
        return _run(opened)
    if version.value != VERSION or not _same(keys.value, found.storages):
        raise unreadable(path, f"it is damaged or cut short after {opened.size:,} bytes")
    for key in keys.value:
        _skip(opened, found.storages[key])
    return _load(opened, mapped=False)


def _same(keys: Any, storages: dict[str, Storage]) -> bool:
    """Whether `keys` lists every storage, once."""
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return named and sorted(keys) == sorted(storages)


def _skip(opened: _Opened, storage: Storage) -> None:
    """Pass over the numbers of a storage in a stream, which follow their count."""
    count = opened.file.read(8)
    end = opened.file.tell() + storage.elements * storage.width
    if len(count) < 8 or end > opened.size:
        raise unreadable(
            opened.path, f"it is cut short: {opened.size:,} bytes of {end:,} or more are there"
        )
    if struct.unpack("<q", count)[0] != storage.elements:
        raise unreadable(opened.path, "it is damaged: its sizes contradict each other")
    opened.file.seek(end)


def _check(opened: _Opened, found: Survey) -> None:
    """Refuse a pickle that is damaged or, unless trusted, asks for more than weights."""
    if found.refused and not opened.trust:
        raise _more_than_weights(opened.path, found)
    if found.damage and not found.refused:
        raise unreadable(opened.path, f"its pickle is damaged or cut short ({found.damage})")
    if found.protocol > 3 and not opened.trust:
        raise unreadable(
            opened.path,
            f"it is pickled with protocol {found.protocol}, and torch reads 2 without running it",
            _trusting("write it anew by torch.save without pickle_protocol", opened.path),
        )


def _needs_trust(found: Survey) -> bool:
    return bool(found.refused) or found.protocol > 3


def _more_than_weights(path: Path, found: Survey) -> UserError:
    return unreadable(
        path,
        f"{MORE}: {', '.join(found.refused)}",
        _trusting("give a file of weights alone", path),
    )


def _trusting(instead: str, path: Path) -> str:
    return (
        f"{instead}; or, only if you trust its maker, type: ffreid convert-ckpt {path} "
        f"--trust-pickle ({DANGER})"
    )


def _load(opened: _Opened, *, mapped: bool) -> Any:
    """Have torch load what has been found sound, without running any of it."""
    opened.file.seek(0)
    # By its name torch would take a file for one of safetensors; the map needs the name.
    source = str(opened.path) if mapped else opened.file
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numbers()):
            warnings.simplefilter("ignore")  # of old forms, and of torch's own doings
            return torch.load(source, map_location="cpu", mmap=mapped, weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # torch raises half a dozen types here, and its text advises to switch safety off.
        raise _failed(opened.path, error, "torch cannot read it") from error


def _run(opened: _Opened) -> Any:
    """Have torch run the pickle, which is trusted."""
    opened.file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(opened.file, map_location="cpu", weights_only=False)
    except ImportError as error:
        raise unreadable(
            opened.path,
            f"its pickle needs the module {error.name}",
            "go where that module lies: PYTHONPATH=FOLDER ffreid convert-ckpt …",
        ) from error
    except Exception as error:  # whatever the pickle runs into
        raise _failed(opened.path, error, "its pickle fails") from error


def _failed(path: Path, error: Exception, what: str) -> UserError:
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return UserError(
            f"not enough memory to read {path} ({path.stat().st_size / 1e9:.1f} GB)",
            "end other programs, or read it on a larger machine",
        )
    return unreadable(path, f"{what} ({type(error).__name__})")


def _numbers() -> list[Any]:
    """What a numpy number in a file is made by, under the names it has had."""
    make = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    dtypes = [type(np.dtype(name)) for name in NUMBERS]
    return [np.dtype, *dtypes, *itertools.product([make], names)]
