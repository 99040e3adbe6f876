"""A killed training run can be resumed; `python -m tests.kills` tries it more often."""

import subprocess
import sys


def test_a_killed_run_is_resumed_to_the_same_end() -> None:
    arguments = "-m tests.kills --count 2 --dataset toy-reid --tiny"
    done = subprocess.run(
        [sys.executable, *arguments.split()],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (row,) = [text for text in done.stdout.splitlines() if "toy-reid" in text]
    assert row.split()[1:3] == ["1", "1"]  # at any moment, while saving
