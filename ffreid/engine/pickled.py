"""What a checkpoint's pickle asks for, and how much of it, found without running any of it.

torch's own safe unpickler stops at the first name that it refuses, believes every size in a file,
and builds more than weights need. Here a pickle is gone through once with inert stand-ins: all
names are found, and every storage and tensor is measured before anything is allocated.
"""

import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch

from ffreid.engine.foreign import shown

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
