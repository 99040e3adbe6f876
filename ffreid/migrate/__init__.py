"""Translate commands of FFB6D and Simple-CCReID to ffreid's; no torch is imported."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ffreid.config import differing
from ffreid.errors import UserError
from ffreid.migrate.rules import SCRIPTS, VIEWERS
from ffreid.migrate.shell import (
    CONTINUED,
    Command,
    Flag,
    commands,
    plain,
    read,
    read_flags,
    script_name,
    tidy,
    varies,
)
from ffreid.recipes import compose, recipes

__all__ = ["Migration", "migrate", "migrate_script", "print_migration"]


ORDER = "--dataset --cls --cfg --root --output --tag --resume --checkpoint --test-gt --gpus --gpu"
ORDER += " --opt_level --amp --deterministic --pictures"
SHARE, BATCH = 3, 24
"""Frames that each process of FFB6D trained on, and the default of TRAIN.BATCH."""


class Migration(NamedTuple):
    """The new command, "" where there is none, and a note for each flag that changed."""

    command: str
    notes: tuple[str, ...] = ()


@dataclass
class New:
    """A new command while it is put together."""

    action: str
    options: dict[str, str] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    program: str = "ffreid"

    def note(self, flag: Flag | str, text: str) -> None:
        """Say what became of a flag."""
        self.notes.append(f"{flag.spelled if isinstance(flag, Flag) else flag}: {text}")

    def words(self) -> list[str]:
        """The command's words, options before settings."""
        options = sorted(self.options.items(), key=lambda option: ORDER.split().index(option[0]))
        words = [word for option in options for word in option if word]
        return [self.program, self.action, *words, *self.settings]


def migrate(command: str) -> Migration:
    """Translate a command line of FFB6D or Simple-CCReID.

    Words before the interpreter, redirections, variables and comments are kept.

    Args:
        command: as typed in a shell, with several commands or continued lines.

    Raises:
        UserError: it runs none of the known scripts, or cannot be read.
    """
    line = CONTINUED.sub(" ", command).strip()
    migration = _migrate_line(line)
    if migration is None:
        raise UserError(
            f"not a command of FFB6D or Simple-CCReID: {line}" if line else "no command",
            f"use a command that runs {_scripts()}, in single quotes",
        )
    return migration


def migrate_script(text: str) -> str:
    """Translate the old commands of a shell script, with notes as comments below each.

    Raises:
        UserError: it contains no old command.
    """
    lines, count = [], 0
    for line in CONTINUED.sub(" ", text).splitlines():
        try:
            migration = _migrate_line(line)
        except UserError as error:
            lines += [line, f"# not translated: {error.message} ({error.hint})"]
            continue
        count += migration is not None
        lines += [line] if migration is None else _lines(migration, line)
    if not count:
        raise UserError(
            "no command of FFB6D or Simple-CCReID in the script", f"expected {_scripts()}"
        )
    return "\n".join(lines)


