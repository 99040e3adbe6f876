"""Commands of both originals are translated, and the translations run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from yacs.config import CfgNode

from ffreid import migrate, runner, tasks
from ffreid.cli import main
from ffreid.engine.distributed import launch
from ffreid.errors import UserError
from tests.makers import linemod_folder, toy_folder
from tests.reid import dataset_trees

ONE, EIGHT = (f"python3 -m torch.distributed.launch --nproc_per_node={n} " for n in (1, 8))
TWO = "python -m torch.distributed.launch --nproc_per_node=2 --master_port 12345 main.py "
CAL, CAL4 = "--cfg configs/res50_cels_cal.yaml", "--cfg configs/res50_cels_cal_16x4.yaml"
TRIPLET = "--cfg configs/res50_cels_cal_tri_16x4.yaml"
EVALUATED = "-eval_net -checkpoint $tst_mdl -test -test_pose"
BEST = "<logs>/vcclothes/res50-cels-cal/best_model.pth.tar"
YCB, APE = "--dataset ycb --root datasets", "--dataset linemod --cls ape --root datasets"
ANY = "--dataset linemod --cls $cls --root datasets"

FFB6D = {
    f"{EIGHT}train_ycb.py --gpus=8": f"train {YCB} --gpus 8",
    "python3 -m torch.distributed.launch --nproc_per_node=$n_gpu train_lm.py --gpus=$n_gpu "
    "--cls=$cls": f"train {ANY} --gpus $n_gpu TRAIN.BATCH $((3 * $n_gpu))",
    f"{EIGHT}train_lm.py --gpus=8 --cls=ape": f"train {APE} --gpus 8",
    f"{EIGHT}train_lm.py --gpus=8 --cls=ape --opt_level=O1": f"train {APE} --gpus 8 --amp",
    "python3 train_ycb.py --gpu='0' --gpus=1": f"train {YCB} --gpu 0 TRAIN.BATCH 3",
    f"{ONE}train_ycb.py --gpu '0' {EVALUATED}": f"eval {YCB} --checkpoint $tst_mdl --gpu 0",
    f"{ONE}train_ycb.py --gpu '0' {EVALUATED} -debug": f"eval {YCB} --checkpoint $tst_mdl --gpu 0",
    f"{ONE}train_ycb.py --gpu '0' {EVALUATED} -test_gt": f"eval {YCB} --test-gt --gpu 0",
    f"{ONE}train_lm.py --gpu '0' --cls $cls {EVALUATED}": (
        f"eval {ANY} --checkpoint $tst_mdl --gpu 0"
    ),
    f"{ONE}train_lm.py --gpu '0' --cls $cls {EVALUATED} -test_gt": f"eval {ANY} --test-gt --gpu 0",
    "python3 -m demo -checkpoint $tst_mdl -dataset ycb": (
        f"eval {YCB} --checkpoint $tst_mdl --pictures 20"
    ),
    "python3 -m demo -dataset linemod -checkpoint $tst_mdl -cls $cls -show": (
        f"eval {ANY} --checkpoint $tst_mdl --pictures 20"
    ),
    "python3 -m datasets.ycb.ycb_dataset": f"eval {YCB} --test-gt --pictures 20 TEST.LIMIT 20",
    "python3 -m datasets.linemod.linemod_dataset": (
        f"eval {APE} --test-gt --pictures 20 TEST.LIMIT 20"
    ),
}
RECIPES = dict.fromkeys(("ltcc", "prcc", "vcclothes"), CAL) | {
    "deepchange": f"{CAL4} --amp",
    "last": f"{TRIPLET} --amp",
    "ccvid": "--cfg configs/c2dres50_ce_cal.yaml",
}
CCREID = {
    f"{TWO}--dataset {name} {recipe} --gpu 0,1": (
        f"train --dataset {name} --gpus 2 --gpu 0,1{' --amp' * ('--amp' in recipe)}"
    )
    for name, recipe in RECIPES.items()
}
for name in ("vcclothes_cc", "vcclothes_sc"):
    CCREID[f"{TWO}--dataset {name} {CAL} --gpu 0,1 --eval --resume {BEST}"] = (
        f"eval --dataset {name} --checkpoint {BEST} --gpu 0"
    )
SINGLE = f"python main.py --dataset ltcc {CAL} --gpu 0"
CCREID |= {
    SINGLE: "train --dataset ltcc --gpu 0",
    f"{SINGLE} --amp": "train --dataset ltcc --gpu 0 --amp",
}
PUBLISHED = {old: f"ffreid {new}" for old, new in (FFB6D | CCREID).items()}
SHELL = """
n_gpu=2 cls=ape tst_mdl=model.pth.tar
ffreid() { printf '%s\\n' "$@"; }
"""
"""Variables of the old scripts, and a program that prints its arguments."""


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def old_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FFB6D's folder, with ``datasets`` in it, and checkpoints."""
    folder = tmp_path_factory.mktemp("ffb6d")
    (folder / "datasets/ycb").mkdir(parents=True)
    toy_folder(folder).rename(folder / "datasets/ycb/YCB_Video_Dataset")
    linemod_folder(folder / "datasets/linemod")
    for path in (folder / BEST.replace("<logs>", "logs"), folder / "model.pth.tar"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, CfgNode, Any]]:
    """Actions with their configuration and opened dataset, instead of running them."""
    runs: list[tuple[str, CfgNode, Any]] = []

    def record(action: str) -> Any:
        return lambda cfg, **_: runs.append(
            (action, cfg, tasks.modules(cfg.TASK).sources.open_source(cfg))
        )

    def run_once(count: int, args: list[str]) -> int:
        runs.append((f"{count} processes", CfgNode(), None))
        index = args.index("--gpus")
        return run(args[:index] + args[index + 2 :])

    monkeypatch.setattr(runner, "train", record("train"))
    monkeypatch.setattr(runner, "evaluate", record("eval"))
    monkeypatch.setattr(runner, "finish", lambda cfg: None)
    monkeypatch.setattr(launch, "launch", run_once)
    return runs


