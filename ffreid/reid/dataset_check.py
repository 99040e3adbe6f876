"""``ffreid data --check`` of the re-ID task."""

from yacs.config import CfgNode

from ffreid.engine.findings import NAMED, Findings
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.reid.data import inspection
from ffreid.reid.resources import resource
from ffreid.reid.sources import open_source


def check_dataset(cfg: CfgNode) -> Findings:
    """Read every picture and label of the dataset and find mistakes."""
    findings = Findings(cfg.DATASET, *inspection.CHECKS)
    findings.checked["dataset"] = 1
    try:
        source = open_source(cfg)
    except UserError as error:
        findings.add_error("dataset", "the dataset cannot be used", error)
        findings.notes.append("nothing else is checked until it can be opened")
        return findings
    unknown = resource("counts").get(cfg.DATASET, {}).get("unknown", {}).get("all", ())
    has_cameras = "camera" in source.columns and "cameras" not in unknown
    inspection.inspect_labels(findings, source, has_cameras=has_cameras)
    protocols = inspection.inspect_queries(findings, source)
    with ProgressBar("checking pictures", inspection.count_frames(source)) as bar:
        inspection.inspect_pictures(findings, source, bar.advance)
    columns = ["split", "protocol", "queries", "without a match"]
    rows = [[row[name] for name in columns] for row in protocols]
    findings.tables.append(("queries", columns, rows))
    for row in protocols:
        if lost := row["cases"]:
            left = ", …" * (len(lost) > NAMED)
            findings.notes.append(
                f"{row['split']}, {row['protocol']}: {len(lost)} of {row['queries']} queries have "
                f"no match and are left out: {', '.join(lost[:NAMED])}{left}"
            )
    findings.notes += inspection.reader_notes(source)
    findings.more = {"folder": str(source.folder), "protocols": protocols}
    return findings