def print_migration(arguments: Sequence[str]) -> None:
    """Print the new command with notes as comments, so that the output can be run.

    Args:
        arguments: a command as one argument (quoted) or several, or a shell script's file.

    Raises:
        UserError: there is nothing to translate.
    """
    after_shell = len(arguments) > 1 and arguments[0] in ("bash", "sh", "source", ".")
    names = arguments[1:] if after_shell else arguments
    file = Path(names[0]) if len(names) == 1 and len(names[0]) < 1000 else None
    if file is not None and file.suffix == ".sh" and not file.is_file():
        raise UserError(f"no file {file}", "use an existing script, or a command of it")
    if file is not None and file.suffix != ".py" and file.is_file():
        try:
            text = migrate_script(file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {file}: {error}", "use a shell script") from error
    else:
        command = arguments[0] if len(arguments) == 1 else " ".join(map(_quote, arguments))
        command = CONTINUED.sub(" ", command).strip()
        several = "\n" in command
        text = migrate_script(command) if several else "\n".join(_lines(migrate(command), command))
    sys.stdout.write(text + "\n")


def _quote(word: str) -> str:
    return shlex.quote(word) if re.search(r"[\s'\"\\;|&]", word) else word


def _scripts() -> str:
    return ", ".join(f"{name}.py" for name in SCRIPTS)


def _lines(migration: Migration, line: str) -> list[str]:
    indent = line[: len(line) - len(line.lstrip())]
    command = migration.command or f"# removed: {line.strip()}"
    return [indent + command, *(f"{indent}# {note}" for note in migration.notes)]


def _migrate_line(line: str) -> Migration | None:
    """Translate a line; None where it runs none of the known scripts."""
    if not any(name in line for name in SCRIPTS):
        return None
    words: list[str] = []
    notes: dict[str, None] = {}
    known = False
    for part, tail in commands(line):
        old = read(part, SCRIPTS)
        if old is None:
            words += [*part, *tail]
            continue
        known = True
        translated, more = _translate(old)
        notes |= dict.fromkeys(more)
        words += [*translated, *tail] if translated else []
    return Migration(" ".join(words), tuple(notes)) if known else None


def _translate(old: Command) -> tuple[list[str], list[str]]:
    script = script_name(old.script)
    if script == "gen_obj_info":
        return [], [
            f"{plain(old.script)}: no command makes keypoints; those of YCB-Video and LineMOD come "
            "with the package, others from Python: ffreid.pose.keypoints.farthest_points"
        ]
    dataset, rules = SCRIPTS[script]
    flags, variables, notes = read_flags(
        old.arguments, {name: rule.has_value for name, rule in rules.items()}
    )
    evaluates = script in VIEWERS or "eval_net" in flags or "eval" in flags
    new = New("eval" if evaluates else "train", settings=variables, notes=notes)
    if "dataset" in flags:
        dataset = plain(flags["dataset"].value)
    elif "dataset" in rules:
        new.note(f"--dataset {dataset}", "the default of the original")
    new.options["--dataset"] = tidy(dataset)
    if "weight_decay" in flags and plain(flags["weight_decay"].value) in ("0", "0.0"):
        del flags["weight_decay"]
    for name, flag in flags.items():
        rule = rules[name]
        target = rule.evaluation if evaluates else rule.training
        if target.startswith("--"):
            new.options[target] = tidy(flag.value)
        elif target:
            new.settings += [target, tidy(flag.value)]
        note = rule.note
        if evaluates and rule.evaluation_note is not None:
            note = rule.evaluation_note
        if note:
            new.note(flag, note)
    _choose_processes(new, old)
    if script == "main":
        if "root" not in flags:
            new.note("DATA.ROOT of configs/default_*.py", "now --root FOLDER or FFREID_DATA")
        _choose_recipe(new, dataset, flags.get("cfg"), "1" if evaluates else old.processes)
    else:
        _adjust_ffb6d(new, old, dataset, flags)
    if script in VIEWERS:
        new.options["--pictures"] = "20"
        new.note(plain(old.script), VIEWERS[script])
        if script != "demo":
            new.options["--test-gt"] = ""
            new.settings += ["TEST.LIMIT", "20"]
    elif evaluates and not {"--checkpoint", "--test-gt"} & set(new.options):
        new.note("checkpoint", "not given; best.pth of the run, else last.pth, is evaluated")
    return [*old.before, *new.words()], new.notes


def _choose_processes(new: New, old: Command) -> None:
    """Set how processes are launched, and the devices: one process uses one."""
    count, train = old.processes, new.action == "train"
    if train and ("max_restarts" in old.launcher or not old.has_known_size):
        flags = [(name.replace("_", "-"), flag.value) for name, flag in old.launcher.items()]
        words = [f"--{name}={value}" if value else f"--{name}" for name, value in flags]
        new.program = " ".join(["torchrun", *words, "-m ffreid"])
        new.note("the launcher", "now torchrun, whose flags have dashes")
    else:
        for name, flag in old.launcher.items():
            if name != "nproc_per_node" or count == "1":
                new.note(flag, "not needed")
            elif train:
                new.options["--gpus"] = tidy(flag.value)
                new.note(flag, f"now --gpus {count}")
            else:
                share = f"torchrun --nproc-per-node {count} -m ffreid eval …"
                new.note(flag, f"one process gives the same numbers; {share} shares the work")
    devices = plain(new.options.get("--gpu", ""))
    alone = not train or (count == "1" and old.has_known_size)
    if alone and "," in devices and not varies(devices):
        first = new.options["--gpu"] = devices.partition(",")[0].strip()
        new.note(f"--gpu {devices}", f"one process uses one device, the first: --gpu {first}")


def _adjust_ffb6d(new: New, old: Command, dataset: str, flags: Mapping[str, Flag]) -> None:
    """Name the object and the root, choose precision and batch."""
    if dataset == "ycb" and new.options.pop("--cls", ""):
        new.note(flags["cls"], "removed: YCB-Video has one network for all objects")
    elif dataset != "ycb" and "cls" not in flags:
        new.options["--cls"] = "ape"
        new.note("--cls ape", "the default of the original")
    new.options["--root"] = "datasets"
    new.note("--root datasets", "FFB6D's data folder, seen from its folder ffb6d/; or use your own")
    if "--test-gt" in new.options and new.options.pop("--checkpoint", ""):
        new.note(flags["checkpoint"], "removed: ground-truth labels need no network")
    if new.action == "eval":
        return
    level = new.options.pop("--amp", None)
    if level is not None and varies(level):
        new.options["--opt_level"] = level
    elif level is not None and level != "O0":
        new.options["--amp"] = ""
    count = old.processes
    if not old.has_known_size:
        new.note("TRAIN.BATCH", f"{BATCH} per step; the original had {SHARE} per process")
    elif varies(count) or int(count) * SHARE != BATCH:
        size = f"$(({SHARE} * {count}))" if varies(count) else str(SHARE * int(count))
        new.settings += ["TRAIN.BATCH", size]
        default = f"default {BATCH} as with eight; TRAIN.ACCUMULATE 8 saves memory"
        new.note(f"TRAIN.BATCH {size}", f"frames per step, {SHARE} per old process; {default}")


def _choose_recipe(new: New, dataset: str, flag: Flag | None, count: str) -> None:
    """Add ``--cfg`` and the number of batch-norm groups unless `dataset` implies them.

    Args:
        new: the command.
        dataset: its dataset, or a variable.
        flag: ``--cfg``.
        count: number of processes that trained, each with a batch norm of its own.
    """
    many = ["TRAIN.BN_GROUPS", count] if count.isdecimal() and count != "1" else []
    ours = [name for name, file in recipes().items() if file.parent.name == "reid"]
    if not varies(dataset) and dataset not in ours:
        raise UserError(
            f"main.py of Simple-CCReID has no dataset {dataset!r}", f"use one of: {', '.join(ours)}"
        )
    file = Path(plain(flag.value)) if flag is not None else None
    try:
        if varies(dataset) or varies(str(file)):
            raise UserError("a variable may name any recipe", "")
        wanted = compose(dataset, file=file, pairs=many)
    except UserError as error:
        if flag is None and not varies(dataset):
            raise
        if flag is not None:
            new.options["--cfg"] = tidy(flag.value)
            new.note(flag, f"kept: {error.message}")
        if many:
            new.settings += many
            new.note(" ".join(many), "one batch-norm group per process of the original")
        return
    free = varies(count) or new.action == "eval"
    ignored = {"RECIPE", "TRAIN.BN_GROUPS"} if free else {"RECIPE"}
    for kept, pairs in ((None, []), (None, many), (file, []), (file, many)):
        other = compose(dataset, file=kept, pairs=pairs)
        if {key for key, *_ in differing(other, wanted.dump())} <= ignored:
            break
    if kept is not None and flag is not None:
        new.options["--cfg"] = tidy(flag.value)
    elif flag is not None:
        new.note(flag, f"removed: --dataset {dataset} implies the same recipe")
    groups, batch = wanted.TRAIN.BN_GROUPS, wanted.DATA.TRAIN_BATCH
    pairs = ["TRAIN.BN_GROUPS", count] if varies(count) else pairs
    new.settings += pairs
    if pairs:
        new.note(" ".join(pairs), f"one batch-norm group of {batch} samples per old process")
    elif count == "1" and new.action == "train":
        other = f"TRAIN.BN_GROUPS 1 DATA.TRAIN_BATCH {groups * batch} normalizes all together"
        if groups == 1:
            other = "the authors' two GPUs are TRAIN.BN_GROUPS 2 and half a doubled TRAIN_BATCH"
        new.note("one process", f"{groups} batch-norm group(s) of {batch} samples a step; {other}")
