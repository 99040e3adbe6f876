"""The trainer: any task, signals, resuming bitwise, skipped steps, selection of the best."""

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.manager import CheckpointManager
from ffreid.engine.distributed.failures import Disagreement
from ffreid.engine.distributed.group import World
from ffreid.engine.ema import Averages
from ffreid.engine.loading import NoBatch, evaluation_stream, stream
from ffreid.engine.signals import Stopped
from ffreid.engine.task import Progress
from ffreid.engine.trainer import Trainer
from ffreid.errors import UserError
from tests.engine import example_task
from tests.engine.checkpoints.test_manager import raising
from tests.engine.processes import SIZE, in_processes
from tests.states import differences, without_clocks


def trainer(folder: Path, *pairs: str, resume: bool = False) -> Trainer:
    state = io.load(folder / "last.pth") if resume else None
    return example_task.trainer(example_task.defaults(folder, *pairs), folder, state)


def trained(folder: Path, *pairs: str, resume: bool = False) -> dict[str, Any]:
    """Train to the end; return the last checkpoint."""
    trainer(folder, *pairs, resume=resume).fit()
    return io.load(folder / "last.pth")


def rows(folder: Path, key: str = "step") -> list[dict[str, Any]]:
    """Rows of metrics.jsonl that have a key."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if key in row]


def curve(folder: Path, key: str = "train/loss") -> list[float]:
    return [row[key] for row in rows(folder, key)]


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert differences(without_clocks(one), without_clocks(other)) == []


def stop(
    patch: pytest.MonkeyPatch,
    run: Trainer,
    target: Any,
    name: str,
    when: Callable[..., bool],
    number: signal.Signals = signal.SIGTERM,
) -> None:
    """Send a signal in the first call of a function for which `when` holds, which stops the run."""
    method, sent = getattr(target, name), list[bool]()

    def call(*args: Any, **kwargs: Any) -> Any:
        if not sent and when(*args):
            sent.append(True)
            os.kill(os.getpid(), number)
        return method(*args, **kwargs)

    with patch.context() as context, pytest.raises(Stopped) as caught:
        context.setattr(target, name, call)
        run.fit()
    assert caught.value.signal == number


def test_a_new_task_trains_through_the_engine(tmp_path: Path) -> None:
    trained(tmp_path, "TRAIN.STEPS", "40", "TRAIN.EMA", "0.5", "TRAIN.KEEP_EVERY", "4")
    losses = curve(tmp_path)
    assert len(losses) == 40
    assert losses[-1] < 0.7 * losses[0]
    names = {path.name for path in tmp_path.glob("*.pth")}
    assert {"last.pth", "best.pth", "best-ema.pth", "epoch-0012.pth"} <= names
    assert len(names) == 6  # the three newest epochs


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "DATA.WORKERS 2 MODEL.DROPOUT 0.5",
        "TRAIN.ACCUMULATE 3 TRAIN.EMA 0.9 TRAIN.CLIP_NORM 0.5",
        "TRAIN.PRECISION fp16 TRAIN.EMA 0.9",
    ],
)
def test_a_run_resumed_after_every_step_ends_bitwise_the_same(
    tmp_path: Path, settings: str
) -> None:
    pairs = ["TRAIN.KEEP_EVERY", "1", *settings.split()]
    full, cut = tmp_path / "full", tmp_path / "cut"
    expected = trained(full, *pairs)
    trainer(cut, *pairs).fit(1)
    for step in range(1, 6):
        run = trainer(cut, *pairs, resume=True)
        assert run.start == step
        run.fit(step + 1)
    assert_same(io.load(cut / "last.pth"), expected)
    assert curve(cut) == curve(full)
    assert (cut / "log_train.log").read_text() == (full / "log_train.log").read_text() != ""
    best = [io.load(folder / "best.pth") for folder in (cut, full)]
    assert differences(best[0]["parts"], best[1]["parts"]) == []


@pytest.mark.parametrize("single", ["true", "false"])
@pytest.mark.parametrize("parts", ["2", "3"])
def test_micro_batches_train_as_the_complete_batch(tmp_path: Path, parts: str, single: str) -> None:
    """Of two, the first holds two batch-norm groups and the second one."""
    pairs = ("TRAIN.PRECISION", "fp64", "MODEL.SINGLE", single)
    full, cut = tmp_path / "full", tmp_path / "cut"
    expected = trained(full, *pairs)
    actual = trained(cut, *pairs, "TRAIN.ACCUMULATE", parts)
    for part, tensors in expected["parts"].items():
        for key, value in tensors.items():
            # Adam divides gradients near zero, as of a bias before batch norm, by themselves.
            torch.testing.assert_close(actual["parts"][part][key], value, rtol=1e-6, atol=1e-7)
    assert curve(cut) == pytest.approx(curve(full), rel=1e-10)
    trained(tmp_path / "ungrouped", *pairs, "TRAIN.GROUPS", "1")
    assert curve(tmp_path / "ungrouped")[0] != pytest.approx(curve(full)[0], rel=1e-3)


def assert_resumes(folder: Path, *pairs: str) -> None:
    """Compare the resumed run's end with that of an uninterrupted run."""
    expected = trained(folder.parent / "full", *pairs)
    assert_same(trained(folder, *pairs, resume=True), expected)


