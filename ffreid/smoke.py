"""Every part once, on a small made-up data set: does this installation work?"""

import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from ffreid import atomic, report, runner
from ffreid.convert import convert
from ffreid.engine.checkpoints import io
from ffreid.engine.tracking import run_folder
from ffreid.errors import UserError
from ffreid.recipes import compose

STEPS = 4
POSE = {
    "DATA.TOY.TRAIN": 6,
    "DATA.TOY.TEST": 3,
    "DATA.WORKERS": 0,
    "TRAIN.BATCH": 2,
    "TRAIN.STEPS": STEPS,
    "TRAIN.VALIDATE_FRAMES": 2,
    "VOTE.MAX_POINTS": 200,
}
REID = {
    "DATA.TOY.IDENTITIES": 4,
    "DATA.TOY.TEST_IDENTITIES": 4,
    "DATA.TOY.CAMERAS": 2,
    "DATA.TOY.PICTURES": 2,
    "DATA.TOY.FRAMES": 6,
    "DATA.TRAIN_BATCH": 4,
    "DATA.NUM_INSTANCES": 2,
    "DATA.NUM_WORKERS": 0,
    "TRAIN.STEPS": STEPS,
    "TRAIN.START_EPOCH_CC": 0,
    "TRAIN.START_EPOCH_ADV": 0,
    "TEST.EVAL_STEP": 0,
}


class CheckFailed(Exception):
    """A check ran and found something wrong."""


@dataclass
class Checks:
    """The checks run so far: name, what was found, seconds, whether it is as it should be."""

    rows: list[tuple[str, str, float, bool]] = field(default_factory=list)

    def run(self, name: str, check: Callable[[], str]) -> None:
        """Run `check`; what it returns, or why it failed, is its row."""
        report.log(f"smoke: {name}")
        started = time.monotonic()
        try:
            found, good = check(), True
        except (CheckFailed, UserError) as error:
            found, good = str(error), False
        self.rows.append((name, found, time.monotonic() - started, good))

    @property
    def good(self) -> bool:
        """Whether every check passed."""
        return all(good for *_, good in self.rows)


def smoke(*, keep: Path | None = None, json_file: Path | None = None) -> bool:
    """Make up data, read them, train, resume, evaluate and draw; print one table.

    Args:
        keep: leave data, runs and pictures in this folder instead of removing them.
        json_file: write the table there too.

    Returns:
        Whether everything is as it should be.
    """
    checks = Checks()
    started = time.monotonic()
    with _folder(keep) as folder, (folder / "smoke.log").open("a") as log, redirect_stdout(log):
        _pose(checks, folder)
        _reid(checks, folder)
    seconds = time.monotonic() - started
    rows = [
        ["ok" if good else "FAILED", name, found, taken] for name, found, taken, good in checks.rows
    ]
    rows.append(["ok" if checks.good else "FAILED", "everything", "", seconds])
    report.show_table("ffreid smoke", ["", "check", "found", "seconds"], rows, digits=1)
    if keep is not None:
        report.log(f"data, runs, pictures and smoke.log are in {keep}")
    if json_file is not None:
        keys = ("check", "found", "seconds", "ok")
        plain = [dict(zip(keys, row, strict=True)) for row in checks.rows]
        atomic.write_json(json_file, {"checks": plain, "ok": checks.good, "seconds": seconds})
    return checks.good


def _folder(keep: Path | None) -> Any:
    if keep is None:
        return _temporary()
    if keep.is_dir() and any(keep.iterdir()):
        raise UserError(f"{keep} is not empty", "name a new folder with --keep FOLDER")
    return nullcontext(run_folder.create_folder(keep, "name another with --keep FOLDER"))


@contextmanager
def _temporary() -> Any:
    with tempfile.TemporaryDirectory(prefix="ffreid-smoke-") as name:
        yield Path(name)


def _settings(folder: Path, dataset: str, tag: str, values: dict[str, int]) -> CfgNode:
    pairs = [str(word) for pair in values.items() for word in pair]
    return compose(dataset, root=folder, output=folder / "runs", tag=tag, pairs=pairs)


def _pose(checks: Checks, folder: Path) -> None:
    whole, halves = (_settings(folder, "toy-pose", tag, POSE) for tag in ("whole", "halves"))
    checks.run("render a data set and read it back", lambda: _read(whole))
    checks.run("true labels through voting", lambda: _truth(whole))
    checks.run("train FFB6D", lambda: _train(whole))
    checks.run("stop, resume FFB6D: bitwise the same", lambda: _resume(whole, halves))
    checks.run("evaluate and draw poses", lambda: _evaluate(whole))
    checks.run("FFB6D to the authors' form and back", lambda: _there_and_back(whole))


def _reid(checks: Checks, folder: Path) -> None:
    whole, halves = (_settings(folder, "toy-reid", tag, REID) for tag in ("whole", "halves"))
    video = _settings(folder, "toy-reid-video", "whole", REID)
    checks.run("draw people and read them back", lambda: _people(whole))
    checks.run("train CAL on pictures", lambda: _train(whole))
    checks.run("stop, resume CAL: bitwise the same", lambda: _resume(whole, halves))
    checks.run("search, draw, search saved features", lambda: _search(whole, folder))
    checks.run("CAL to the authors' form and back", lambda: _there_and_back(whole))
    checks.run("train CAL on tracklets", lambda: _train(video))


