"""Check an installation: every part of both tasks once, on small toy datasets."""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path

import torch
from yacs.config import CfgNode

from ffreid import atomic, report, runner
from ffreid.convert import convert
from ffreid.engine.checkpoints import io
from ffreid.engine.tracking import run_folder
from ffreid.errors import UserError
from ffreid.recipes import compose

STEPS = 4
POSE = (
    "DATA.TOY.TRAIN 6 DATA.TOY.TEST 3 DATA.WORKERS 0 TRAIN.BATCH 2 TRAIN.VALIDATE_FRAMES 2 "
    "VOTE.MAX_POINTS 200"
)
REID = (
    "DATA.TOY.IDENTITIES 4 DATA.TOY.TEST_IDENTITIES 4 DATA.TOY.CAMERAS 2 DATA.TOY.PICTURES 2 "
    "DATA.TOY.FRAMES 6 DATA.TRAIN_BATCH 4 DATA.NUM_INSTANCES 2 DATA.NUM_WORKERS 0 "
    "TRAIN.START_EPOCH_CC 0 TRAIN.START_EPOCH_ADV 0 TEST.EVAL_STEP 0"
)


class CheckFailed(Exception):
    """A check failed."""


def smoke(*, keep: Path | None = None, json_file: Path | None = None) -> bool:
    """Render toy datasets, train, resume, evaluate, draw and convert; print a table of checks.

    Data, runs and images are left in the folder `keep`, the table also in `json_file`; returns
    whether every check passed.
    """
    if json_file is not None:
        atomic.check_writable(json_file)
    rows: list[tuple[str, str, float, bool]] = []
    started = time.monotonic()
    with ExitStack() as stack:
        if keep is None:
            temporary = tempfile.TemporaryDirectory(prefix="ffreid-smoke-")
            folder = Path(stack.enter_context(temporary))
        elif keep.is_dir() and any(keep.iterdir()):
            raise UserError(f"{keep} is not empty", "use another folder: --keep FOLDER")
        else:
            folder = run_folder.create_folder(keep, "use another folder: --keep FOLDER")
        log = stack.enter_context((folder / "smoke.log").open("a"))
        stack.enter_context(redirect_stdout(log))
        for name, check in _checks(folder).items():
            report.log(f"smoke: {name}")
            check_started = time.monotonic()
            try:
                result, passed = check(), True
            except (CheckFailed, UserError) as error:
                result, passed = str(error), False
            rows.append((name, result, time.monotonic() - check_started, passed))
    passed = all(row[-1] for row in rows)
    total = ("all checks", "", time.monotonic() - started, passed)
    cells = [["ok" if row[-1] else "FAILED", *row[:3]] for row in (*rows, total)]
    report.show_table("ffreid smoke", ["", "check", "result", "seconds"], cells, digits=1)
    if keep is not None:
        report.log(f"data, runs, images and smoke.log are in {keep}")
    if json_file is not None:
        keys = ("check", "found", "seconds", "ok")
        results = [dict(zip(keys, row, strict=True)) for row in rows]
        atomic.write_json(json_file, {"checks": results, "ok": passed, "seconds": total[2]})
    return passed


def _settings(folder: Path, dataset: str, tag: str, settings: str) -> CfgNode:
    pairs = [*settings.split(), "TRAIN.STEPS", str(STEPS)]
    return compose(dataset, root=folder, output=folder / "runs", tag=tag, pairs=pairs)


def _checks(folder: Path) -> dict[str, Callable[[], str]]:
    pose, pose2 = (_settings(folder, "toy-pose", tag, POSE) for tag in ("full", "resumed"))
    reid, reid2 = (_settings(folder, "toy-reid", tag, REID) for tag in ("full", "resumed"))
    video = _settings(folder, "toy-reid-video", "full", REID)
    return {
        "render and read a pose dataset": lambda: _read_frames(pose),
        "poses from ground-truth offsets": lambda: _vote(pose),
        "train FFB6D": lambda: _train(pose),
        "interrupt and resume FFB6D": lambda: _resume(pose, pose2),
        "evaluate and draw poses": lambda: _evaluate(pose),
        "convert FFB6D to the original format and back": lambda: _convert(pose),
        "render and read a re-ID dataset": lambda: _read_persons(reid),
        "train CAL on images": lambda: _train(reid),
        "interrupt and resume CAL": lambda: _resume(reid, reid2),
        "evaluate and draw rank lists, reuse saved features": lambda: _search(reid, folder),
        "convert CAL to the original format and back": lambda: _convert(reid),
        "train CAL on video": lambda: _train(video),
    }


