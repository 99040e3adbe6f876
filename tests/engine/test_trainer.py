"""The loop serves any task, stops when asked, goes on bitwise, and passes over what is broken."""

import json
import math
import os
import signal
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.manager import CheckpointManager
from ffreid.engine.ema import Averages
from ffreid.engine.signals import Stopped
from ffreid.engine.task import Progress
from ffreid.engine.trainer import Trainer
from ffreid.errors import UserError
from tests.engine import example_task
from tests.states import differences, without_clocks


def trained(folder: Path, *pairs: str, **how: Any) -> dict[str, Any]:
    """Train to the end; give the last state."""
    example_task.trainer(example_task.defaults(folder, *pairs), folder).fit(**how)
    return io.load(folder / "last.pth")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def curve(folder: Path) -> list[float]:
    return [row["train/loss"] for row in rows(folder) if "train/loss" in row]


def test_a_third_task_trains_through_the_engine_as_it_is(tmp_path: Path) -> None:
    trained(tmp_path, "TRAIN.STEPS", "40", "TRAIN.EMA", "0.5", "TRAIN.KEEP_EVERY", "4")
    losses = curve(tmp_path)
    assert len(losses) == 40
    assert losses[-1] < 0.7 * losses[0]
    names = {path.name for path in tmp_path.glob("*.pth")}
    assert {"last.pth", "best.pth", "best-ema.pth", "epoch-0012.pth"} <= names
    assert len(names) == 6  # the three newest epochs kept


VARIED = {
    "plainly": "",
    "with workers and dropout": "DATA.WORKERS 2 MODEL.DROPOUT 0.5",
    "accumulated and averaged": "TRAIN.ACCUMULATE 3 TRAIN.EMA 0.9 TRAIN.CLIP_NORM 0.5",
    "with scaled losses": "TRAIN.PRECISION fp16 TRAIN.EMA 0.9",
}


@pytest.mark.parametrize("how", VARIED)
def test_a_run_resumed_after_every_step_is_bitwise_the_whole_one(tmp_path: Path, how: str) -> None:
    pairs = ["TRAIN.KEEP_EVERY", "1", *VARIED[how].split()]
    whole = trained(tmp_path / "whole", *pairs)
    folder = tmp_path / "cut"
    cfg = example_task.defaults(folder, *pairs)
    example_task.trainer(cfg, folder).fit(1)
    for step in range(1, 6):
        state = io.load(folder / "last.pth")
        assert state["step"] == step
        example_task.trainer(cfg, folder, state).fit(step + 1)
    found = io.load(folder / "last.pth")
    assert differences(without_clocks(found), without_clocks(whole)) == []
    assert curve(folder) == curve(tmp_path / "whole")
    log = (folder / "log_train.log").read_text()
    assert log == (tmp_path / "whole" / "log_train.log").read_text() != ""
    best = [io.load(place / "best.pth") for place in (folder, tmp_path / "whole")]
    assert differences(best[0]["parts"], best[1]["parts"]) == []


@pytest.mark.parametrize("single", ["true", "false"])
@pytest.mark.parametrize("parts", ["2", "3"])
def test_parts_train_as_the_whole_does(tmp_path: Path, parts: str, single: str) -> None:
    """In two parts the first holds two batch-norm groups and the second one."""
    pairs = ("TRAIN.PRECISION", "fp64", "MODEL.SINGLE", single)
    whole = trained(tmp_path / "whole", *pairs)
    cut = trained(tmp_path / "cut", *pairs, "TRAIN.ACCUMULATE", parts)
    for part, tensors in whole["parts"].items():
        for key, value in tensors.items():
            # Adam divides gradients near zero, such as of a bias before batch norm, by themselves.
            torch.testing.assert_close(cut["parts"][part][key], value, rtol=1e-6, atol=1e-7)
    assert curve(tmp_path / "cut") == pytest.approx(curve(tmp_path / "whole"), rel=1e-10)


