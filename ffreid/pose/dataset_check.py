"""``ffreid data --check`` of the pose task."""

from collections.abc import Sequence

from yacs.config import CfgNode

from ffreid.engine.findings import Findings
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.pose.data import inspection
from ffreid.pose.data.checks import mesh_trees
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.sources import Source, open_source


def check_dataset(cfg: CfgNode) -> Findings:
    """Read every frame of the dataset (or those of DATA.FRAMES) and find mistakes."""
    findings = Findings(cfg.DATASET, *inspection.CHECKS)
    try:
        source = open_source(cfg)
    except UserError as error:
        findings.add_error("lists", "the dataset cannot be opened", error)
        findings.notes.append("nothing else is checked: the dataset cannot be opened")
        return findings
    meshes = _meshes(findings, source)
    trees = mesh_trees(source.objects, meshes)
    inspection.inspect_objects(findings, source.objects, meshes, trees)
    lists = {"chosen": list(cfg.DATA.FRAMES)} if cfg.DATA.FRAMES else _lists(findings, source)
    total = len({name for names in lists.values() for name in names})
    with ProgressBar("checking frames", total) as bar:
        inspection.inspect_frames(
            findings,
            lists,
            source.reader,
            objects=source.objects,
            trees=trees,
            advance=bar.advance,
        )
    findings.more = {"frames": {name: len(names) for name, names in lists.items()}}
    findings.more["objects"] = list(source.objects.names)
    return findings


def _meshes(findings: Findings, source: Source) -> Meshes:
    try:
        return source.meshes
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError):  # needed for scores only
            findings.checked["objects"] += len(source.objects)
            findings.add_error("objects", "meshes that cannot be used", error)
        return {}


def _lists(findings: Findings, source: Source) -> dict[str, Sequence[str]]:
    """The frames by list; a list that cannot be read is a mistake."""
    reader = source.reader
    lists: dict[str, Sequence[str]] = {}
    for name in ("train_names", "test_names"):
        try:
            lists[name] = getattr(reader, name)
        except UserError as error:
            findings.add_error("lists", "a list that cannot be used", error)
    train, test = lists.get("train_names", ()), lists.get("test_names", ())
    inspection.inspect_lists(findings, train, test)
    real = set(reader.real_train_names) if train else set()
    return {
        "training": [name for name in train if name in real],
        "rendered": [name for name in train if name not in real],
        "test": test,
    }
