"""How many frames a data set lists for training and testing."""

from pathlib import Path
from typing import Any

from ffreid import atomic, report
from ffreid.pose.sources import Source


def tell(name: str, source: Source, json_file: Path | None) -> dict[str, Any]:
    """Print the counts of frames.

    Args:
        name: of the data set.
        source: the data set.
        json_file: where the result goes as well.

    Raises:
        UserError: the file cannot be written.
    """
    reader = source.reader
    train, real = len(reader.train_names), len(reader.real_train_names)
    rows: list[tuple[str, int]] = [
        ("train, photographed", real),
        ("train, rendered", train - real),
        ("test", len(reader.test_names)),
    ]
    report.show_table(
        f"{name}: {len(source.objects)} objects", ["split", "frames"], [list(row) for row in rows]
    )
    report.log(f"data: {source.summary()}")
    payload = {"dataset": name, "objects": list(source.objects.names), "frames": dict(rows)}
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload
