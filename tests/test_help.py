"""Every command and every option explains itself in a sentence that fits."""

import re

import pytest

from tests.help_text import WIDTH, pages, sentences

HELP = dict(sentences())


@pytest.mark.parametrize("name", HELP)
def test_help_is_a_sentence(name: str) -> None:
    text = HELP[name].partition("\n\nExample: ")[0]
    assert text[:1].isupper()
    assert text.endswith(".")
    assert "\n" not in text


def test_pages_fit_the_terminal_and_show_every_option() -> None:
    text = dict(pages())
    for page in text.values():
        assert "…" not in page
        assert max(map(len, page.splitlines())) <= WIDTH
    for name in HELP:
        command, _, option = name.partition(" --")
        if option and command != "ffreid":
            assert re.search(rf"--{option}\b", text[f"ffreid {command} --help"])


@pytest.mark.parametrize("command", ["predict", "data", "compare", "export"])
def test_the_help_of_what_uses_own_data_fits_a_screen(command: str) -> None:
    page = dict(pages(80))[f"ffreid {command} --help"]
    assert len(page.splitlines()) <= 48
    assert "Example: ffreid" in page
