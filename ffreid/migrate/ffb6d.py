"""FFB6D's scripts: ``train_ycb.py``, ``train_lm.py``, ``demo.py``, its data views and tools."""

from collections.abc import Callable, Mapping

from ffreid.migrate import starting
from ffreid.migrate.old import Flag, Old, Today, flags
from ffreid.migrate.shell import plain, varies

SHARE = 3
"""Frames that each of the original's processes trained on."""
BATCH = 24
"""What ``TRAIN.BATCH`` is: the authors' eight processes."""
PICTURES = 20
OBJECTS = ("train_lm", "linemod_dataset")
LEFT_OUT = "left out"
BATCH_NORM = (
    "without effect on apex's batch norm in the original, left out; "
    "TRAIN.BN_MOMENTUM_SCHEDULE true switches the schedule on"
)
DEAD = {
    "lr": "overwritten by the cycle in the original, left out; today TRAIN.LR_MIN, TRAIN.LR_MAX",
    "lr_decay": "without effect in the original, left out; the cycle has no decay",
    "decay_step": BATCH_NORM,
    "bn_momentum": BATCH_NORM,
    "bn_decay": BATCH_NORM,
    "epochs": "without effect in the original (25 always), left out; today TRAIN.EPOCHS",
    "cal_metrics": "without effect in the original, left out",
    "view_dpt": "without effect in the original, left out",
    "debug": "its windows are gone; ffreid eval --pictures N writes poses over frames as files",
    "local_rank": "gone: processes know their place",
    "gpu_id": "without effect in the original, left out; today --gpu",
    "nodes": "gone: torchrun --nnodes N … -m ffreid train is for several machines",
    "nr": "gone: torchrun --node-rank N … -m ffreid train is for several machines",
    "keep_batchnorm_fp32": "gone: batch norm is in float32 under --amp",
    "test_occ": "without effect in the original; Occlusion-LineMOD is not here either",
}
"""Flags that do nothing today, and why."""
SWITCHES = (
    *("eval_net", "test", "test_pose", "test_gt", "cal_metrics", "view_dpt", "debug"),
    *("deterministic", "test_occ"),
)
VALUES = (
    *("weight_decay", "lr", "lr_decay", "decay_step", "bn_momentum", "bn_decay", "checkpoint"),
    *("epochs", "local_rank", "gpu_id", "n", "nodes", "g", "gpus", "nr", "gpu"),
    *("keep_batchnorm_fp32", "opt_level", "cls"),
)
SAME = {"n": "nodes", "g": "gpus"}
"""Short flags and their long names."""
DEMO = {"checkpoint": 1, "dataset": 1, "cls": 1, "show": 0}


def _training(old: Old, dataset: str) -> tuple[str, list[str]]:
    """``train_ycb.py`` or ``train_lm.py``, which evaluate too."""
    known = dict.fromkeys(VALUES, 1) | dict.fromkeys(SWITCHES, 0)
    today = Today([])
    found = flags(old.words, known, today, unknown=LEFT_OUT)
    found = {SAME.get(name, name): flag for name, flag in found.items()}
    evaluates = "eval_net" in found
    today.add("eval" if evaluates else "train", "--dataset", dataset)
    _name_object(today, dataset, found.get("cls"))
    _name_root(today)
    program = _evaluate(old, today, found) if evaluates else _train(old, today, found)
    for name, text in DEAD.items():
        if name in found:
            today.note(found[name], text)
    return starting.line(old, program, today), today.notes


def _train(old: Old, today: Today, found: Mapping[str, Flag]) -> str:
    if (flag := found.get("checkpoint")) is not None:
        today.add("--resume", flag.value)
        today.note(flag, "--resume goes on after its step; the original began its 25 epochs anew")
    program = starting.start_training(old, today)
    alone = old.processes == "1" and old.machines == "1"
    starting.choose_devices(old, today, found.get("gpu"), alone=alone)
    _choose_precision(today, found.get("opt_level"))
    if "deterministic" in found:
        today.add("--deterministic")
    if (flag := found.get("weight_decay")) is not None and plain(flag.value) not in ("0", "0.0"):
        today.set("TRAIN.WEIGHT_DECAY", flag.value)
        today.note(flag, "today a setting, TRAIN.WEIGHT_DECAY")
    _choose_batch(old, today)
    for name in ("test", "test_pose", "test_gt"):
        if name in found:
            today.note(found[name], "without effect in training, left out; ffreid eval evaluates")
    text = "gone: the rate's cycle follows from the data, whatever number of processes there is"
    today.note(found.get("gpus", "--gpus (8 where it is not given)"), text)
    return program


def _choose_batch(old: Old, today: Today) -> None:
    """Keep the original's 3 frames a process."""
    count, what = old.processes, f"TRAIN.BATCH is the whole step's; {SHARE} frames a process"
    if old.machines != "1" or not (count.isdecimal() or varies(count)):
        today.note("TRAIN.BATCH", f"{BATCH} a step; {SHARE} x the number of processes was the old")
    elif varies(count):
        today.settings += ["TRAIN.BATCH", f"$(({SHARE} * {old.launcher['nproc_per_node'].value}))"]
        today.note(
            f"TRAIN.BATCH {SHARE} x {count}", f"{what}, as before (of 8 the default, {BATCH})"
        )
    elif int(count) * SHARE != BATCH:
        today.set("TRAIN.BATCH", str(int(count) * SHARE))
        today.note(
            f"TRAIN.BATCH {int(count) * SHARE}",
            f"{what}, as before; without it {BATCH} as the authors' eight processes, where memory "
            "is short with TRAIN.ACCUMULATE 8",
        )


