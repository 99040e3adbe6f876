"""What a command line of old says: its launcher, its script, its flags."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import PurePosixPath

from ffreid.errors import UserError
from ffreid.migrate.shell import plain, tidy, varies

PROGRAM = re.compile(r"(?:\S*/)?python[\d.]*|\$\{?python\}?|(?:\S*/)?torchrun", re.IGNORECASE)
SCRIPT = re.compile(r"[\w./~@+${}-]+")
ASSIGNMENT = re.compile(r"\w+=")
STARTERS = {"if", "then", "else", "do", "while", "!", "{", "time", "exec", "env", "nohup", "nice"}
STARTERS |= {"setsid", "srun"}
"""Words behind which the shell, or such a program, runs a script by its name alone."""
LAUNCHERS = ("torch.distributed.launch", "torch.distributed.run")
SWITCHES = {"use_env", "standalone", "no_python"}
"""Flags of the launchers without a value."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag as it was `spelled`, its value included, and that `value`, "" for a switch."""

    spelled: str
    value: str = ""


@dataclass(frozen=True, kw_only=True)
class Old:
    """A command line: words before the interpreter, the launcher's flags, the script, its words."""

    before: tuple[str, ...]
    launcher: Mapping[str, Flag]
    script: str
    words: tuple[str, ...]

    @property
    def processes(self) -> str:
        """How many the launcher starts on a machine: a number, a variable, ``gpu`` or ``auto``."""
        return plain(self.launcher["nproc_per_node"].value) if self._launched else "1"

    @property
    def machines(self) -> str:
        """How many machines the launcher was told of."""
        return plain(self.launcher["nnodes"].value) if "nnodes" in self.launcher else "1"

    @property
    def _launched(self) -> bool:
        return "nproc_per_node" in self.launcher


@dataclass
class Today:
    """A command of today, put together: flags, then KEY VALUE settings; a note a change."""

    words: list[str]
    settings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *words: str) -> None:
        """Append a flag, with its value."""
        self.words += [tidy(word) for word in words]

    def set(self, key: str, value: str) -> None:
        """Append a setting."""
        self.settings += [key, tidy(value)]

    def note(self, flag: Flag | str, text: str) -> None:
        """Say what became of a flag."""
        self.notes.append(f"{flag.spelled if isinstance(flag, Flag) else flag}: {text}")


def script_name(word: str) -> str:
    """``train_lm`` of ``ffb6d/train_lm.py``, ``ycb_dataset`` of ``datasets.ycb.ycb_dataset``."""
    if not SCRIPT.fullmatch(plain(word)):
        return ""
    name = PurePosixPath(plain(word)).name
    return name.removesuffix(".py").rpartition(".")[2]


def read(words: Sequence[str], scripts: Sequence[str]) -> Old | None:
    """Read a command that runs one of `scripts`, or some other with python; None for all else.

    Raises:
        UserError: the launcher is told of no script, or a flag of its has no value.
    """
    for place, word in enumerate(words):
        before = tuple(words[:place])
        if PROGRAM.fullmatch(plain(word)):
            return _after_program(before, word, list(words[place + 1 :]))
        if word.endswith(".py") and script_name(word) in scripts and _runs(before):
            rest = tuple(words[place + 1 :])
            return Old(before=before, launcher={}, script=word, words=rest)
    return None


def _runs(before: Sequence[str]) -> bool:
    """Whether the shell runs what follows these words: ``vim main.py`` runs another program."""
    named = [word for word in before if not ASSIGNMENT.match(word)]
    return not named or named[0] in STARTERS


def _after_program(before: tuple[str, ...], program: str, rest: list[str]) -> Old:
    launcher: dict[str, Flag] = {}
    module = False
    launches = plain(program).endswith("torchrun")
    while rest and rest[0].startswith("-"):
        if launches:
            flag = rest.pop(0)
            if flag in ("-m", "--module"):
                module = True
                break
            name, _, value = flag.lstrip("-").partition("=")
            name = name.replace("-", "_")
            if not value and name not in SWITCHES:
                value = _value_after(flag, rest)
                flag = f"{flag} {value}"
            launcher[name] = Flag(spelled=flag, value=value)
        elif (flag := rest.pop(0)) == "-m":
            if not rest or plain(rest[0]) not in LAUNCHERS:
                module = True
                break
            rest.pop(0)
            launches = True
        elif flag in ("-W", "-X"):
            _value_after(flag, rest)
    if not rest:
        what = "module" if module else "script"
        raise UserError(f"no {what} is named after {program}", "give the whole old command")
    return Old(before=before, launcher=launcher, script=rest[0], words=tuple(rest[1:]))


def _value_after(flag: str, rest: list[str]) -> str:
    if not rest or (rest[0].startswith("-") and not rest[0].lstrip("-").isdecimal()):
        raise UserError(
            f"{flag} has no value",
            "put the old command in single quotes: in double ones your shell fills in $variables",
        )
    return rest.pop(0)


def flags(
    words: Sequence[str], known: Mapping[str, int], today: Today, *, unknown: str
) -> dict[str, Flag]:
    """Read a script's flags, with any number of dashes, ``=`` or a blank, or abbreviated.

    Args:
        words: the script's.
        known: flags and how many values (0 or 1) each takes.
        today: where notes on other words go, and variables that may hold more flags.
        unknown: what became of a flag that the script does not know.

    Returns:
        Flags by name; of several the last.

    Raises:
        UserError: a flag has no value.
    """
    found: dict[str, Flag] = {}
    rest = [_bare(word) for word in words]
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            if varies(word):
                today.settings.append(word)
                today.note(word, "kept as it is; flags of old in it are not migrated")
            else:
                today.note(word, f"belongs to no flag; {unknown}")
            continue
        dashed, given, value = word.partition("=")
        name = _name(dashed, known)
        if name not in known:
            if not given and rest and not rest[0].startswith("-"):
                word = f"{word} {rest.pop(0)}"
            close = get_close_matches(dashed.lstrip("-"), list(known), n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            today.note(word, f"is no flag of the original's; {unknown}{guess}")
            continue
        if known[name] and not value:
            value = _value_after(word, [] if given else rest)
            word = f"{word} {value}"
        found[name] = Flag(spelled=word, value=value)
    return found


def _bare(word: str) -> str:
    """A flag that is quoted as a whole, with quotes around its value alone."""
    if not word.startswith(('"-', "'-")):
        return word
    dashed, given, value = plain(word).strip('"').partition("=")
    return f'{dashed}="{value}"' if given else dashed


def _name(dashed: str, known: Mapping[str, int]) -> str:
    name = dashed.lstrip("-").replace("-", "_")
    if name in known or not dashed.startswith("--"):
        return name
    fitting = [key for key in known if key.startswith(name)]
    return fitting[0] if len(fitting) == 1 else name
