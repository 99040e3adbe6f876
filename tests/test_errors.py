"""The user's mistake travels between processes and stays two lines."""

import pickle

import pytest

from ffreid.errors import UserError, flat


def test_a_user_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(UserError("no file a.png", "copy it again")))
    assert type(error) is UserError
    assert (error.message, error.hint) == ("no file a.png", "copy it again")
    assert str(error) == "no file a.png"


@pytest.mark.parametrize("text", ["a b", "a\nb", "  a\r\n\tb  ", "a\n\n\nb"])
def test_flat_text_is_one_line(text: str) -> None:
    assert flat(text) == "a b"