def test_groups_matter_to_the_comparison_of_parts(tmp_path: Path) -> None:
    trained(tmp_path / "groups")
    trained(tmp_path / "whole", "TRAIN.GROUPS", "1")
    assert curve(tmp_path / "groups")[0] != pytest.approx(curve(tmp_path / "whole")[0], rel=1e-3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_stops_after_the_step_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    whole = trained(tmp_path / "whole")
    folder = tmp_path / "cut"
    cfg = example_task.defaults(folder)
    run, step = example_task.trainer(cfg, folder), Trainer._step

    def signalled(self: Trainer, index: int, *rest: Any) -> Any:
        if index == 3:
            os.kill(os.getpid(), number)
        return step(self, index, *rest)

    monkeypatch.setattr(Trainer, "_step", signalled)
    with pytest.raises(Stopped) as caught:
        run.fit()
    monkeypatch.setattr(Trainer, "_step", step)
    assert caught.value.signal == number
    state = io.load(folder / "last.pth")
    # Step 4 is one that is evaluated: that is still owed.
    assert (state["step"], state["evaluated"]) == (4, False)
    assert json.loads((folder / "state.json").read_text())["state"] == "stopped"
    example_task.trainer(cfg, folder, state).fit()
    found = io.load(folder / "last.pth")
    assert differences(without_clocks(found), without_clocks(whole)) == []


def test_a_signal_in_an_evaluation_stops_at_once_and_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cut"
    cfg = example_task.defaults(folder, "TRAIN.EMA", "0.9")
    validate = example_task.Validation.validate
    asked: list[int] = []

    def signalled(self: Any, *given: Any) -> Any:
        asked.append(len(asked))
        if len(asked) == 2:  # of the averages, whose weights stand in the networks meanwhile
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(self, *given)

    monkeypatch.setattr(example_task.Validation, "validate", signalled)
    with pytest.raises(Stopped):
        example_task.trainer(cfg, folder).fit()
    monkeypatch.setattr(example_task.Validation, "validate", validate)
    assert len(asked) == 2
    state = io.load(folder / "last.pth")
    example_task.trainer(cfg, folder, state).fit()
    whole = trained(tmp_path / "whole", "TRAIN.EMA", "0.9")
    found = io.load(folder / "last.pth")
    assert differences(without_clocks(found), without_clocks(whole)) == []


def test_a_step_that_is_not_finite_is_skipped_and_its_samples_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = example_task.defaults(tmp_path, "DATA.BAD", "[1/3]", "TRAIN.SAVE_EVERY", "1")
    example_task.trainer(cfg, tmp_path).fit(3)
    (skipped,) = [row for row in rows(tmp_path) if row.get("skipped")]
    assert skipped["step"] == 3
    assert "1/3" in skipped["samples"]
    assert skipped["train/left"] is None
    assert (
        "step 3 is skipped, weights stay as they were: the loss is nan" in capsys.readouterr().err
    )
    state = io.load(tmp_path / "last.pth")
    for tensors in state["parts"].values():
        assert all(bool(value.isfinite().all()) for value in tensors.values())
    assert state["skipped"] == 1


@pytest.mark.parametrize("pairs", ["MODEL.SINGLE true", "TRAIN.ACCUMULATE 3", "TRAIN.EMA 0.9"])
@pytest.mark.parametrize("done", [0, 2])
def test_a_skipped_step_leaves_weights_statistics_and_optimisers(
    tmp_path: Path, pairs: str, done: int
) -> None:
    """Also those of the head, which is stepped before the net's gradient is not finite."""
    run = example_task.trainer(example_task.defaults(tmp_path, *pairs.split()), tmp_path)
    for step in range(done):
        run.train_step.step(micro_batches(run, step), Progress(step, 6, 0))
    before = deepcopy(run.train_step.state())
    spoil_gradient(run, math.nan, "net.4")
    result = run.train_step.step(micro_batches(run, done), Progress(done, 6, 0))
    assert result.skipped == "the gradient norm of net is nan"
    assert ("head" in result.norms) is ("SINGLE" not in pairs)
    after = run.train_step.state()
    for groups in (before["optimisers"], after["optimisers"]):
        for optimiser in groups.values():
            del optimiser["param_groups"]  # with the learning rate, which every step sets
    assert differences(before, after) == []


def micro_batches(run: Trainer, step: int) -> list[Any]:
    keys = run._keys(step, step + 1)
    return list(run._batches(keys))


def test_too_many_skipped_steps_end_the_run_and_name_the_last_good_state(tmp_path: Path) -> None:
    bad = [f"{epoch}/{position}" for epoch in (1, 2) for position in range(24)]
    pairs = ["DATA.BAD", str(bad), "TRAIN.MAX_SKIPPED", "3", "TRAIN.SAVE_EVERY", "2"]
    with pytest.raises(UserError, match="3 steps in a row had to be skipped") as caught:
        trained(tmp_path, *pairs, "TEST.EVERY", "100")
    assert f"{tmp_path / 'last.pth'} (step 4)" in caught.value.hint
    state = io.load(tmp_path / "last.pth")
    assert all(bool(v.isfinite().all()) for v in state["parts"]["net"].values())
    assert json.loads((tmp_path / "state.json").read_text())["state"] == "failed"


def test_overfitting_trains_on_the_same_samples_whatever_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    losses = example_task.Fitter.losses

    def watched(self: Any, batch: example_task.Points, at: Any) -> Any:
        seen.append(batch.names)
        return losses(self, batch, at)

    monkeypatch.setattr(example_task.Fitter, "losses", watched)
    trained(tmp_path, "TRAIN.OVERFIT", "5", "TEST.EVERY", "100", "TRAIN.STEPS", "4")
    assert {name for names in seen[:4] for name in names} == {f"0/{i}" for i in range(5)}


def test_gradients_are_clipped_and_their_lengths_logged(tmp_path: Path) -> None:
    trained(tmp_path / "free", "MODEL.SINGLE", "true")
    trained(tmp_path / "clipped", "MODEL.SINGLE", "true", "TRAIN.CLIP_NORM", "0.01")
    free, clipped = (
        [r for r in rows(tmp_path / n) if "norm/net" in r] for n in ("free", "clipped")
    )
    assert free[0]["norm/net"] == clipped[0]["norm/net"] > 0.01
    assert free[1]["train/loss"] != clipped[1]["train/loss"]


def test_averages_are_judged_apart_and_resume_with_the_run(tmp_path: Path) -> None:
    trained(tmp_path, "TRAIN.EMA", "0.8", "TEST.EVERY", "2")
    found = rows(tmp_path)
    plain = [row["validation/loss"] for row in found if "validation/loss" in row]
    averaged = [row["validation-ema/loss"] for row in found if "validation-ema/loss" in row]
    assert len(plain) == len(averaged) == 3
    assert all(a != b for a, b in zip(plain, averaged, strict=True))
    best, ema = (io.load(tmp_path / f"best{n}.pth") for n in ("", "-ema"))
    assert differences(best["parts"], ema["parts"])
    assert "optimisers" not in best
    assert ema["bests"]["best-ema"]["value"] == min(averaged)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    found = example_task.trainer(example_task.defaults(tmp_path), tmp_path).dry_run()
    assert found["samples"] == 12
    assert list(tmp_path.iterdir()) == []


def test_a_named_number_and_direction_select_the_best_state(tmp_path: Path) -> None:
    trained(tmp_path, "TRAIN.SELECT", "largest max", "TEST.EVERY", "1")
    values = [row["validation/largest"] for row in rows(tmp_path) if "validation/largest" in row]
    best = io.load(tmp_path / "best.pth")
    assert best["step"] == 1 + values.index(max(values))
    assert best["bests"]["best"] == {"name": "largest", "value": max(values), "step": best["step"]}


def test_a_number_that_evaluations_do_not_give_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"TRAIN\.SELECT: evaluations give no number 'speed'"
    ) as caught:
        trained(tmp_path, "TRAIN.SELECT", "speed max")
    assert caught.value.hint == "choose one of: loss, largest, fit, left"
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_that_fails_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(example_task.Validation, "validate", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        trained(tmp_path)
    state = io.load(tmp_path / "last.pth")
    assert (state["step"], state["evaluated"]) == (4, False)


def test_an_evaluation_that_was_cut_short_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Trainer._save

    def killed(self: Trainer, name: str, done: int, **how: Any) -> None:
        if name == "best.pth":  # its numbers are logged by then
            raise RuntimeError("killed")
        save(self, name, done, **how)

    cfg = example_task.defaults(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(Trainer, "_save", killed)
        example_task.trainer(cfg, tmp_path).fit()
    assert [row["step"] for row in rows(tmp_path) if "validation/loss" in row] == [4]
    example_task.trainer(cfg, tmp_path, io.load(tmp_path / "last.pth")).fit()
    assert [row["step"] for row in rows(tmp_path) if "validation/loss" in row] == [4, 6]


def signal_in(patch: pytest.MonkeyPatch, kind: type, name: str, when: Callable[..., bool]) -> None:
    """Let SIGTERM come in the first call of a method for which `when` holds."""
    method, asked = getattr(kind, name), list[bool]()

    def signalled(*given: Any, **named: Any) -> Any:
        if not asked and when(*given):
            asked.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
        return method(*given, **named)

    patch.setattr(kind, name, signalled)


def test_a_signal_while_the_best_state_is_saved_loses_no_best_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = example_task.defaults(tmp_path)
    signal_in(
        monkeypatch, CheckpointManager, "save", lambda manager, name, state: name == "best.pth"
    )
    with pytest.raises(Stopped):
        example_task.trainer(cfg, tmp_path).fit()
    assert not (tmp_path / "best.pth").exists()
    example_task.trainer(cfg, tmp_path, io.load(tmp_path / "last.pth")).fit(5)
    assert io.load(tmp_path / "best.pth")["step"] == 4


@pytest.mark.parametrize("exchange", [1, 2])
def test_a_signal_while_averages_are_exchanged_leaves_weights_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: int
) -> None:
    whole = trained(tmp_path / "whole", "TRAIN.EMA", "0.5")
    cfg = example_task.defaults(tmp_path / "cut", "TRAIN.EMA", "0.5")
    run = example_task.trainer(cfg, tmp_path / "cut")
    copied = []

    def amid(averages: Averages, source: Any, target: Any) -> bool:
        copied.append(target is not averages.averages)  # into the networks
        return sum(copied) == exchange

    signal_in(monkeypatch, Averages, "_copy", amid)
    with pytest.raises(Stopped):
        run.fit()
    state = io.load(tmp_path / "cut" / "last.pth")
    example_task.trainer(cfg, tmp_path / "cut", state).fit()
    found = io.load(tmp_path / "cut" / "last.pth")
    assert differences(without_clocks(found), without_clocks(whole)) == []


def test_a_checkpoint_of_an_earlier_version_keeps_its_best_value(tmp_path: Path) -> None:
    cfg = example_task.defaults(tmp_path)
    example_task.trainer(cfg, tmp_path).fit(4)
    state = io.load(tmp_path / "last.pth")
    for name in ("bests", "evaluated", "skipped", "epoch_sums"):
        del state[name]
    assert example_task.trainer(cfg, tmp_path, state).best["best"].value == state["best"]


def test_a_best_value_whose_state_is_gone_is_forgotten(tmp_path: Path) -> None:
    cfg = example_task.defaults(tmp_path, "TRAIN.EMA", "0.5")
    example_task.trainer(cfg, tmp_path).fit(4)
    (tmp_path / "best-ema.pth").unlink()
    assert [*example_task.trainer(cfg, tmp_path, io.load(tmp_path / "last.pth")).best] == ["best"]


def test_a_resumed_run_that_skips_too_much_names_what_it_was_resumed_from(tmp_path: Path) -> None:
    cfg = example_task.defaults(tmp_path, "TRAIN.MAX_SKIPPED", "1", "DATA.BAD", "[1/3]")
    example_task.trainer(cfg, tmp_path).fit(2)
    run = example_task.trainer(cfg, tmp_path, io.load(tmp_path / "last.pth"))
    with pytest.raises(UserError) as caught:
        run.fit()
    assert f"the last checkpoint is {tmp_path / 'last.pth'} (step 2)" in caught.value.hint


def spoil_gradient(run: Trainer, factor: float, part: str = "head") -> None:
    weight: Any = run.train_step.task.get_submodule(part).get_parameter("weight")
    weight.register_hook(lambda gradient: gradient * factor)


def test_the_samples_are_named_of_a_step_whose_gradient_alone_is_not_finite(tmp_path: Path) -> None:
    run = example_task.trainer(example_task.defaults(tmp_path), tmp_path)
    spoil_gradient(run, math.inf)
    run.fit(1)
    (skipped,) = [row for row in rows(tmp_path) if row.get("skipped")]
    assert skipped["skipped"] == "the gradient norm of head is inf"
    assert skipped["samples"] == [f"0/{index}" for index in range(12)]


def test_a_gradient_that_no_loss_scale_makes_finite_ends_the_run(tmp_path: Path) -> None:
    pairs = ["TRAIN.PRECISION", "fp16", "TRAIN.STEPS", "40", "TEST.EVERY", "100"]
    run = example_task.trainer(example_task.defaults(tmp_path, *pairs), tmp_path)
    spoil_gradient(run, math.nan)
    with pytest.raises(UserError, match="the gradient norm of head is nan"):
        run.fit()