def _read_frames(cfg: CfgNode) -> str:
    from ffreid.pose import build, sources

    data = build.training_set(cfg, sources.open_source(cfg))
    samples = [data[0, position] for position in range(len(data))]
    if empty := sum(not bool((sample.targets.labels > 0).any()) for sample in samples):
        raise CheckFailed(f"{empty} of {len(samples)} frames show no object")
    height, width = samples[0].inputs.rgb.shape[1:]
    points = len(samples[0].inputs.choose)
    return f"{len(samples)} frames of {height} x {width} pixels, {points} points"


def _read_persons(cfg: CfgNode) -> str:
    from ffreid.reid import build, sources

    source = sources.open_source(cfg)
    data = build.training_set(cfg, source)
    samples = [data[0, position] for position in range(cfg.DATA.TRAIN_BATCH)]
    if not all(bool(torch.isfinite(sample.images).all()) for sample in samples):
        raise CheckFailed("images with NaN or infinite values")
    height, width = samples[0].images.shape[1:]
    counts = f"{len(source.train)} images of {len(source.identities)} identities"
    return f"{counts} in {len(source.clothes)} clothes labels, {height} x {width} pixels"


def _vote(cfg: CfgNode) -> str:
    pooled = runner.evaluate(cfg, use_gt=True)["results"]["pooled"]
    if pooled["ADD_auc"] < 99:
        raise CheckFailed(f"ADD AUC {pooled['ADD_auc']:.2f}, expected 100")
    return f"ADD AUC {pooled['ADD_auc']:.2f} of {pooled['instances']} objects"


def _train(cfg: CfgNode) -> str:
    state = io.load(runner.train(cfg) / "last.pth")
    tensors = _flatten(state["parts"]).values()
    if state["step"] != STEPS:
        raise CheckFailed(f"trained {state['step']} of {STEPS} steps")
    if not all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point()):
        raise CheckFailed("weights with NaN or infinite values")
    if cfg.TASK == "pose":
        return f"{STEPS} steps, batch size {cfg.TRAIN.BATCH}"
    return f"{STEPS} steps, batch size {cfg.TRAIN.BN_GROUPS} x {cfg.DATA.TRAIN_BATCH}"


def _resume(full: CfgNode, resumed: CfgNode) -> str:
    folder = runner.train(resumed, stop_at=STEPS // 2)
    runner.train(resumed, resume=folder / "last.pth")
    return _compare(runner.run_folder(full) / "last.pth", folder / "last.pth")


def _convert(cfg: CfgNode) -> str:
    checkpoint = runner.run_folder(cfg) / "last.pth"
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder:
        original, back = Path(folder, "original.pth.tar"), Path(folder, "back.pth")
        convert(checkpoint, original, to="original")
        convert(original, back)
        return _compare(checkpoint, back)


def _compare(expected_file: Path, actual_file: Path) -> str:
    """Compare the weights of two checkpoints bitwise."""
    expected, actual = (_flatten(io.load(path)["parts"]) for path in (expected_file, actual_file))
    different = [n for n in expected if n not in actual or not torch.equal(expected[n], actual[n])]
    if different:
        raise CheckFailed(f"{len(different)} tensors differ, {different[0]} first")
    return f"{len(expected)} tensors bitwise equal"


def _flatten(parts: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {f"{part}.{key}": parts[part][key] for part in parts for key in parts[part]}


def _evaluate(cfg: CfgNode) -> str:
    results = runner.evaluate(cfg, pictures=2)
    drawn = list((runner.run_folder(cfg) / "pictures").glob("*.png"))
    frames, expected = results["frames"], cfg.DATA.TOY.TEST
    if frames != expected or len(drawn) != 2:
        raise CheckFailed(f"{frames} of {expected} frames evaluated, {len(drawn)} of 2 drawn")
    adds = results["results"]["pooled"]["ADD-S_auc"]
    return f"{frames} frames, ADD-S AUC {adds:.2f} after {STEPS} steps"


def _search(cfg: CfgNode, folder: Path) -> str:
    file = folder / "features.npz"
    results = runner.evaluate(cfg, pictures=2, save_features=file)["results"]
    if results != runner.evaluate(cfg, features=file)["results"]:
        raise CheckFailed("saved features give different results")
    if not results["SC"]["n_valid"] or not results["CC"]["n_valid"]:
        raise CheckFailed("no query has a match")
    rank1 = ", ".join(f"{name} {results[name]['rank1']:.0%}" for name in ("SC", "CC"))
    return f"rank-1 {rank1} after {STEPS} steps, {results['CC']['n_valid']} queries"
