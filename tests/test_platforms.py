"""Import, evaluation and training in one process need no POSIX-only modules."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys
import matplotlib.pyplot, scipy.optimize, tensorboard, torchvision, torch._dynamo
import torch.utils.tensorboard, torch.distributed.launcher.api, torch.utils.data, typer

MISSING = {
    os: "O_DIRECTORY O_NOFOLLOW fork getuid killpg mkfifo sched_getaffinity set_blocking setsid",
    signal: "SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 pause pthread_sigmask sigtimedwait",
}
for module, names in MISSING.items():
    for name in names.split():
        delattr(module, name)
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
sys.platform = "win32"

import ffreid
for module in pkgutil.walk_packages(ffreid.__path__, "ffreid."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert error.name == "mitsuba", error  # the extra "photoreal", which tests do without

from pathlib import Path
from ffreid import atomic, cli
from ffreid.engine import loading, signals

atomic.write_json(Path(sys.argv[1]) / "file.json", {"step": 1})
with signals.catch_signals() as caught:
    signal.raise_signal(signal.SIGINT)
assert caught.received == signal.SIGINT
assert list(loading.stream([1, 2, 3], [[0, 1], [2]], list, workers=0)) == [[1, 2], [3]]
signals.ignore_signals_in_worker()
signal.raise_signal(signal.SIGINT)
cli.main(["--version"])
"""


def test_every_module_works_without_posix(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ffreid ")
    assert (tmp_path / "file.json").is_file()
