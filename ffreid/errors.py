"""The error for mistakes that the user can correct, and the text of others shown in it."""

_LONGEST = 2000
"""Characters of a message: it may quote a value of any size."""


class UserError(Exception):
    """A mistake the user can correct: two lines (``error: …``, ``hint: …``), exit code 2.

    Both are shown `printable`, and without their middle if they are very long.

    Args:
        message: what is wrong, naming the path, key, value, file or shape.
        hint: what to type or do instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        self.message, self.hint = shortened(printable(message)), shortened(printable(hint))
        super().__init__(self.message)
        self.add_note(f"hint: {self.hint}")  # shown in tracebacks of library users

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str]]:
        # Exceptions travel between data workers and the main process by pickle.
        return type(self), (self.message, self.hint)


def flat(text: str) -> str:
    """Give `text` as a single line, so that an error stays two lines whatever it quotes."""
    return " ".join(text.split())


def printable(text: str) -> str:
    """Escape control and other invisible characters: names from files may steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, length: int = _LONGEST) -> str:
    """Leave out the middle of a text that is longer than `length`."""
    return text if len(text) <= length else f"{text[: length // 2]} … {text[3 - length // 2 :]}"
