"""Translate commands of FFB6D and Simple-CCReID to ffreid's; no torch is imported."""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ffreid.config import differing
from ffreid.errors import UserError
from ffreid.migrate import shell
from ffreid.migrate.rules import SCRIPTS, VIEWERS
from ffreid.migrate.shell import CONTINUED, Command, Flag, plain, tidy, varies
from ffreid.recipes import compose, recipes

ORDER = "--dataset --cls --cfg --root --output --tag --resume --checkpoint --test-gt --gpus --gpu"
ORDER += " --opt_level --amp --deterministic --pictures"
SHARE, BATCH = 3, 24
"""Frames that each process of FFB6D trained on, and the default of TRAIN.BATCH."""
SCRIPT_NAMES = ", ".join(f"{name}.py" for name in SCRIPTS)


class Migration(NamedTuple):
    """The new command, "" where there is none, and a note for each flag that changed."""

    command: str
    notes: tuple[str, ...] = ()


def migrate(command: str) -> Migration:
    """Translate a command line of FFB6D or Simple-CCReID, as typed in a shell.

    Words before the interpreter, redirections, variables and comments are kept.
    """
    line = CONTINUED.sub(" ", command).strip()
    if (migration := _migrate_line(line)) is None:
        raise UserError(
            f"not a command of FFB6D or Simple-CCReID: {line}" if line else "no command",
            f"use a command that runs {SCRIPT_NAMES}, in single quotes",
        )
    return migration


def migrate_script(text: str) -> str:
    """Translate the old commands of a shell script, with notes as comments below each."""
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
            "no command of FFB6D or Simple-CCReID in the script", f"expected {SCRIPT_NAMES}"
        )
    return "\n".join(lines)


