"""What a pickle asks for, found with `pickletools` before anything in it is loaded.

The scan follows numbers, strings, tuples and globals on the stack. Lists, dicts and results of
calls are opaque to it: torch compares tensors with their storages, and the loaded content is
checked once more. Refused although harmless, since torch.save writes none of these: globals whose
names are computed, objects that are not rebuilt by functions, storage keys that are not ASCII, memo
indices above the number of opcodes, integers of more than `MAX_BITS`, tuples nested deeper than
`MAX_TUPLE_DEPTH`, and tuples that refer to others so often that hashing them would take long.
"""

import pickle
import pickletools
import re
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

import torch

from ffreid.errors import printable, shortened

ITEM_SIZES = {
    1: ("Char", "Byte", "Bool"),
    2: ("Half", "BFloat16", "Short"),
    4: ("Float", "Int"),
    8: ("Double", "Long", "ComplexFloat"),
    16: ("ComplexDouble",),
}
STORAGES = {f"torch.{name}Storage": size for size, names in ITEM_SIZES.items() for name in names}
STORAGES["torch.storage.UntypedStorage"] = 1
"""Bytes per element of torch's storages, by the names that they have in files since 2017."""
DTYPES = {str(value) for value in vars(torch).values() if type(value) is torch.dtype}
REBUILD = ("tensor", "tensor_v2", "tensor_v3", "parameter")
WEIGHTS = {*STORAGES, *DTYPES, "torch.Size", "torch.device"}
WEIGHTS |= {f"torch._utils._rebuild_{kind}" for kind in REBUILD}
WEIGHTS |= {"numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
WEIGHTS |= {"builtins.complex", "builtins.set", "collections.Counter", "collections.OrderedDict"}
WEIGHTS |= {"_codecs.encode"}
"""Globals that checkpoints need; torch's own list has more, such as sparse tensors."""
MAX_TUPLE_DEPTH = 16
"""Hashing tuples nested without limit would overflow the stack."""
MAX_SHARED = 10**6
"""Items of tuples, with those inside them, that may be repeated from the memo."""
MAX_BITS = 1024
"""Python refuses to print integers of thousands of digits."""
LISTED = 20
"""Names of globals in an error; the rest is counted."""

_NUMBER = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c(8|16))")
_MARK, _OPAQUE, _DTYPE = object(), object(), object()
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_FETCHES = {"GET", "BINGET", "LONG_BINGET"}
_STORES = {"PUT", "BINPUT", "LONG_BINPUT"}
_FOLLOWED = {"STOP", "PROTO", "MEMOIZE", "GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "BUILD"}
_FOLLOWED |= {"EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "DUP", "MARK"}
_FOLLOWED |= {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "SETITEM", "SETITEMS"}
"""Opcodes of which more than the value that they leave on the stack is followed."""


def _takes(opcode: pickletools.OpcodeInfo) -> tuple[bool, int]:
    """Whether an opcode takes all down to the mark, and how many objects it takes below."""
    before = opcode.stack_before
    to_mark = pickletools.markobject in before
    return to_mark, before.index(pickletools.markobject) if to_mark else len(before)


_TAKES = {opcode.name: _takes(opcode) for opcode in pickletools.opcodes}


class Global(str):
    """A global by its ``module.name``."""


class NestedTuple(tuple[Any, ...]):
    """A tuple that knows how deeply tuples are nested in it, and how many items they all have."""

    depth: int
    size: int


@dataclass
class PickleScan:
    """What a pickle asks for.

    Attributes:
        refused: names of globals that are not `allowed`; they could run any code.
        storages: by key, the number of elements and the bytes of each.
        value: its content if that is a number or a string.
        damage: why it cannot be followed to its end; None where it can.
    """

    allowed: set[str]
    refused: dict[str, None] = field(default_factory=dict)
    storages: dict[str, tuple[int, int]] = field(default_factory=dict)
    strings: list[str] = field(default_factory=list)
    value: Any = None
    protocol: int = 0
    damage: str | None = None
    shared: int = 0

    def refuse(self, name: str) -> Any:
        """Record what is not allowed, whose value is not known."""
        self.refused[name] = None
        return _OPAQUE

    def list_refused(self) -> str:
        """Name the first of the refused globals, in lines of an error."""
        first = ", ".join(shortened(printable(name), 120) for name in islice(self.refused, LISTED))
        return first + f", … ({len(self.refused)} names)" * (len(self.refused) > LISTED)

    def repeat(self, value: Any) -> Any:
        """Note that a value is used again, whose hash takes as many steps as it has items."""
        if isinstance(value, NestedTuple):
            self.shared += value.size
            _require(self.shared <= MAX_SHARED)
        return value

    def find_global(self, module: Any, name: Any) -> Any:
        """Note a global; its name is not known where the pickle computes it."""
        if not isinstance(module, str) or not isinstance(name, str):
            return self.refuse("a global whose name is computed")
        # Names of Python 2, which protocol 2 keeps.
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full not in self.allowed:
            self.refuse(full)
        return Global(full)

    def call(self, function: Any, arguments: Any) -> Any:
        """Check a call of ``numpy.dtype``: numbers only, and a copy that no one else uses."""
        if function == Global("torch.Size"):
            return arguments  # a tuple as well
        if function != Global("numpy.dtype"):
            return _OPAQUE
        code, *copied = arguments
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            return self.refuse(f"numpy.dtype({code!r})")
        _require(copied == [False, True])
        return _DTYPE

    def add_storage(self, persistent: Any) -> None:
        """Note the claimed size of a storage that the pickle refers to by a persistent id."""
        if self.refused:  # torch's old format gives modules such ids too
            return
        kind, storage_type, key, _, elements, *_ = persistent
        # Other characters are decoded in one way here and in another by torch.
        _require(kind == "storage" and isinstance(key, str) and key.isascii())
        _require(type(elements) is int and 0 <= elements < 2**63)
        storage = elements, STORAGES[storage_type]
        _require(self.storages.setdefault(key, storage) == storage)


def scan_pickle(file: BinaryIO, allowed: set[str]) -> PickleScan:
    """Follow one pickle from where `file` stands to its end, loading nothing."""
    scan = PickleScan(allowed)
    try:
        _follow(file, scan)
    except Exception as error:  # a damaged pickle raises errors of any kind
        scan.damage = type(error).__name__
    return scan


def _follow(file: BinaryIO, scan: PickleScan) -> None:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name = opcode.name
        if name in _FETCHES:
            stack.append(scan.repeat(memo[argument]))
            continue
        if name in _STORES:
            # Python's memo is an array: a huge index would allocate it.
            _require(argument <= count and stack[-1] is not _MARK)
            memo[argument] = stack[-1]
            continue
        items = _pop(stack, *_TAKES[name])
        if isinstance(argument, str):
            scan.strings.append(argument)
        if name not in _FOLLOWED:
            value = argument if opcode.arg else _CONSTANTS.get(name, _OPAQUE)
            _require(not isinstance(value, int) or value.bit_length() <= MAX_BITS)
            stack += [value] * len(opcode.stack_after)
            continue
        match name:  # the frequent ones first
            case "MARK":
                stack.append(_MARK)
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" | "EMPTY_TUPLE":
                stack.append(NestedTuple(items))
                inner = [item for item in items if isinstance(item, NestedTuple)]
                stack[-1].depth = 1 + max((item.depth for item in inner), default=0)
                stack[-1].size = 1 + len(items) + sum(item.size for item in inner)
                _require(stack[-1].depth <= MAX_TUPLE_DEPTH)
            case "REDUCE":
                stack.append(scan.call(*items))
            case "PERSID" | "BINPERSID":
                scan.add_storage(items[0])
                stack.append(_OPAQUE)
            case "SETITEM" | "SETITEMS":
                # From 2 ** 61 - 1 on, integers with the same hash can be chosen.
                _require(
                    not any(isinstance(key, int) and key.bit_length() > 60 for key in items[1::2])
                )
                stack.append(items[0])
            case "STOP":
                scan.value = items[0]
            case "PROTO":
                scan.protocol = max(scan.protocol, argument)
            case "MEMOIZE":
                memo[len(memo)] = items[0]
                stack += items
            case "GLOBAL":
                stack.append(scan.find_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(scan.find_global(*items))
            case "EXT1" | "EXT2" | "EXT4":
                stack.append(scan.refuse(f"copyreg extension {argument}"))
            case "INST" | "OBJ" | "NEWOBJ" | "NEWOBJ_EX":
                if name == "INST":
                    scan.find_global(*argument.split(" ", 1))
                _require(bool(scan.refused))  # weights and arrays are rebuilt by functions
                stack.append(_OPAQUE)
            case "BUILD":
                _require(not isinstance(items[0], Global))
                _require(items[0] is not _DTYPE or _is_dtype_state(items[1]))
                stack.append(items[0])
            case "DUP":
                stack += [*items, scan.repeat(items[0])]


def _pop(stack: list[Any], to_mark: bool, fixed: int) -> list[Any]:
    """Take what an opcode works on off the stack, without the mark."""
    items = list[Any]()
    if to_mark:
        while (item := stack.pop()) is not _MARK:
            items.append(item)
    for _ in range(fixed):
        items.append(item := stack.pop())
        _require(item is not _MARK)
    return items[::-1]


def _is_dtype_state(state: Any) -> bool:
    """Whether a state changes nothing of a number's dtype but the order of its bytes."""
    return state[0] == 3 and state[1] in "<>|=" and state[2:] == (None, None, None, -1, -1, 0)


def _require(condition: bool) -> None:
    if not condition:
        raise pickle.UnpicklingError