def _people(cfg: CfgNode) -> str:
    from ffreid.reid import build, sources

    source = sources.open_source(cfg)
    data = build.training_set(cfg, source)
    samples = [data[0, position] for position in range(cfg.DATA.TRAIN_BATCH)]
    height, width = samples[0].images.shape[1:]
    if not all(bool(torch.isfinite(sample.images).all()) for sample in samples):
        raise CheckFailed("pictures that are not finite")
    return (
        f"{len(source.train)} pictures of {len(source.identities)} people in "
        f"{len(source.clothes)} outfits, {height} x {width} pixels"
    )


def _search(cfg: CfgNode, folder: Path) -> str:
    file = folder / "features.npz"
    found = runner.evaluate(cfg, pictures=2, save_features=file)["results"]
    again = runner.evaluate(cfg, features=file)["results"]
    if found != again:
        raise CheckFailed("saved features give other results")
    if not found["SC"]["n_valid"] or not found["CC"]["n_valid"]:
        raise CheckFailed("no query has a match")
    shares = [f"{name} {found[name]['rank1']:.0%}" for name in ("SC", "CC")]
    return f"rank-1 {', '.join(shares)} (hardly trained), {found['CC']['n_valid']} queries"


def _read(cfg: CfgNode) -> str:
    from ffreid.pose import build, sources

    source = sources.open_source(cfg)
    data = build.training_set(cfg, source)
    samples = [data[0, position] for position in range(len(data))]
    seen = sum(bool((sample.targets.labels > 0).any()) for sample in samples)
    if seen < len(samples):
        raise CheckFailed(f"{len(samples) - seen} of {len(samples)} frames show no object")
    height, width = samples[0].inputs.rgb.shape[1:]
    points = samples[0].inputs.features.shape[1]
    return f"{len(samples)} frames, {height} x {width} pixels, {points} points"


def _truth(cfg: CfgNode) -> str:
    pooled = runner.evaluate(cfg, use_gt=True)["results"]["pooled"]
    if pooled["ADD_auc"] < 99:
        raise CheckFailed(f"ADD AUC {pooled['ADD_auc']:.2f} of true offsets, 100 is right")
    return f"ADD AUC {pooled['ADD_auc']:.2f} of {pooled['instances']} objects"


def _train(cfg: CfgNode) -> str:
    folder = runner.train(cfg)
    state = io.load(folder / "last.pth")
    if state["step"] != STEPS or not all(map(_finite, state["parts"].values())):
        raise CheckFailed(f"step {state['step']} of {STEPS}, or weights that are not finite")
    return f"{STEPS} steps of {_batch(cfg)}"


def _batch(cfg: CfgNode) -> str:
    if cfg.TASK == "pose":
        return f"{cfg.TRAIN.BATCH} frames"
    return f"{cfg.TRAIN.BN_GROUPS} x {cfg.DATA.TRAIN_BATCH} samples"


def _finite(weights: dict[str, torch.Tensor]) -> bool:
    return all(bool(torch.isfinite(w).all()) for w in weights.values() if w.is_floating_point())


def _resume(whole: CfgNode, halves: CfgNode) -> str:
    folder = runner.train(halves, stop_at=STEPS // 2)
    runner.train(halves, resume=folder / "last.pth")
    ours = _tensors(folder / "last.pth")
    theirs = _tensors(runner.run_folder(whole) / "last.pth")
    differing = [name for name, value in theirs.items() if not torch.equal(value, ours[name])]
    if differing:
        raise CheckFailed(f"{len(differing)} tensors differ, {differing[0]} first")
    return f"{len(theirs)} tensors equal"


def _there_and_back(cfg: CfgNode) -> str:
    ours = runner.run_folder(cfg) / "last.pth"
    theirs, back = ours.with_name("theirs.pth.tar"), ours.with_name("back.pth")
    convert(ours, theirs, to="original")
    convert(theirs, back)
    one, other = _tensors(ours), _tensors(back)
    differing = [
        name for name in one if name not in other or not torch.equal(one[name], other[name])
    ]
    for path in (theirs, back):
        path.unlink()
    if differing:
        raise CheckFailed(f"{len(differing)} tensors differ, {differing[0]} first")
    return f"{len(one)} tensors equal"


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    parts = io.load(path)["parts"]
    return {f"{part}.{key}": parts[part][key] for part in parts for key in parts[part]}


def _evaluate(cfg: CfgNode) -> str:
    results = runner.evaluate(cfg, pictures=2)
    drawn = list((runner.run_folder(cfg) / "pictures").glob("*.png"))
    frames, wanted = results["frames"], POSE["DATA.TOY.TEST"]
    if frames != wanted or len(drawn) != 2:
        raise CheckFailed(f"{frames} frames of {wanted}, {len(drawn)} pictures of 2")
    adds = results["results"]["pooled"]["ADD-S_auc"]
    return f"{frames} frames, ADD-S AUC {adds:.2f} (hardly trained), {len(drawn)} pictures"