@pytest.mark.parametrize("done", [0, 3])
def test_a_stop_while_no_batch_comes_saves_the_steps_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    def starve(*args: Any, **options: Any) -> Iterator[Any]:
        yield from islice(stream(*args, **options), done)
        raise NoBatch

    expected = trained(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Stopped, match=f"at step {done} of 6"):
        patch.setattr("ffreid.engine.trainer.stream", starve)
        trainer(tmp_path / "cut").fit()
    assert (tmp_path / "cut/last.pth").is_file() == (done > 0)
    assert_same(trained(tmp_path / "cut", resume=done > 0), expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_stops_after_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    folder = tmp_path / "cut"
    stop(monkeypatch, trainer(folder), Trainer, "_step", lambda _, step, *__: step == 3, number)
    state = io.load(folder / "last.pth")
    assert (state["step"], state["evaluated"]) == (4, False)  # step 4's evaluation is pending
    assert json.loads((folder / "state.json").read_text())["state"] == "stopped"
    assert_resumes(folder)


def test_a_signal_stops_an_evaluation_of_averages_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, calls = ("TRAIN.EMA", "0.9"), count(1)
    run = trainer(tmp_path / "cut", *pairs)
    stop(monkeypatch, run, example_task.VALIDATION, "validate", lambda *_: next(calls) == 2)
    assert next(calls) == 3
    assert_resumes(tmp_path / "cut", *pairs)


def test_a_signal_while_the_best_state_is_saved_loses_no_best_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path)
    stop(monkeypatch, run, CheckpointManager, "save", lambda _, name, __: name == "best.pth")
    assert not (tmp_path / "best.pth").exists()
    trainer(tmp_path, resume=True).fit(5)
    assert io.load(tmp_path / "best.pth")["step"] == 4


@pytest.mark.parametrize("exchange", [1, 2])
def test_a_signal_does_not_interrupt_the_exchange_of_averages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: int
) -> None:
    pairs, copies = ("TRAIN.EMA", "0.5"), list[bool]()

    def is_exchange(averages: Averages, source: Any, target: Any) -> bool:
        copies.append(target is not averages.averages)  # into the networks
        return sum(copies) == exchange

    stop(monkeypatch, trainer(tmp_path / "cut", *pairs), Averages, "_copy", is_exchange)
    assert_resumes(tmp_path / "cut", *pairs)


def scale_gradient(run: Trainer, factor: float, part: str = "head") -> None:
    weight: Any = run.train_step.task.get_parameter(f"{part}.weight")
    weight.register_hook(lambda gradient: gradient * factor)


@pytest.mark.parametrize("pairs", ["MODEL.SINGLE true", "TRAIN.ACCUMULATE 3", "TRAIN.EMA 0.9"])
@pytest.mark.parametrize("done", [0, 2])
def test_a_skipped_step_leaves_weights_statistics_and_optimisers(
    tmp_path: Path, pairs: str, done: int
) -> None:
    """Including the head, which is stepped before the net has a gradient that is not finite."""
    run = trainer(tmp_path, *pairs.split())
    for step in range(done):
        run.train_step.step(next(run._batches(step, step + 1)), Progress(step, 6, 0))
    before = deepcopy(run.train_step.state())
    scale_gradient(run, math.nan, "net.4")
    result = run.train_step.step(next(run._batches(done, done + 1)), Progress(done, 6, 0))
    assert result.skipped == "the gradient norm of net is nan"
    assert ("head" in result.norms) is ("SINGLE" not in pairs)
    after = run.train_step.state()
    for optimisers in (before["optimisers"], after["optimisers"]):
        for optimiser in optimisers.values():
            del optimiser["param_groups"]  # with the learning rate, which every step sets
    assert differences(before, after) == []


def test_a_skipped_step_is_logged_with_its_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, "DATA.BAD", "[1/3]").fit(3)
    (row,) = rows(tmp_path, "skipped")
    assert (row["step"], row["train/left"], "1/3" in row["samples"]) == (3, None, True)
    message = "step 3 skipped, weights unchanged: the loss is nan"
    assert message in capsys.readouterr().err
    state = io.load(tmp_path / "last.pth")
    values = [value for tensors in state["parts"].values() for value in tensors.values()]
    assert all(bool(value.isfinite().all()) for value in values)
    assert state["skipped"] == 1


def test_all_samples_are_listed_if_only_the_gradient_is_not_finite(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    scale_gradient(run, math.inf)
    run.fit(1)
    (row,) = rows(tmp_path, "skipped")
    assert row["skipped"] == "the gradient norm of head is inf"
    assert row["samples"] == [f"0/{index}" for index in range(12)]


def test_too_many_skipped_steps_end_the_run(tmp_path: Path) -> None:
    bad = [f"{epoch}/{position}" for epoch in (1, 2) for position in range(24)]
    pairs = ["DATA.BAD", str(bad), "TRAIN.MAX_SKIPPED", "3", "TRAIN.SAVE_EVERY", "2"]
    for resume in (False, True):  # the resumed run skips on
        with pytest.raises(UserError, match=r"\d steps in a row were skipped") as caught:
            trained(tmp_path, *pairs, "TEST.EVERY", "100", resume=resume)
        assert f"the last checkpoint is {tmp_path / 'last.pth'} (step 4)" in caught.value.hint
        assert json.loads((tmp_path / "state.json").read_text())["state"] == "failed"


def test_a_gradient_that_no_loss_scale_makes_finite_ends_the_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, "TRAIN.PRECISION", "fp16", "TRAIN.STEPS", "40", "TEST.EVERY", "100")
    scale_gradient(run, math.nan)
    with pytest.raises(UserError, match="the gradient norm of head is nan"):
        run.fit()


def test_overfitting_trains_on_the_same_samples_in_every_epoch(tmp_path: Path) -> None:
    steps = list(trainer(tmp_path, "TRAIN.OVERFIT", "5")._batches(0, 4))
    names = {name for step in steps for batch in step for name in batch.names}
    assert names == {f"0/{index}" for index in range(5)}


def test_gradients_are_clipped_and_their_norms_logged(tmp_path: Path) -> None:
    free, clipped = tmp_path / "free", tmp_path / "clipped"
    trained(free, "MODEL.SINGLE", "true")
    trained(clipped, "MODEL.SINGLE", "true", "TRAIN.CLIP_NORM", "0.01")
    assert curve(free, "norm/net")[0] == curve(clipped, "norm/net")[0] > 0.01
    assert curve(free)[1] != curve(clipped)[1]