def run(args: list[str]) -> int:
    with pytest.raises(SystemExit) as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ffreid", *args])
        main(args)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def expanded_by_shell(command: str) -> list[str]:
    """The arguments of ffreid when a shell runs the printed command."""
    script = SHELL + command.replace("<logs>", "logs")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def note_on(command: str, start: str) -> str:
    """The only note of a migration with this start."""
    (note,) = [note for note in migrate.migrate(command).notes if note.startswith(start)]
    return note


@pytest.mark.parametrize("old", PUBLISHED)
def test_published_commands_are_translated_and_run_on_the_old_data(
    old: str,
    old_folder: Path,
    tmp_path: Path,
    opened: list[tuple[str, CfgNode, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert migrate.migrate(old).command == PUBLISHED[old]
    monkeypatch.chdir(old_folder)
    root = "" if old in FFB6D else f" --root '{tmp_path}'"
    args = expanded_by_shell(migrate.migrate(old + root).command)
    if root:
        dataset_trees.build(args[2], tmp_path)
    assert run(args) == 0
    action, cfg, source = opened[-1]
    assert (action, cfg.DATASET) == (args[0], args[2])
    launched = [f"{args[args.index('--gpus') + 1]} processes"] if "--gpus" in args else []
    assert [action for action, *_ in opened] == [*launched, args[0]]
    if cfg.TASK == "pose":
        assert source.reader.read(source.reader.test_names[0]).rgb.shape == (96, 128, 3)
    else:
        assert len(source.train) > 0
        assert cfg.TRAIN.BN_GROUPS == 2


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["lr 1e-3"], "TRAIN.LR_MAX"),
        (["lr_decay .5", "cal_metrics", "view_dpt"], "had no effect"),
        (["decay_step 2e5", "bn_momentum=.9", "bn_decay .5"], "TRAIN.BN_MOMENTUM_SCHEDULE"),
        (["epochs 1000"], "TRAIN.EPOCHS"),
        (["debug"], "--pictures"),
        (["gpu_id 0"], "--gpu"),
        (["n 1", "nodes=2", "nr 0"], "torchrun"),
        (["g 8"], "is known from the data"),
        (["keep_batchnorm_fp32 True"], "float32"),
        (["opt_level O0"], "default"),
        (["local_rank 0"], "not needed"),
        (["test_occ"], "ffreid eval --dataset lmo"),
        (["test_pose", "test"], "ffreid eval"),
    ],
)
def test_obsolete_flags_are_removed_with_a_note(flags: list[str], part: str) -> None:
    for dashes in ("-", "--"):
        old = " ".join([f"{EIGHT}train_lm.py --cls ape", *(dashes + flag for flag in flags)])
        assert migrate.migrate(old).command == f"ffreid train {APE} --gpus 8"
        assert all(part in note_on(old, f"--{flag.replace('=', ' ')}: ") for flag in flags)


