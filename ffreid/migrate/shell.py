"""Shell lines as words in their own spelling: variables, quotes and placeholders stay."""

import re
import shlex

from ffreid.errors import UserError

WORD = re.compile(
    r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|`[^`]*`|\$\(\(.*?\)\)|\$\([^)]*\)|[^\s\\'"`;|&])+"""
)
REDIRECTION = re.compile(r"(?:\d?>>?|&>>?)(?:&\d)?|<(?=\s)")
CONTROL = re.compile(r"&&|\|\||[;|&]")
PLAIN = re.compile(r"[\w@%+=:,./<>-]+")
"""What needs no quotes, placeholders such as ``<logs>`` included."""


def tokens(line: str) -> list[str]:
    """Split a line into words, redirections, control operators and a last comment.

    Raises:
        UserError: a quote is not closed.
    """
    found: list[str] = []
    place = 0
    while place < len(line):
        if line[place].isspace():
            place += 1
            continue
        if line[place] == "#":
            return [*found, line[place:].rstrip()]
        match = next(
            (m for kind in (REDIRECTION, CONTROL, WORD) if (m := kind.match(line, place))), None
        )
        if match is None:
            raise UserError(f"a quote is not closed: {line[place:]}", "close it, or leave it out")
        found.append(match.group())
        place = match.end()
    return found


def commands(line: str) -> list[tuple[list[str], list[str]]]:
    """Split a line into its commands, each with what follows it: redirections, operator, comment.

    Raises:
        UserError: a quote is not closed.
    """
    parts: list[tuple[list[str], list[str]]] = [([], [])]
    for token in tokens(line):
        words, tail = parts[-1]
        if tail and CONTROL.fullmatch(tail[-1]) and not token.startswith("#"):
            parts.append(([token], []))
        elif tail or token.startswith("#") or REDIRECTION.match(token) or CONTROL.fullmatch(token):
            tail.append(token)
        else:
            words.append(token)
    return parts


def plain(word: str) -> str:
    """A word's value without its quotes; one with a variable in it as it is spelled."""
    if varies(word):
        return word
    try:
        return "".join(shlex.split(word))
    except ValueError:
        return word


def varies(word: str) -> bool:
    """Whether the shell puts something in the word's place."""
    return ("$" in word or "`" in word) and not word.startswith("'")


def tidy(word: str) -> str:
    """A word without quotes that it does not need."""
    value = plain(word)
    return value if not varies(word) and PLAIN.fullmatch(value) else word


def process_group(words: list[str]) -> str:
    """Put words that a shell has split together again: the other way of naming a command."""
    return " ".join(
        shlex.quote(word) if re.search(r"[\s'\"\\;|&]", word) else word for word in words
    )
