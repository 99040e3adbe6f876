"""The error for mistakes that the user can correct."""


class UserError(Exception):
    """A mistake the user can correct: two lines (``error: …``, ``hint: …``), exit code 2.

    Args:
        message: what is wrong, naming the path, key, value, file or shape.
        hint: what to type or do instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.add_note(f"hint: {hint}")  # shown in tracebacks of library users

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str]]:
        # Exceptions travel between data workers and the main process by pickle.
        return type(self), (self.message, self.hint)


def flat(text: str) -> str:
    """Give `text` as a single line, so that an error stays two lines whatever it quotes."""
    return " ".join(text.split())
