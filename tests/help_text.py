"""The help of the complete command line as one text: ``python -m tests.help_text > FILE``."""

import sys
from collections.abc import Iterator

import typer
from typer.testing import CliRunner

from ffreid.cli import app

WIDTH = 100


def sentences() -> Iterator[tuple[str, str]]:
    """Each command and each of its arguments and options, with its help."""
    root = typer.main.get_command(app)
    commands = {"ffreid": root, **getattr(root, "commands", {})}
    for name, command in commands.items():
        yield name, command.help or ""
        for parameter in command.params:
            yield f"{name} {parameter.opts[0]}", getattr(parameter, "help", None) or ""


def pages(width: int = WIDTH) -> Iterator[tuple[str, str]]:
    """Each command line that prints help, and what it prints."""
    for name in ["", *getattr(typer.main.get_command(app), "commands", {})]:
        arguments = [name, "--help"] if name else ["--help"]
        environment = {"COLUMNS": str(width), "TERMINAL_WIDTH": str(width), "NO_COLOR": "1"}
        result = CliRunner().invoke(app, arguments, env=environment, prog_name="ffreid")
        lines = (line.rstrip() for line in result.output.strip().splitlines())
        yield f"ffreid {' '.join(arguments)}", "\n".join(lines)


if __name__ == "__main__":
    for line, text in pages():
        sys.stdout.write(f"$ {line}\n{text}\n\n")
