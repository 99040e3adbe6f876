"""The table of ``ffreid data``: how many frames a dataset has for training and testing."""

from pathlib import Path
from typing import Any

from ffreid import atomic, report
from ffreid.pose.sources import Source


def report_dataset(name: str, source: Source, json_file: Path | None) -> dict[str, Any]:
    """Print the numbers of frames of dataset `name`, and write them to `json_file`."""
    reader = source.reader
    train, real = len(reader.train_names), len(reader.real_train_names)
    frames = {
        "train, photographed": real,
        "train, rendered": train - real,
        "test": len(reader.test_names),
    }
    title = f"{name}: {len(source.objects)} objects"
    report.show_table(title, ["split", "frames"], [list(row) for row in frames.items()])
    report.log(f"data: {source.summary()}")
    payload = {"dataset": name, "objects": list(source.objects.names), "frames": frames}
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload
