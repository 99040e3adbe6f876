"""How processes and devices are named today."""

from ffreid.migrate.old import Flag, Old, Today
from ffreid.migrate.shell import plain, varies

GONE = {
    "master_port": "gone: a free port is found",
    "master_addr": "gone: processes of one machine find each other",
    "node_rank": "gone: there is one machine",
    "nnodes": "gone: one machine is the rule",
    "use_env": "gone: there is no --local_rank any more",
}
"""The launchers' flags that ``--gpus N`` needs no more."""


def needs_torchrun(old: Old) -> bool:
    """Whether ``--gpus N`` cannot start what the launcher did: several machines, restarts."""
    count = old.processes
    named = count.isdecimal() or varies(count)
    return old.machines != "1" or "max_restarts" in old.launcher or not named


def start_training(old: Old, today: Today) -> str:
    """Give how the program starts: ``ffreid``, or torchrun's own line for several machines."""
    count = old.processes
    if needs_torchrun(old):
        words = ["torchrun"]
        for name, flag in old.launcher.items():
            words.append(f"--{name.replace('_', '-')}" + (f"={flag.value}" if flag.value else ""))
        today.note("the launcher", "torchrun is today's; its flags have dashes")
        return " ".join([*words, "-m ffreid"])
    if "nproc_per_node" in old.launcher:
        if count == "1":
            today.note(old.launcher["nproc_per_node"], "one process needs no launcher")
        else:
            today.add("--gpus", old.launcher["nproc_per_node"].value)
            today.note(old.launcher["nproc_per_node"], f"--gpus {count} starts the processes")
    _gone(old, today)
    return "ffreid"


def start_evaluation(old: Old, today: Today) -> str:
    """Give how an evaluation starts: as one process, which finds the same numbers."""
    if "nproc_per_node" in old.launcher:
        text = "one process needs no launcher"
        if (count := old.processes) != "1":
            text = (
                "one process finds the same numbers; to share the work, "
                f"torchrun --nproc-per-node {count} -m ffreid eval …, with all devices in --gpu"
            )
        today.note(old.launcher["nproc_per_node"], text)
    _gone(old, today)
    return "ffreid"


def choose_devices(old: Old, today: Today, flag: Flag | None, *, alone: bool) -> None:
    """Add ``--gpu``; one process alone uses the first device."""
    visible = [word for word in old.before if word.startswith("CUDA_VISIBLE_DEVICES=")]
    if flag is None:
        for word in visible:
            today.note(word, "the old scripts put their --gpu in its place; it counts now")
        return
    for word in visible:
        today.note(word, "--gpu takes its place, as before")
    named = flag.value
    devices = plain(named)
    if alone and "," in devices and not varies(named):
        named = devices.partition(",")[0].strip()
        today.note(flag, f"one process uses one device, the first: --gpu {named}")
    today.add("--gpu", named)


def _gone(old: Old, today: Today) -> None:
    for name, flag in old.launcher.items():
        if name != "nproc_per_node":
            today.note(flag, GONE.get(name, "gone with the launcher"))


def line(old: Old, program: str, today: Today) -> str:
    """Put the command of today together."""
    words = [*old.before, program, *today.words, *today.settings]
    return " ".join(words)
