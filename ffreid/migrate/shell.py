"""Read shell lines: the scripts that Python runs in them, and the scripts' flags."""

import argparse
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import NoReturn

from ffreid.errors import UserError

CONTINUED = re.compile(r"[ \t]*\\\r?\n[ \t]*")
TOKEN = re.compile(
    r"""(?P<comment>\#.*)|(?P<redirection>(?:\d?>>?|&>>?)(?:&\d)?|<(?=\s))|(?P<control>&&|\|\||[;|&])|
    (?P<word>(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|`[^`]*`|\$\(\(.*?\)\)|\$\([^)]*\)|[^\s\\'"`;|&])+)|
    (?P<unclosed>\S.*)""",
    re.VERBOSE,
)
UNQUOTED = re.compile(r"[\w@%+=:,./<>-]+")
"""What needs no quotes, placeholders such as ``<logs>`` included."""
PYTHON = re.compile(r"(?:\S*/)?python[\d.]*|\$\{?python\}?|(?:\S*/)?torchrun", re.IGNORECASE)
SCRIPT = re.compile(r"[\w./~@+${}-]+")
LAUNCHERS = ("torch.distributed.launch", "torch.distributed.run")
SWITCHES = {"use_env", "standalone", "no_python"}
"""Launcher flags without a value."""


@dataclass(frozen=True)
class Command:
    """The part of a line from `start` to `end`, in which Python runs a script.

    Flags are values by name, "" for a switch.
    """

    start: int
    end: int
    launcher: Mapping[str, str]
    script: str
    arguments: Sequence[str]

    @property
    def processes(self) -> str:
        """Processes per machine: a number, a variable, ``gpu`` or ``auto``."""
        return plain(self.launcher.get("nproc_per_node", "1"))

    @property
    def has_known_size(self) -> bool:
        """Whether it runs on one machine, with a number or a variable of processes."""
        is_single = plain(self.launcher.get("nnodes", "1")) == "1"
        return is_single and (self.processes.isdecimal() or varies(self.processes))


def read_commands(line: str, scripts: Collection[str]) -> Iterator[Command]:
    """Read the commands of a line in which Python or torchrun runs one of `scripts`."""
    commands: list[list[re.Match[str]]] = [[]]
    ended = False
    for token in TOKEN.finditer(line):
        if token.lastgroup == "unclosed":
            raise UserError(f"unclosed quote: {token.group()}", "close the quote")
        if token.lastgroup == "control":
            commands.append([])
            ended = False
        elif token.lastgroup != "word":
            ended = True
        elif not ended:
            commands[-1].append(token)
    for tokens in commands:
        words = [token.group() for token in tokens]
        programs = [i for i, word in enumerate(words) if PYTHON.fullmatch(plain(word))]
        if not programs:
            continue
        launcher, rest = _read_launcher(words[programs[0] :])
        if rest and script_name(rest[0]) in scripts:
            start, end = tokens[programs[0]].start(), tokens[-1].end()
            yield Command(start, end, launcher, rest[0], rest[1:])


def varies(word: str) -> bool:
    """Whether the shell replaces something in the word."""
    return ("$" in word or "`" in word) and not word.startswith("'")


def plain(word: str) -> str:
    """Remove the quotes, unless the shell replaces something in the word."""
    return word if varies(word) else "".join(shlex.split(word))


def tidy(word: str) -> str:
    """Remove quotes that the word does not need."""
    return plain(word) if not varies(word) and UNQUOTED.fullmatch(plain(word)) else word


def script_name(word: str) -> str:
    """``train_lm`` of ``ffb6d/train_lm.py``, ``ycb_dataset`` of ``datasets.ycb.ycb_dataset``."""
    is_path = SCRIPT.fullmatch(plain(word))
    return PurePosixPath(plain(word)).name.removesuffix(".py").rpartition(".")[2] if is_path else ""


def _read_launcher(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Read flags of the interpreter and the launcher; what follows begins with the script."""
    program, *rest = words
    launcher: dict[str, str] = {}
    launches = plain(program).endswith("torchrun")
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        name = name.lstrip("-").replace("-", "_")
        if word in ("-m", "--module"):
            if launches or not rest or plain(rest[0]) not in LAUNCHERS:
                break
            launches = bool(rest.pop(0))
        elif launches:
            is_complete = has_value or name in SWITCHES or not rest
            launcher[name] = value if is_complete else rest.pop(0)
        elif word in ("-W", "-X"):
            rest = rest[1:]
    return launcher, rest


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(
            message,
            "quote the old command with single quotes: in double quotes your shell replaces "
            "$variables",
        )


def read_flags(
    arguments: Sequence[str], takes_value: Mapping[str, bool]
) -> tuple[dict[str, str], list[str], list[str]]:
    """Read a script's flags as the original's argparse does, with one or two dashes.

    Returns values by name, variables that may contain more flags, and notes on the rest.
    """
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    for name, has_value in takes_value.items():
        action = "store" if has_value else "store_true"
        parser.add_argument(f"-{name}", f"--{name}", dest=name, action=action)
    known, rest = parser.parse_known_args([_unquote_flag(word) for word in arguments])
    for name, value in vars(known).items():
        if not value:
            parser.error(f"--{name} has no value")
    flags = {name: "" if value is True else value for name, value in vars(known).items()}
    variables, notes = [word for word in rest if word[0] != "-" and varies(word)], list[str]()
    while rest:
        word = rest.pop(0)
        if word in variables:
            notes.append(f"{word}: kept; flags in it are not translated")
            continue
        close = get_close_matches(word.partition("=")[0].lstrip("-"), takes_value, n=1)
        guess = f" (did you mean {close[0]}?)" if close else ""
        if word.startswith("-") and "=" not in word and rest and not rest[0].startswith("-"):
            word = f"{word} {rest.pop(0)}"
        notes.append(f"{word}: removed: not a flag of the original{guess}")
    return flags, variables, notes


def _unquote_flag(word: str) -> str:
    """Move quotes around a complete flag to its value."""
    if not word.startswith(('"-', "'-")):
        return word
    dashed, has_value, value = plain(word).strip('"').partition("=")
    return f'{dashed}="{value}"' if has_value else dashed