@pytest.mark.parametrize(
    ("flag", "setting"),
    [
        ("-weight_decay 1e-4", "TRAIN.WEIGHT_DECAY 1e-4"),
        ("--deterministic", "--deterministic"),
        ("-checkpoint a.pth.tar", "--resume a.pth.tar"),
        ("--opt_level $level", "--opt_level $level"),
        ("--gpu '2, 3'", "--gpu '2, 3'"),
        ("--gpu='2, 3'", "--gpu '2, 3'"),
        ("'--gpu=2, 3'", '--gpu "2, 3"'),
        ('-checkpoint="$a b"', '--resume "$a b"'),
        ('"-checkpoint=$a b"', '--resume "$a b"'),
        ("--opt O2", "--amp"),
    ],
)
def test_translated_flags_keep_their_values(flag: str, setting: str) -> None:
    command = migrate.migrate(f"{EIGHT}train_ycb.py --gpus 8 {flag}").command
    assert setting in command
    assert command.startswith(f"ffreid train {YCB}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("python train_lm.py", f"ffreid train {APE} TRAIN.BATCH 3"),
        ("python main.py", "ffreid train --dataset ltcc"),
        (
            f"torchrun --nproc-per-node 4 main.py --dataset prcc {CAL}",
            "ffreid train --dataset prcc --gpus 4 TRAIN.BN_GROUPS 4",
        ),
        (f"{TWO}--dataset ltcc {TRIPLET}", f"ffreid train --dataset ltcc {TRIPLET} --gpus 2"),
        ("python main.py --cfg a.yaml", "ffreid train --dataset ltcc --cfg a.yaml"),
        (
            "python -m torch.distributed.launch --nnodes 2 --nproc_per_node=8 train_ycb.py",
            f"torchrun --nnodes=2 --nproc-per-node=8 -m ffreid train {YCB}",
        ),
        (
            "python -m torch.distributed.launch --nproc_per_node gpu train_ycb.py",
            f"torchrun --nproc-per-node=gpu -m ffreid train {YCB}",
        ),
        (
            "CUDA_VISIBLE_DEVICES=2 nohup python -u train_ycb.py > log.txt 2>&1 &",
            f"CUDA_VISIBLE_DEVICES=2 nohup ffreid train {YCB} TRAIN.BATCH 3 > log.txt 2>&1 &",
        ),
        (
            "for c in ape can; do python3 train_lm.py --cls $c; done",
            "for c in ape can; do ffreid train --dataset linemod --cls $c --root datasets "
            "TRAIN.BATCH 3; done",
        ),
        (
            'cd ffb6d && python -m demo -checkpoint "$a b" # look',
            f'cd ffb6d && ffreid eval {APE} --checkpoint "$a b" --pictures 20 # look',
        ),
        (
            "python main.py --dataset ltcc \\\n    --tag 'a b' \\\n  --root ~/data \"$@\"",
            "ffreid train --dataset ltcc --root ~/data --tag 'a b' \"$@\"",
        ),
        ("python main.py --n_sample=3 --cfgg a", "ffreid train --dataset ltcc"),
    ],
)
def test_shell_syntax_launchers_and_defaults(old: str, new: str) -> None:
    assert migrate.migrate(old).command == new


FOUR = f"torchrun --nproc-per-node 4 main.py --dataset prcc {CAL}"


@pytest.mark.parametrize(
    ("old", "start", "part"),
    [
        (FOUR, "TRAIN.BN_GROUPS 4: ", "32 samples"),
        (SINGLE, "one process: ", "TRAIN.BN_GROUPS 1 DATA.TRAIN_BATCH 64"),
        ("python main.py --cfg a.yaml", "--cfg a.yaml: kept", "no file a.yaml"),
        ("python main.py --cfgg a", "--cfgg a: removed", "not a flag of the original"),
        ("python train_ycb.py --n_sample=3", "--n_sample=3: ", "not a flag"),
        ("python train_lm.py --clss ape", "--clss ape: ", "did you mean cls?"),
    ],
)
def test_changes_are_noted(old: str, start: str, part: str) -> None:
    assert part in note_on(old, start)


