"""Translate commands of FFB6D and Simple-CCReID to ffreid's; no torch is imported."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ffreid.config import differing
from ffreid.errors import UserError, flat
from ffreid.files import regular
from ffreid.migrate.rules import SCRIPTS, VIEWERS
from ffreid.migrate.shell import (
    CONTINUED,
    Command,
    plain,
    read_commands,
    read_flags,
    script_name,
    tidy,
    varies,
)
from ffreid.recipes import compose, recipes

ORDER = "--dataset --cls --cfg --root --output --tag --resume --checkpoint --test-gt --gpus --gpu"
ORDER += " --opt_level --amp --deterministic --pictures"
SHARE, BATCH = 3, 24
"""Frames that each process of FFB6D trained on, and the default of TRAIN.BATCH."""
GROUPS = "TRAIN.BN_GROUPS"
SCRIPT_NAMES = ", ".join(f"{name}.py" for name in SCRIPTS)
MENTION = re.compile(rf"^[^#]*(\b({'|'.join(SCRIPTS)})\.py\b|-m \S*\b({'|'.join(SCRIPTS)})\b)")


class Migration(NamedTuple):
    """The new command, and a note for each flag that changed."""

    command: str
    notes: tuple[str, ...]


def migrate(command: str) -> Migration:
    """Translate a command line of FFB6D or Simple-CCReID, as typed in a shell.

    All but the parts in which Python runs a script is kept.
    """
    line = CONTINUED.sub(" ", command).strip()
    if not (commands := list(read_commands(line, SCRIPTS))):
        raise UserError(
            f"not a command of FFB6D or Simple-CCReID: {line}" if line else "no command",
            f"use a command in which python runs {SCRIPT_NAMES}, in single quotes",
        )
    notes: dict[str, None] = {}
    for old in reversed(commands):
        words, more = _translate(old)
        notes = dict.fromkeys(more) | notes
        line = line[: old.start] + " ".join(words) + line[old.end :]
    return Migration(line, tuple(notes))


def migrate_script(text: str) -> str:
    """Translate the old commands of a shell script, with notes as comments below each."""
    lines, count = [], 0
    for line in CONTINUED.sub(" ", text).splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        try:
            migration = migrate(line) if MENTION.match(line) else Migration(line.lstrip(), ())
            count += line.lstrip() != migration.command
        except UserError as error:
            note = f"not translated: {error.message} ({error.hint})"
            migration = Migration(line.lstrip(), (note,))
        lines += [indent + part for part in _lines(migration)]
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
    # A command may be too long for the name of a file.
    parts = os.fsencode(names[0]).split(b"/")
    is_name = len(names) == 1 and len(names[0]) < 1000 and max(map(len, parts)) < 256
    file = Path(names[0]) if is_name else Path()
    if file.suffix == ".sh" or (file.suffix != ".py" and file.is_file()):
        try:
            text = migrate_script(regular(file).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"cannot read {file}: {flat(str(error))}", "use an existing script"
            ) from error
    else:
        quoted = [shlex.quote(w) if re.search(r"[\s'\"\\;|&]", w) else w for w in arguments]
        command = CONTINUED.sub(" ", arguments[0] if len(arguments) == 1 else " ".join(quoted))
        several = "\n" in command.strip()
        text = migrate_script(command) if several else "\n".join(_lines(migrate(command)))
    sys.stdout.write(text + "\n")


def _lines(migration: Migration) -> list[str]:
    return [migration.command, *(f"# {note}" for note in migration.notes)]


def _translate(old: Command) -> tuple[list[str], list[str]]:
    script = script_name(old.script)
    if script == "gen_obj_info":
        raise UserError(
            f"{plain(old.script)} has no equivalent command",
            "keypoints of YCB-Video and LineMOD are included; for other objects use "
            "ffreid.pose.keypoints.farthest_points in Python",
        )
    dataset, rules = SCRIPTS[script]
    flags, variables, notes = read_flags(
        old.arguments, {name: rule.has_value for name, rule in rules.items()}
    )
    is_eval = script in VIEWERS or "eval_net" in flags or "eval" in flags
    if "dataset" in flags:
        dataset = plain(flags["dataset"])
    elif "dataset" in rules:
        notes.append(f"--dataset {dataset}: the original's default")
    if "weight_decay" in flags and plain(flags["weight_decay"]) in ("0", "0.0"):
        del flags["weight_decay"]
    new = _New(old, not is_eval, dataset, flags, variables, notes)
    new.options["--dataset"] = tidy(dataset)
    for name, value in flags.items():
        rule = rules[name]
        target = rule.evaluation if is_eval else rule.training
        if target.startswith("--"):
            new.options[target] = tidy(value)
        elif target:
            new.settings += [target, tidy(value)]
        is_other = is_eval and rule.evaluation_note is not None
        if note := rule.evaluation_note if is_other else rule.note:
            new.note_flag(name, note)
    program = new.choose_processes()
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
    return [program, "eval" if is_eval else "train", *words, *new.settings], new.notes


@dataclass
class _New:
    """A new command while it is put together."""

    old: Command
    trains: bool
    dataset: str
    flags: dict[str, str]
    settings: list[str]
    notes: list[str]
    options: dict[str, str] = field(default_factory=dict)

    def note(self, subject: str, text: str) -> None:
        self.notes.append(f"{subject}: {text}")

    def note_flag(self, name: str, text: str) -> None:
        self.note(f"--{name} {self.flags[name]}".rstrip(), text)

    def choose_processes(self) -> str:
        """Set the devices and return the program: one process uses one device."""
        launcher, count, program = self.old.launcher, self.old.processes, "ffreid"
        if self.trains and ("max_restarts" in launcher or not self.old.has_known_size):
            flags = [(name.replace("_", "-"), value) for name, value in launcher.items()]
            words = [f"--{name}={value}" if value else f"--{name}" for name, value in flags]
            program = " ".join(["torchrun", *words, "-m ffreid"])
            self.note("launcher", "now torchrun, whose flags use dashes")
        else:
            for name, value in launcher.items():
                text = "not needed"
                if name == "nproc_per_node" and count != "1" and self.trains:
                    self.options["--gpus"] = tidy(value)
                    text = f"now --gpus {count}"
                elif name == "nproc_per_node" and count != "1":
                    share = f"torchrun --nproc-per-node {count} -m ffreid eval …"
                    text = f"one process gives the same results; {share} uses all"
                self.note(f"--{name} {value}".rstrip(), text)
        devices = plain(self.options.get("--gpu", ""))
        is_alone = not self.trains or (count == "1" and self.old.has_known_size)
        if is_alone and "," in devices and not varies(devices):
            first = self.options["--gpu"] = devices.partition(",")[0].strip()
            self.note(f"--gpu {devices}", f"one process uses one device, the first: --gpu {first}")
        return program

    def adjust_ffb6d(self) -> None:
        """Name the object and the root, choose precision and batch."""
        options = self.options
        if self.dataset == "ycb" and options.pop("--cls", ""):
            self.note_flag("cls", "removed: YCB-Video has one network for all objects")
        elif self.dataset != "ycb" and "cls" not in self.flags:
            options["--cls"] = "ape"
            self.note("--cls ape", "the original's default")
        options["--root"] = "datasets"
        self.note("--root datasets", "FFB6D's, relative to ffb6d/; change it if yours is elsewhere")
        if "--test-gt" in options and options.pop("--checkpoint", ""):
            self.note_flag("checkpoint", "removed: ground-truth labels need no network")
        if not self.trains:
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
            text = f"frames per step, {SHARE} per process of the original; the default {BATCH} is "
            self.note(f"TRAIN.BATCH {size}", f"{text}for eight; TRAIN.ACCUMULATE 8 saves memory")

    def choose_recipe(self) -> None:
        """Add ``--cfg`` and the number of batch-norm groups unless the dataset implies them."""
        dataset, name, count = self.dataset, self.flags.get("cfg"), self.old.processes
        known = [name for name, file in recipes().items() if file.parent.name == "reid"]
        if not varies(dataset) and dataset not in known:
            raise UserError(
                f"main.py of Simple-CCReID has no dataset {dataset!r}",
                f"use one of: {', '.join(known)}",
            )
        file = Path(plain(name)) if name else None
        recipe, note = None, "kept: the variable can be any recipe"
        if not varies(dataset) and not varies(str(file)):
            try:
                recipe, implied = compose(dataset, file=file), compose(dataset)
                note = ""
                ignored = {"RECIPE"} if self.trains and count == "1" else {"RECIPE", GROUPS}
                if {key for key, *_ in differing(recipe, implied.dump())} <= ignored:
                    recipe, note = implied, f"removed: --dataset {dataset} implies the same recipe"
            except UserError as error:
                note = f"kept: {error.message}"
        if name and not note.startswith("removed"):
            self.options["--cfg"] = tidy(name)
        if name and note:
            self.note_flag("cfg", note)
        if not self.trains:
            return
        groups, batch = (recipe.TRAIN.BN_GROUPS, recipe.DATA.TRAIN_BATCH) if recipe else (0, 0)
        if count != "1" and count != str(groups) and self.old.has_known_size:
            self.settings += [GROUPS, count]  # each process of the original had its batch norm
            size = f" with {batch} samples each" if recipe else ""
            self.note(f"{GROUPS} {count}", f"one batch-norm group per process{size}")
        elif count == "1" and recipe:
            other = f"{GROUPS} 1 DATA.TRAIN_BATCH {groups * batch} normalizes all together"
            if groups == 1:
                other = f"{GROUPS} 2 is equivalent to the authors' two GPUs"
            text = f"{groups} batch-norm group(s) of {batch} samples per step; {other}"
            self.note("one process", text)
