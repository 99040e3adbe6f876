"""Pages in headless Chromium; tests that need it are skipped where it is missing."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --enable-logging=stderr --dump-dom"
)


def open_page(page: Path, folder: Path) -> str:
    """Open a page, check that it asks nobody for anything and logs nothing; return its DOM."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    log = folder / "requests.json"
    command = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}"]
    command += [f"--log-net-log={log}", page.resolve().as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in run.stderr
    addresses = set(re.findall(r'"url":"(\w+://[^/"]*)', json.dumps(log.read_text())))
    own = {a for a in addresses if a.endswith((".google.com", ".googleapis.com"))}  # the browser's
    assert not {address for address in addresses - own if address != "file://"}
    return run.stdout