def test_a_modified_recipe_is_still_used(tmp_path: Path) -> None:
    file = tmp_path / "configs/res50_cels_cal.yaml"
    file.parent.mkdir()
    file.write_text("LOSS:\n  CLA_LOSS: crossentropylabelsmooth\nTAG: res50-cels-cal\n")
    two, one = f"{TWO}--dataset ltcc {CAL}", f"python main.py --dataset ltcc {CAL}"
    assert migrate.migrate(two).command == "ffreid train --dataset ltcc --gpus 2"
    file.write_text("DATA:\n  TRAIN_BATCH: 16\n")
    new = f"ffreid train --dataset ltcc {CAL} --gpus 2 TRAIN.BN_GROUPS 2"
    assert migrate.migrate(two).command == new
    assert migrate.migrate(one).command == f"ffreid train --dataset ltcc {CAL}"
    assert "of 16 samples per step" in note_on(one, "one process: ")


@pytest.mark.parametrize(
    ("old", "error", "hint"),
    [
        ("python foo.py --a", "not a command of FFB6D or Simple-CCReID: python foo.py", "train_lm"),
        ("python -c 'import demo; demo.main'", "not a command of", "train_lm"),
        ("accelerate launch main.py", "not a command of", "train_lm"),
        ("", "no command", "train_lm.py"),
        ("python train_lm.py --cls=", "--cls has no value", "single quotes"),
        ("python train_ycb.py -checkpoint -eval_net", "argument -checkpoint", "single quotes"),
        ("python gen_obj_info.py", "gen_obj_info.py has no equivalent", "are included"),
        ("nohup ./main.py", "not a command of", "in which python runs"),
        ("python main.py --dataset lttc", "main.py of Simple-CCReID has no dataset 'lttc'", "ltcc"),
        ("python main.py --tag 'a", "unclosed quote: 'a", "close the quote"),
        ("torchrun --nproc_per_node=2 # main.py", "not a command of", "train_lm"),
    ],
)
def test_other_commands_are_refused(old: str, error: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        migrate.migrate(old)
    assert caught.value.message.startswith(error)
    assert hint in caught.value.hint


def test_a_script_is_migrated_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "test_lm.sh"
    file.write_text(
        "#!/bin/bash\ncls='ape'\ntst_mdl=\"./FFB6D_${cls}_best.pth.tar\"\n"
        f"  {ONE}train_lm.py \\\n --gpu '0' --cls $cls {EVALUATED} # -debug\npython other.py\n"
        "python train_lm.py --cls\n"
    )
    for args in ([str(file)], ["bash", str(file)]):
        migrate.print_migration(args)
        lines = capsys.readouterr().out.splitlines()
        assert lines[:3] == file.read_text().splitlines()[:3]
        assert lines[3] == f"  ffreid eval {ANY} --checkpoint $tst_mdl --gpu 0 # -debug"
        assert lines[-3:-1] == ["python other.py", "python train_lm.py --cls"]
        assert lines[-1].startswith("# not translated: argument -cls/--cls: expected one argument")
        assert all(line.startswith("  # ") for line in lines[4:-3])


def test_a_script_without_old_commands_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train_lm.sh"
    for message in (
        r"cannot read .*train_lm\.sh",
        "no command of FFB6D or Simple-CCReID in the script",
    ):
        with pytest.raises(UserError, match=message):
            migrate.print_migration([str(file)])
        file.write_text("ls\n")


def test_a_command_needs_no_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    migrate.print_migration(["python3", "train_ycb.py", "--gpus=1", "-checkpoint", "a b.pth.tar"])
    new = f"ffreid train {YCB} --resume 'a b.pth.tar' TRAIN.BATCH 3\n"
    assert capsys.readouterr().out.startswith(new)


def test_the_output_is_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    migrate.print_migration(["\n".join([*FFB6D, "vim main.py"])])
    printed = capsys.readouterr().out
    subprocess.run(["bash", "-n", "-c", printed], check=True)
    commands = [line for line in printed.splitlines() if line[0] != "#"]
    assert commands == [*(PUBLISHED[old] for old in FFB6D), "vim main.py"]
    assert "# not translated: not a command of FFB6D or Simple-CCReID: vim main.py (" in printed