def print_migration(arguments: Sequence[str]) -> None:
    """Print the new command with notes as comments, so that the output can be run.

    The arguments are a command as one argument (quoted) or several, or a shell script's file.
    """
    after_shell = len(arguments) > 1 and arguments[0] in ("bash", "sh", "source", ".")
    names = arguments[1:] if after_shell else arguments
    file = Path(names[0]) if len(names) == 1 and len(names[0]) < 1000 else Path()
    if file.suffix == ".sh" and not file.is_file():
        raise UserError(f"no file {file}", "use an existing script, or a command of it")
    if file.suffix != ".py" and file.is_file():
        try:
            text = migrate_script(file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {file}: {error}", "use a shell script") from error
    else:
        quoted = [shlex.quote(w) if re.search(r"[\s'\"\\;|&]", w) else w for w in arguments]
        command = arguments[0] if len(arguments) == 1 else " ".join(quoted)
        command = CONTINUED.sub(" ", command).strip()
        several = "\n" in command
        text = migrate_script(command) if several else "\n".join(_lines(migrate(command), command))
    sys.stdout.write(text + "\n")


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
    is_known = False
    for part, tail in shell.commands(line):
        if (old := shell.read(part, SCRIPTS)) is None:
            words += [*part, *tail]
            continue
        is_known = True
        translated, more = _translate(old)
        notes |= dict.fromkeys(more)
        words += [*translated, *tail] if translated else []
    return Migration(" ".join(words), tuple(notes)) if is_known else None


def _translate(old: Command) -> tuple[list[str], list[str]]:
    script = shell.script_name(old.script)
    if script == "gen_obj_info":
        return [], [
            f"{plain(old.script)}: keypoints of YCB-Video and LineMOD are included; for other "
            "objects use ffreid.pose.keypoints.farthest_points in Python"
        ]
    dataset, rules = SCRIPTS[script]
    flags, variables, notes = shell.read_flags(
        old.arguments, {name: rule.has_value for name, rule in rules.items()}
    )
    is_eval = script in VIEWERS or "eval_net" in flags or "eval" in flags
    if "dataset" in flags:
        dataset = plain(flags["dataset"].value)
    elif "dataset" in rules:
        notes.append(f"--dataset {dataset}: the original's default")
    if "weight_decay" in flags and plain(flags["weight_decay"].value) in ("0", "0.0"):
        del flags["weight_decay"]
    new = _New(old, "eval" if is_eval else "train", dataset, flags, variables, notes)
    new.options["--dataset"] = tidy(dataset)
    for name, flag in flags.items():
        rule = rules[name]
        target = rule.evaluation if is_eval else rule.training
        if target.startswith("--"):
            new.options[target] = tidy(flag.value)
        elif target:
            new.settings += [target, tidy(flag.value)]
        is_other = is_eval and rule.evaluation_note is not None
        if note := rule.evaluation_note if is_other else rule.note:
            new.note(flag.spelled, note)
    new.choose_processes()
    if script != "main":
        new.adjust_ffb6d()
    else:
        if "root" not in flags:
            new.note("DATA.ROOT of configs/default_*.py", "now --root FOLDER or FFREID_DATA")
        new.choose_recipe()
    if script in VIEWERS:
        new.options["--pictures"] = "20"
        new.note(plain(old.script), VIEWERS[script])
        if script != "demo":
            new.options["--test-gt"] = ""
            new.settings += ["TEST.LIMIT", "20"]
    elif is_eval and not {"--checkpoint", "--test-gt"} & new.options.keys():
        new.note("checkpoint", "not set; best.pth of the run, else last.pth, is evaluated")
    options = sorted(new.options.items(), key=lambda option: ORDER.split().index(option[0]))
    words = [word for option in options for word in option if word]
    return [*old.before, new.program, new.action, *words, *new.settings], new.notes


@dataclass
class _New:
    """A new command while it is put together."""

    old: Command
    action: str
    dataset: str
    flags: dict[str, Flag]
    settings: list[str]
    notes: list[str]
    options: dict[str, str] = field(default_factory=dict)
    program: str = "ffreid"

    def note(self, subject: str, text: str) -> None:
        self.notes.append(f"{subject}: {text}")

    def choose_processes(self) -> None:
        """Set how processes are launched, and the devices: one process uses one."""
        launcher, count, is_train = self.old.launcher, self.old.processes, self.action == "train"
        if is_train and ("max_restarts" in launcher or not self.old.has_known_size):
            flags = [(f"--{name.replace('_', '-')}", flag.value) for name, flag in launcher.items()]
            words = [f"{name}={value}" if value else name for name, value in flags]
            self.program = " ".join(["torchrun", *words, "-m ffreid"])
            self.note("launcher", "now torchrun, whose flags use dashes")
        else:
            for name, flag in launcher.items():
                if name != "nproc_per_node" or count == "1":
                    self.note(flag.spelled, "not needed")
                elif is_train:
                    self.options["--gpus"] = tidy(flag.value)
                    self.note(flag.spelled, f"now --gpus {count}")
                else:
                    share = f"torchrun --nproc-per-node {count} -m ffreid eval …"
                    text = f"one process gives the same results; {share} uses all"
                    self.note(flag.spelled, text)
        devices = plain(self.options.get("--gpu", ""))
        is_alone = not is_train or (count == "1" and self.old.has_known_size)
        if is_alone and "," in devices and not varies(devices):
            first = self.options["--gpu"] = devices.partition(",")[0].strip()
            self.note(f"--gpu {devices}", f"one process uses one device, the first: --gpu {first}")

    def adjust_ffb6d(self) -> None:
        """Name the object and the root, choose precision and batch."""
        options = self.options
        if self.dataset == "ycb" and options.pop("--cls", ""):
            text = "removed: YCB-Video has one network for all objects"
            self.note(self.flags["cls"].spelled, text)
        elif self.dataset != "ycb" and "cls" not in self.flags:
            options["--cls"] = "ape"
            self.note("--cls ape", "the original's default")
        options["--root"] = "datasets"
        text = "FFB6D's data folder, relative to ffb6d/; change it if yours is elsewhere"
        self.note("--root datasets", text)
        if "--test-gt" in options and options.pop("--checkpoint", ""):
            text = "removed: ground-truth labels need no network"
            self.note(self.flags["checkpoint"].spelled, text)
        if self.action == "eval":
            return
        level = options.pop("--amp", "O0")
        if level != "O0":
            options["--opt_level" if varies(level) else "--amp"] = level if varies(level) else ""
        count = self.old.processes
        if not self.old.has_known_size:
            self.note("TRAIN.BATCH", f"{BATCH} per step; the original had {SHARE} per process")
        elif varies(count) or int(count) * SHARE != BATCH:
            size = f"$(({SHARE} * {count}))" if varies(count) else str(SHARE * int(count))
            self.settings += ["TRAIN.BATCH", size]
            default = f"the default {BATCH} is for eight; TRAIN.ACCUMULATE 8 saves memory"
            self.note(
                f"TRAIN.BATCH {size}",
                f"frames per step, {SHARE} per process of the original; {default}",
            )

    def choose_recipe(self) -> None:
        """Add ``--cfg`` and the number of batch-norm groups unless the dataset implies them."""
        dataset, flag = self.dataset, self.flags.get("cfg")
        # Each process of the original had a batch norm of its own.
        count = "1" if self.action == "eval" else self.old.processes
        groups = ["TRAIN.BN_GROUPS", count]
        many = groups if count.isdecimal() and count != "1" else []
        known = [name for name, file in recipes().items() if file.parent.name == "reid"]
        if not varies(dataset) and dataset not in known:
            raise UserError(
                f"main.py of Simple-CCReID has no dataset {dataset!r}",
                f"use one of: {', '.join(known)}",
            )
        file = Path(plain(flag.value)) if flag is not None else None
        try:
            if varies(dataset) or varies(str(file)):
                raise UserError("the variable can be any recipe", "")
            expected = compose(dataset, file=file, pairs=many)
        except UserError as error:
            if flag is not None:
                self.options["--cfg"] = tidy(flag.value)
                self.note(flag.spelled, f"kept: {error.message}")
            elif not varies(dataset):
                raise
            self.settings += many
            if many:
                self.note(" ".join(many), "one batch-norm group per process of the original")
            return
        is_free = varies(count) or self.action == "eval"
        ignored = {"RECIPE", "TRAIN.BN_GROUPS"} if is_free else {"RECIPE"}
        for kept, pairs in ((None, []), (None, many), (file, []), (file, many)):
            other = compose(dataset, file=kept, pairs=pairs)
            if {key for key, *_ in differing(other, expected.dump())} <= ignored:
                break
        if flag is not None and kept is not None:
            self.options["--cfg"] = tidy(flag.value)
        elif flag is not None:
            self.note(flag.spelled, f"removed: --dataset {dataset} implies the same recipe")
        pairs = groups if varies(count) else pairs
        self.settings += pairs
        old_groups, batch = expected.TRAIN.BN_GROUPS, expected.DATA.TRAIN_BATCH
        if pairs:
            text = f"one batch-norm group of {batch} samples per process of the original"
            self.note(" ".join(pairs), text)
        elif count == "1" and self.action == "train":
            text = (
                f"TRAIN.BN_GROUPS 1 DATA.TRAIN_BATCH {old_groups * batch} normalizes all together"
            )
            if old_groups == 1:
                text = "TRAIN.BN_GROUPS 2 is equivalent to the authors' two GPUs"
            text = f"{old_groups} batch-norm group(s) of {batch} samples per step; {text}"
            self.note("one process", text)
