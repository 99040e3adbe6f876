"""`ffreid bench`: what each stage costs on this machine."""

from importlib import import_module
from pathlib import Path

import torch

from ffreid import atomic, report
from ffreid.bench.common import machine
from ffreid.errors import UserError


def bench(task: str, *, quick: bool, device: str, json_file: Path | None = None) -> None:
    """Time the stages of `task` on `device` ("cpu" or "cuda"), print the table, write the JSON.

    Raises:
        UserError: an unknown or missing device, or a file that cannot be written.
    """
    if device not in ("cpu", "cuda"):
        raise UserError(f"unknown device {device!r}", "use --device cpu or --device cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device", "remove --device cuda")
    if json_file is not None:
        atomic.check_writable(json_file)
    where = torch.device(device)
    facts = machine(where)
    report.log(", ".join(f"{name}: {value}" for name, value in facts.items()))
    rows = import_module(f"ffreid.bench.{task}").bench(quick, where)
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    cells = [[row[name] for name in columns] for row in rows]
    report.show_table(f"{task}: time per stage", columns, cells)
    if json_file is not None:
        atomic.write_json(json_file, {"machine": facts, "rows": rows})