def test_averaged_weights_are_evaluated_and_saved_separately(tmp_path: Path) -> None:
    trained(tmp_path, "TRAIN.EMA", "0.8", "TEST.EVERY", "2")
    usual, averaged = (curve(tmp_path, f"validation{ema}/loss") for ema in ("", "-ema"))
    assert len(usual) == len(averaged) == 3
    assert all(a != b for a, b in zip(usual, averaged, strict=True))
    best, ema = (io.load(tmp_path / f"best{name}.pth") for name in ("", "-ema"))
    assert differences(best["parts"], ema["parts"])
    assert "optimisers" not in best
    assert ema["bests"]["best-ema"]["value"] == min(averaged)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert trainer(tmp_path, "TRAIN.TENSORBOARD", "true").dry_run()["samples"] == 12
    assert list(tmp_path.iterdir()) == []


def test_the_selected_metric_and_direction_choose_the_best_state(tmp_path: Path) -> None:
    trained(tmp_path, "TRAIN.SELECT", "largest max", "TEST.EVERY", "1")
    values = curve(tmp_path, "validation/largest")
    best = io.load(tmp_path / "best.pth")
    assert best["step"] == 1 + values.index(max(values))
    assert best["bests"]["best"] == {"name": "largest", "value": max(values), "step": best["step"]}


def test_an_unknown_metric_to_select_by_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TRAIN\.SELECT: unknown metric 'speed'") as caught:
        trained(tmp_path, "TRAIN.SELECT", "speed max")
    assert caught.value.hint == "choose one of: loss, largest, fit, left"
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_that_fails_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = raising(RuntimeError("out of memory"))
    monkeypatch.setattr(example_task.VALIDATION, "validate", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        trained(tmp_path)
    state = io.load(tmp_path / "last.pth")
    assert (state["step"], state["evaluated"]) == (4, False)


def test_an_interrupted_evaluation_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Trainer._save

    def killed(self: Trainer, name: str, done: int, **how: Any) -> None:
        if name == "best.pth":  # its numbers are logged by then
            raise RuntimeError("killed")
        save(self, name, done, **how)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(Trainer, "_save", killed)
        trained(tmp_path)
    assert [row["step"] for row in rows(tmp_path, "validation/loss")] == [4]
    trained(tmp_path, resume=True)
    assert [row["step"] for row in rows(tmp_path, "validation/loss")] == [4, 6]


def test_a_checkpoint_of_an_earlier_version_keeps_its_best_value(tmp_path: Path) -> None:
    trainer(tmp_path).fit(4)
    state = io.load(tmp_path / "last.pth")
    for name in ("bests", "evaluated", "skipped", "epoch_sums"):
        del state[name]
    run = example_task.trainer(example_task.defaults(tmp_path), tmp_path, state)
    assert run.best["best"].value == state["best"]


def test_a_best_value_without_its_checkpoint_is_dropped(tmp_path: Path) -> None:
    trainer(tmp_path, "TRAIN.EMA", "0.5").fit(4)
    (tmp_path / "best-ema.pth").unlink()
    assert [*trainer(tmp_path, "TRAIN.EMA", "0.5", resume=True).best] == ["best"]


DIFFERENCES = {
    "TRAIN.STEPS 8": "the number of steps is",
    "resume": "the step resumed from is",
    "evaluate": "the number of samples to evaluate is",
}


def refusals(rank: int, folder: Path) -> dict[str, str]:
    """Why processes that differ are refused."""
    found = {}
    for difference in DIFFERENCES:
        pairs = difference.split() if "TRAIN" in difference and rank else []
        state = io.load(folder / "last.pth") if difference == "resume" and rank else None
        cfg = example_task.defaults(folder, *pairs)
        world = World(rank, SIZE, torch.device("cpu"))
        with pytest.raises(Disagreement) as caught:
            if difference == "evaluate":
                options: Any = {"batch": 1, "workers": 0, "rank": rank, "size": SIZE}
                evaluation_stream(range(5 + rank), list, **options)
            example_task.trainer(cfg, folder, state, world)
        found[difference] = caught.value.message
    return found


def test_processes_that_would_train_differently_are_refused(tmp_path: Path) -> None:
    trainer(tmp_path).fit(1)
    for messages in in_processes(partial(refusals, folder=tmp_path), tmp_path):
        for difference, start in DIFFERENCES.items():
            assert messages[difference].startswith(start)
