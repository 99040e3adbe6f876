"""Simple-CCReID's ``main.py``: training, and evaluation with ``--eval``."""

from collections.abc import Callable, Mapping
from pathlib import Path

from yacs.config import CfgNode

from ffreid.errors import UserError
from ffreid.migrate import starting
from ffreid.migrate.old import Flag, Old, Today, flags
from ffreid.migrate.shell import plain, varies
from ffreid.recipes import compose, recipes

KNOWN = {
    **dict.fromkeys(("cfg", "root", "dataset", "output", "resume", "tag", "gpu", "local_rank"), 1),
    **dict.fromkeys(("amp", "eval"), 0),
}
GROUPS = "TRAIN.BN_GROUPS"
CLIPS = ("ccvid",)


def _main(old: Old) -> tuple[str, list[str]]:
    """``main.py``."""
    today = Today([])
    found = flags(old.words, KNOWN, today, unknown="the original ignored it silently, left out")
    evaluates = "eval" in found
    dataset = found["dataset"].value if "dataset" in found else "ltcc"
    today.add("eval" if evaluates else "train", "--dataset", dataset)
    if "dataset" not in found:
        today.note("--dataset ltcc", "the original's default, named today")
    count = "1" if evaluates else old.processes
    _choose_recipe(today, plain(dataset), found.get("cfg"), count)
    for name in ("root", "output", "tag"):
        if name in found:
            today.add(f"--{name}", found[name].value)
    if "root" not in found:
        today.note(
            "DATA.ROOT of configs/default_*.py",
            "gone: add --root FOLDER, or set FFREID_DATA: the folder that holds the data set's",
        )
    program = _evaluate(old, today, found) if evaluates else _train(old, today, found)
    if "local_rank" in found:
        today.note(found["local_rank"], "gone: processes know their place")
    return starting.line(old, program, today), today.notes


def _train(old: Old, today: Today, found: Mapping[str, Flag]) -> str:
    if (flag := found.get("resume")) is not None:
        today.add("--resume", flag.value)
        today.note(
            flag,
            "goes on with the next epoch, at its rate; the original trained the stored epoch "
            "again, at the first rate",
        )
    program = starting.start_training(old, today)
    alone = old.processes == "1" and old.machines == "1"
    starting.choose_devices(old, today, found.get("gpu"), alone=alone)
    if "amp" in found:
        today.add("--amp")
        today.note(found["amp"], "autocast in apex's place: bfloat16 where the GPU has it")
    return program


def _evaluate(old: Old, today: Today, found: Mapping[str, Flag]) -> str:
    today.note(found["eval"], "ffreid eval")
    if (flag := found.get("resume")) is not None:
        today.add("--checkpoint", flag.value)
        today.note(flag, "--checkpoint; the old files are read, and those of other people's data")
    else:
        today.note("--resume", "not given: the run's best.pth, else last.pth, is evaluated")
    program = starting.start_evaluation(old, today)
    starting.choose_devices(old, today, found.get("gpu"), alone=True)
    if "amp" in found:
        today.note(found["amp"], "left out: evaluation is in float32")
    return program


def _choose_recipe(today: Today, dataset: str, flag: Flag | None, count: str) -> None:
    """Add ``--cfg`` and the number of batch-norm groups where `dataset` alone says otherwise.

    Args:
        today: the command.
        dataset: its data set, or a variable.
        flag: ``--cfg``.
        count: how many processes trained, each with a batch norm of its own.
    """
    many = [GROUPS, count] if count.isdecimal() and count != "1" else []
    if varies(dataset) or (flag is not None and varies(flag.value)):
        _keep_recipe(today, flag, "kept: a variable may name any", many)
        return
    _check_data_set(dataset)
    file = Path(plain(flag.value)) if flag is not None else None
    try:
        wanted = compose(dataset, file=file, pairs=many)
    except UserError as error:
        if file is None:
            raise
        _keep_recipe(today, flag, f"kept, but: {error.message}; {error.hint}", many)
        return
    choices = [(kept, pairs) for kept in (None, file) for pairs in ([], many)]
    free = varies(count) or today.words[0] == "eval"
    kept, pairs = next(
        choice
        for choice in choices
        if _same(compose(dataset, file=choice[0], pairs=choice[1]), wanted, any_groups=free)
    )
    if kept is not None and flag is not None:
        today.add("--cfg", flag.value)
    elif flag is not None:
        today.note(flag, f"left out: --dataset {dataset} brings the same recipe")
    _choose_groups(today, wanted, pairs, count)


def _check_data_set(name: str) -> None:
    ours = [known for known, file in recipes().items() if file.parent.name == "reid"]
    if name not in ours:
        raise UserError(
            f"main.py of Simple-CCReID has no --dataset {name}", f"known are: {', '.join(ours)}"
        )


def _choose_groups(today: Today, wanted: CfgNode, pairs: list[str], count: str) -> None:
    groups, batch = wanted.TRAIN.BN_GROUPS, wanted.DATA.TRAIN_BATCH
    what = "clips" if wanted.DATASET in CLIPS else "pictures"
    if pairs:
        today.settings += pairs
        today.note(" ".join(pairs), f"a batch-norm group of {batch} {what} for each old process")
    elif varies(count):
        today.settings += [GROUPS, count]
        today.note(
            f"{GROUPS} {count}", f"a batch-norm group of {batch} {what} for each old process"
        )
    elif count == "1" and today.words[0] == "train":
        today.note("one process", _of_one_process(groups, batch, what))


def _of_one_process(groups: int, batch: int, what: str) -> str:
    if groups > 1:
        return (
            f"trains {groups} batch-norm groups of {batch} {what} a step, as the authors' {groups} "
            f"GPUs did. A TRAIN_BATCH doubled to {groups * batch} for one GPU, normalised "
            f"together, is {GROUPS} 1 DATA.TRAIN_BATCH {groups * batch}: authors expect less of it"
        )
    return (
        f"trains {batch} {what} a step, normalised together, as your file says; as the authors' "
        f"two GPUs do: {GROUPS} 2, with DATA.TRAIN_BATCH halved where it was doubled for one GPU"
    )


def _keep_recipe(today: Today, flag: Flag | None, text: str, groups: list[str]) -> None:
    if flag is not None:
        today.add("--cfg", flag.value)
        today.note(flag, text)
    if groups:
        today.settings += groups
        today.note(" ".join(groups), "a batch-norm group for each old process")


def _same(one: CfgNode, other: CfgNode, *, any_groups: bool) -> bool:
    """Whether two configurations say the same, by whatever recipe's name."""
    trees = [cfg.clone() for cfg in (one, other)]
    for tree in trees:
        tree.defrost()
        tree.RECIPE = ""
        if any_groups:
            tree.TRAIN.BN_GROUPS = 1
    return bool(trees[0] == trees[1])


SCRIPTS: dict[str, Callable[[Old], tuple[str, list[str]]]] = {"main": _main}
"""Scripts by name: an old command line to today's, and notes."""
