"""Read shell lines: commands, the script that each runs, and the script's flags."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath

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
STARTERS = {
    *("if", "then", "else", "do", "while", "!", "{"),
    *("time", "exec", "env", "nohup", "nice", "setsid", "srun"),
}
"""After these, the shell or the program runs a script by its name alone."""
LAUNCHERS = ("torch.distributed.launch", "torch.distributed.run")
SWITCHES = {"use_env", "standalone", "no_python"}
"""Launcher flags without a value."""


@dataclass(frozen=True)
class Flag:
    """A flag as it was `spelled`, with its value, and the `value` alone, "" for a switch."""

    spelled: str
    value: str = ""


@dataclass(frozen=True)
class Command:
    """Words before the interpreter, the launcher's flags, the script, its arguments."""

    before: Sequence[str]
    launcher: Mapping[str, Flag]
    script: str
    arguments: Sequence[str]

    @property
    def processes(self) -> str:
        """Processes per machine: a number, a variable, ``gpu`` or ``auto``."""
        return plain(self.launcher.get("nproc_per_node", Flag("", "1")).value)

    @property
    def has_known_size(self) -> bool:
        """Whether it runs on one machine, with a number or a variable of processes."""
        nodes = self.launcher.get("nnodes", Flag("", "1"))
        known = self.processes.isdecimal() or varies(self.processes)
        return plain(nodes.value) == "1" and known


def commands(line: str) -> list[tuple[list[str], list[str]]]:
    """Split a line into its commands: (words, redirections, operator and comment after them)."""
    parts: list[tuple[list[str], list[str]]] = [([], [])]
    ended = False
    for token in TOKEN.finditer(line):
        if token.lastgroup == "unclosed":
            raise UserError(f"unclosed quote: {token.group()}", "close the quote")
        if ended and token.lastgroup != "comment":
            parts.append(([], []))
        ended = token.lastgroup == "control"
        words, tail = parts[-1]
        (tail if tail or token.lastgroup != "word" else words).append(token.group().rstrip())
    return parts


def varies(word: str) -> bool:
    """Whether the shell replaces something in the word."""
    return ("$" in word or "`" in word) and not word.startswith("'")


def plain(word: str) -> str:
    """Remove the quotes, unless the shell replaces something in the word."""
    try:
        return word if varies(word) else "".join(shlex.split(word))
    except ValueError:
        return word


def tidy(word: str) -> str:
    """Remove quotes that the word does not need."""
    return plain(word) if not varies(word) and UNQUOTED.fullmatch(plain(word)) else word


def script_name(word: str) -> str:
    """``train_lm`` of ``ffb6d/train_lm.py``, ``ycb_dataset`` of ``datasets.ycb.ycb_dataset``."""
    is_path = SCRIPT.fullmatch(plain(word))
    return PurePosixPath(plain(word)).name.removesuffix(".py").rpartition(".")[2] if is_path else ""


def read(words: Sequence[str], scripts: Iterable[str]) -> Command | None:
    """Read a command that runs one of `scripts`; None for any other."""
    for place, word in enumerate(words):
        before, launcher, rest = words[:place], dict[str, Flag](), list(words[place:])
        if PYTHON.fullmatch(plain(word)):
            launcher, rest = _launcher(word, rest[1:])
        elif not (word.endswith(".py") and script_name(word) in scripts):
            continue
        elif not _can_run_script(before):
            return None  # such as vim main.py
        is_known = script_name(rest[0]) in scripts
        return Command(before, launcher, rest[0], rest[1:]) if is_known else None
    return None


def _can_run_script(before: Sequence[str]) -> bool:
    """Whether a script after these words is run by its name, not passed to another program."""
    programs = [word for word in before if not re.match(r"\w+=", word)]
    return not programs or programs[0] in STARTERS


def _launcher(program: str, rest: list[str]) -> tuple[dict[str, Flag], list[str]]:
    """Read flags of the interpreter and the launcher; what follows begins with the script."""
    launcher: dict[str, Flag] = {}
    launches = plain(program).endswith("torchrun")
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word in ("-m", "--module"):
            if launches or not rest or plain(rest[0]) not in LAUNCHERS:
                break
            rest.pop(0)
            launches = True
        elif launches:
            name = _name(word)
            launcher[name] = _flag(word, rest, has_value=name not in SWITCHES)
        elif word in ("-W", "-X"):
            _flag(word, rest, has_value=True)
    if not rest:
        raise UserError(f"no script after {program}", "use the complete old command")
    return launcher, rest


def read_flags(
    arguments: Sequence[str], takes_value: Mapping[str, bool]
) -> tuple[dict[str, Flag], list[str], list[str]]:
    """Read a script's flags, with any number of dashes, ``=`` or a blank, or abbreviated.

    Returns:
        Flags by name, of several the last; variables that may contain more; notes on the rest.
    """
    flags: dict[str, Flag] = {}
    variables: list[str] = []
    notes: list[str] = []
    rest = [_unquote_flag(word) for word in arguments]
    while rest:
        word = rest.pop(0)
        name = _name(word)
        if word.startswith("--") and name not in takes_value:
            longer = [known for known in takes_value if known.startswith(name)]
            name = longer[0] if len(longer) == 1 else name
        if name in takes_value and word.startswith("-"):
            flags[name] = _flag(word, rest, has_value=takes_value[name])
        elif word.startswith("-"):
            if "=" not in word and rest and not rest[0].startswith("-"):
                word = f"{word} {rest.pop(0)}"
            close = get_close_matches(name, list(takes_value), n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            notes.append(f"{word}: removed: not a flag of the original{guess}")
        elif varies(word):
            variables.append(word)
            notes.append(f"{word}: kept; flags in it are not translated")
        else:
            notes.append(f"{word}: removed: not a flag")
    return flags, variables, notes


def _name(word: str) -> str:
    return word.partition("=")[0].lstrip("-").replace("-", "_")


def _flag(word: str, rest: list[str], *, has_value: bool) -> Flag:
    """Read a flag, whose value may be the first word of `rest`, which is then removed."""
    _, assigned, value = word.partition("=")
    if value or not has_value:
        return Flag(word, value)
    if assigned or not rest or (rest[0][:1] == "-" and not rest[0].lstrip("-").isdecimal()):
        raise UserError(
            f"{word} has no value",
            "quote the old command with single quotes: in double quotes your shell replaces "
            "$variables",
        )
    return Flag(f"{word} {rest[0]}", rest.pop(0))


def _unquote_flag(word: str) -> str:
    """Move quotes around a complete flag to its value."""
    if not word.startswith(('"-', "'-")):
        return word
    dashed, has_value, value = plain(word).strip('"').partition("=")
    return f'{dashed}="{value}"' if has_value else dashed