def _evaluate(old: Old, today: Today, found: Mapping[str, Flag]) -> str:
    checkpoint = found.get("checkpoint")
    today.note(found["eval_net"], "ffreid eval")
    if "test_gt" in found:
        today.add("--test-gt")
        today.note(found["test_gt"], "--test-gt")
        if checkpoint is not None:
            today.note(checkpoint, "left out: the true labels need no network")
    elif checkpoint is not None:
        today.add("--checkpoint", checkpoint.value)
        today.note(checkpoint, "--checkpoint; the old files are read")
    else:
        today.note("-checkpoint", "not given: the run's best.pth, else last.pth, is evaluated")
    for name in ("test", "test_pose"):
        if name in found:
            today.note(found[name], "gone: ffreid eval always estimates poses and scores them")
    program = starting.start_evaluation(old, today)
    starting.choose_devices(old, today, found.get("gpu"), alone=True)
    for name in ("gpus", "opt_level", "deterministic", "weight_decay"):
        if name in found:
            today.note(found[name], "nothing to do with evaluation (in float32), left out")
    return program


def _choose_precision(today: Today, level: Flag | None) -> None:
    if level is None:
        return
    value = plain(level.value)
    if varies(level.value):
        today.add("--opt_level", level.value)
        today.note(level, "still read: O0 is float32, the others are --amp")
    elif value == "O0":
        today.note(level, "gone: float32 is the default")
    else:
        today.add("--amp")
        today.note(level, "--amp: autocast, bfloat16 where the GPU has it, else float16")


def _name_object(today: Today, dataset: str, flag: Flag | None) -> None:
    if dataset == "ycb":
        if flag is not None:
            today.note(flag, "left out: YCB-Video has one network for all objects")
        return
    today.add("--cls", flag.value if flag is not None else "ape")
    if flag is None:
        today.note("--cls ape", "the original's default, named today")


def _name_root(today: Today) -> None:
    today.add("--root", "datasets")
    today.note(
        "--root datasets", "where FFB6D keeps its data, seen from its folder ffb6d/; or your own"
    )


def _demo(old: Old) -> tuple[str, list[str]]:
    """``demo.py``: poses drawn over the test's frames."""
    today = Today([])
    found = flags(old.words, DEMO, today, unknown=LEFT_OUT)
    dataset = plain(found["dataset"].value) if "dataset" in found else "linemod"
    today.add("eval", "--dataset", dataset)
    _name_object(today, dataset, found.get("cls"))
    _name_root(today)
    if "checkpoint" in found:
        today.add("--checkpoint", found["checkpoint"].value)
        today.note(found["checkpoint"], "--checkpoint; the old files are read")
    today.add("--pictures", str(PICTURES))
    today.note(
        f"--pictures {PICTURES}",
        "drawn, evenly over the test, into the run's pictures/; the demo drew every frame. Scores "
        f"all frames too; TEST.LIMIT {PICTURES} takes the first ones alone",
    )
    if "show" in found:
        today.note(found["show"], "its windows are gone; look at the files")
    program = starting.start_evaluation(old, today)
    return starting.line(old, program, today), today.notes


def _view(old: Old, dataset: str) -> tuple[str, list[str]]:
    """``datasets.ycb.ycb_dataset`` or LineMOD's: what a reader gives, in windows."""
    today = Today([])
    found = flags(old.words, {"cls": 1}, today, unknown=LEFT_OUT)
    today.add("eval", "--dataset", dataset)
    _name_object(today, dataset, found.get("cls"))
    _name_root(today)
    today.add("--test-gt", "--pictures", str(PICTURES))
    today.set("TEST.LIMIT", str(PICTURES))
    today.note(
        plain(old.script),
        "its windows are gone; true labels and offsets, through voting, are drawn as poses over "
        f"{PICTURES} frames into the run's test-gt/pictures/. ffreid data counts the frames",
    )
    return starting.line(old, starting.start_evaluation(old, today), today), today.notes


def _keypoints(old: Old) -> tuple[str, list[str]]:
    """``gen_obj_info.py``, which has no successor."""
    text = (
        "not there: no command makes keypoints of a new object. YCB-Video's and LineMOD's come "
        "with the package; from Python, ffreid.pose.keypoints.farthest_points chooses them"
    )
    return "", [f"{plain(old.script)}: {text}"]


SCRIPTS: dict[str, Callable[[Old], tuple[str, list[str]]]] = {
    "train_ycb": lambda old: _training(old, "ycb"),
    "train_lm": lambda old: _training(old, "linemod"),
    "demo": _demo,
    "ycb_dataset": lambda old: _view(old, "ycb"),
    "linemod_dataset": lambda old: _view(old, "linemod"),
    "gen_obj_info": _keypoints,
}
"""Scripts and modules by name: an old command line to today's, and notes."""
