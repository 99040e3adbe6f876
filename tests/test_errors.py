"""User errors are pickled between processes and stay two lines."""

import pickle

import pytest

from ffreid.errors import UserError, flat, printable, shortened


def test_a_user_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(UserError("no file a.png", "copy it again")))
    assert type(error) is UserError
    assert (error.message, error.hint) == ("no file a.png", "copy it again")
    assert str(error) == "no file a.png"


@pytest.mark.parametrize("text", ["a b", "a\nb", "  a\r\n\tb  ", "a\n\n\nb"])
def test_flat_text_is_one_line(text: str) -> None:
    assert flat(text) == "a b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Müller 王 …", "Müller 王 …"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nhint: run rm", r"a\nhint: run rm"),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("a\u200bb\u2028", r"a\u200bb\u2028"),
        (b"\xff.png".decode(errors="surrogateescape"), r"\udcff.png"),
    ],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    error = UserError(text, text)
    assert (error.message, error.hint, str(error)) == (shown, shown, shown)


def test_errors_with_long_quotes_are_short() -> None:
    error = UserError(f"SEED is {'9' * 10**6} on the command line", "use SEED 0")
    assert len(error.message) == 2000
    assert error.message.startswith("SEED is 99")
    assert error.message.endswith("99 on the command line")
    assert shortened(error.message) == error.message
