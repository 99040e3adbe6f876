"""Old command lines, FFB6D's and Simple-CCReID's, as those of today; no torch is imported."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffreid.errors import UserError
from ffreid.migrate import ffb6d, shell, simple_ccreid
from ffreid.migrate.old import Old, read, script_name

__all__ = ["Migration", "migrate", "migrate_script", "tell"]

SCRIPTS: dict[str, Callable[[Old], tuple[str, list[str]]]] = {
    **ffb6d.SCRIPTS,
    **simple_ccreid.SCRIPTS,
}
CONTINUED = re.compile(r"[ \t]*\\\r?\n[ \t]*")


@dataclass(frozen=True)
class Migration:
    """A command line of today, "" where there is none, and a note a flag that changed or died."""

    command: str
    notes: tuple[str, ...] = ()


def migrate(command: str) -> Migration:
    """Give the command line of today for one of FFB6D's or Simple-CCReID's.

    Words before the interpreter, redirections, variables and comments stay as they are.

    Args:
        command: as a shell has it, several commands on a line and continued lines included.

    Raises:
        UserError: it runs none of the known scripts, or cannot be read.
    """
    line = CONTINUED.sub(" ", command).strip()
    found = _migrated(line)
    if found is None:
        raise UserError(
            f"no command of FFB6D or Simple-CCReID: {line}" if line else "no old command is given",
            f"give one that runs {', '.join(f'{name}.py' for name in SCRIPTS)}, in single quotes",
        )
    return found


def migrate_script(text: str) -> str:
    """Give a shell script with its old commands replaced, and notes as comments below each.

    Lines that run nothing of the originals stay as they are.

    Raises:
        UserError: no line is an old command.
    """
    lines, count = [], 0
    for line in CONTINUED.sub(" ", text).splitlines():
        try:
            found = _migrated(line)
        except UserError as error:
            lines += [line, f"# not migrated: {error.message} ({error.hint})"]
            continue
        count += found is not None
        lines += [line] if found is None else shown(found, line)
    if not count:
        raise UserError(
            "no command of FFB6D or Simple-CCReID in it",
            f"looked for {', '.join(f'{name}.py' for name in SCRIPTS)}",
        )
    return "\n".join(lines)


def shown(found: Migration, line: str) -> list[str]:
    """Lines of a script: the command with the old one's indent, and notes as comments."""
    indent = line[: len(line) - len(line.lstrip())]
    command = [indent + found.command] if found.command else [f"{indent}# gone: {line.strip()}"]
    return [*command, *(f"{indent}# {note}" for note in found.notes)]


def tell(words: Sequence[str]) -> None:
    """Print the command of today on stdout, notes as comments: it can be run as it is printed.

    Args:
        words: a command line in one word (quoted), or in several, or a shell script's file.

    Raises:
        UserError: there is nothing to migrate.
    """
    named = words[1:] if len(words) > 1 and words[0] in ("bash", "sh", "source", ".") else words
    file = Path(named[0]) if len(named) == 1 else None
    if file is not None and file.suffix == ".sh" and not _is_file(file):
        raise UserError(f"no file {file}", "name the script where it lies, or give a command of it")
    if file is not None and file.suffix != ".py" and _is_file(file):
        text = migrate_script(_read(file))
    else:
        command = words[0] if len(words) == 1 else shell.process_group(list(words))
        command = CONTINUED.sub(" ", command).strip()
        several = "\n" in command
        text = migrate_script(command) if several else "\n".join(shown(migrate(command), command))
    sys.stdout.write(text + "\n")


def _migrated(line: str) -> Migration | None:
    """Give a line's migration; None where it runs none of the known scripts."""
    if not any(name in line for name in SCRIPTS):
        return None
    texts: list[str] = []
    notes: list[str] = []
    known = False
    for words, tail in shell.commands(line):
        old = read(words, list(SCRIPTS))
        if old is None or script_name(old.script) not in SCRIPTS:
            texts += [*words, *tail]
            continue
        known = True
        command, more = SCRIPTS[script_name(old.script)](old)
        notes += more
        texts += [command, *tail] if command else []
    return Migration(" ".join(texts), tuple(dict.fromkeys(notes))) if known else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a whole command line is too long for a name
        return False


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {file}: {error}", "give a shell script, or a command"
        ) from error
