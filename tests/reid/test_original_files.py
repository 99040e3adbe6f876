"""Configuration files and command lines of the original are accepted unchanged."""

import os
from pathlib import Path

import pytest

from ffreid.config import lookup
from ffreid.recipes import compose
from tests.commands import exit_code, metrics, quoted, read
from tests.reid.command_line import IMAGES, SETTINGS, make_toy_data, use_tiny

# With quoted device lists, empty paths and numbers that end in a point.
FILE = """
DATA: {ROOT: '', DATASET: 'ltcc', TRAIN_BATCH: 4, TEST_BATCH: 16, NUM_INSTANCES: 2, NUM_WORKERS: 0,
  HEIGHT: 32, WIDTH: 16}
AUG: {RC_PROB: 0.5, RE_PROB: 0.5, RF_PROB: 0.5}
MODEL:
  NAME: resnet50
  RES4_STRIDE: 1
  FEATURE_DIM: 4096
  RESUME: ''
  POOLING: {NAME: maxavg, P: 3}
LOSS: {CLA_LOSS: crossentropylabelsmooth, CLOTHES_CLA_LOSS: cosface, CLA_S: 16., CLA_M: 0.,
  CAL: cal, EPSILON: 0.1, MOMENTUM: 0., PAIR_LOSS: triplet, PAIR_LOSS_WEIGHT: 0, PAIR_S: 16.,
  PAIR_M: 0.3}
TRAIN:
  START_EPOCH: 0
  MAX_EPOCH: 2
  START_EPOCH_CC: 1
  START_EPOCH_ADV: 1
  AMP: False
  OPTIMIZER: {NAME: adam, LR: 3.5e-4, WEIGHT_DECAY: 5e-4}
  LR_SCHEDULER: {STEPSIZE: [20, 40], DECAY_RATE: 0.1}
TEST: {EVAL_STEP: 1, START_EVAL: 0}
GPU: '0,1'
OUTPUT: '/data/logs/'
TAG: mine
EVAL_MODE: False
SEED: 1
"""
VIDEO = """
DATA: {DENSE_SAMPLING: True, SAMPLING_STEP: 64, HEIGHT: 256, WIDTH: 128}
AUG: {TEMPORAL_SAMPLING_MODE: 'tsn', SEQ_LEN: 8, SAMPLING_STRIDE: 4}
MODEL:
  NAME: ap3dnlres50
  FEATURE_DIM: 2048
  AP3D: {TEMPERATURE: 4, CONTRACTIVE_ATT: True}
"""


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def ltcc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy data in the layout of LTCC."""
    return make_toy_data(tmp_path_factory.mktemp("data")).parent


def original_flags(file: Path, root: Path, output: Path) -> str:
    return f"--dataset ltcc --cfg {quoted(file)} --root {quoted(root)} --output {output}"


def test_every_value_of_an_old_file_is_used(file: Path) -> None:
    cfg = compose("prcc", file=file)
    expected = {
        "GPU": "0,1",
        "OUTPUT": "/data/logs/",
        "TAG": "mine",
        "DATA.TRAIN_BATCH": 4,
        "MODEL.FEATURE_DIM": 4096,
        "LOSS.CLA_S": 16.0,
        "LOSS.PAIR_LOSS_WEIGHT": 0.0,
        "TRAIN.OPTIMIZER.LR": 3.5e-4,
        "TRAIN.OPTIMIZER.WEIGHT_DECAY": 5e-4,
        "TRAIN.LR_SCHEDULER.STEPSIZE": [20, 40],
    }
    assert {key: lookup(cfg, key) for key in expected} == expected
    # --dataset overrides the file, as in the original.
    assert (cfg.DATASET, cfg.DATA.DATASET, cfg.TRAIN.BN_GROUPS) == ("prcc", "prcc", 1)


def test_an_old_video_file_is_used(tmp_path: Path) -> None:
    (tmp_path / "video.yaml").write_text(VIDEO)
    cfg = compose("ccvid", file=tmp_path / "video.yaml")
    assert (cfg.MODEL.NAME, cfg.MODEL.FEATURE_DIM) == ("ap3dnlres50", 2048)
    assert cfg.AUG.TEMPORAL_SAMPLING_MODE == "tsn"


def test_an_old_file_trains_and_evaluates_unchanged(file: Path, ltcc: Path, tmp_path: Path) -> None:
    flags = original_flags(file, ltcc, tmp_path)
    random = "MODEL.BACKBONE random TRAIN.LOG_EVERY 1"
    assert exit_code(f"train {flags} {random}") == 0
    folder = tmp_path / "ltcc" / "mine"
    # Sixteen images, four per step, as there is one group of batch normalisation.
    assert [row["step"] for row in metrics(folder, "train/")] == list(range(1, 9))
    assert exit_code(f"train {flags} --eval --resume {folder / 'last.pth'} {random}") == 0
    assert read(folder / "results.json")["queries"] == IMAGES["query"]


def test_eval_mode_in_a_file_evaluates(file: Path, ltcc: Path, tmp_path: Path) -> None:
    flags = original_flags(file, ltcc, tmp_path)
    assert exit_code(f"train {flags} MODEL.BACKBONE random TRAIN.STEPS 1") == 0
    weights = (tmp_path / "ltcc/mine/last.pth").rename(tmp_path / "best_model.pth.tar")
    text = FILE.replace("EVAL_MODE: False", "EVAL_MODE: True")
    file.write_text(text.replace("RESUME: ''", f"RESUME: '{weights}'"))
    assert exit_code(f"train {flags} --tag other") == 0
    files = sorted(path.name for path in (tmp_path / "ltcc/other").iterdir())
    assert files == ["queries.json", "results.json"]
    assert read(tmp_path / "ltcc/other/results.json")["weights"] == str(weights)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("configs/res50_cels_cal.yaml", {"LOSS.CLA_LOSS": "crossentropylabelsmooth"}),
        ("configs/res50_cels_cal_16x4.yaml", {"DATA.NUM_INSTANCES": 4}),
        ("res50_cels_cal_tri_16x4.yaml", {"LOSS.PAIR_LOSS_WEIGHT": 1.0}),
        ("res50_cels_cal_tri_16x4", {"LOSS.PAIR_LOSS_WEIGHT": 1.0}),
    ],
)
def test_old_commands_find_the_shipped_recipes(
    name: str, expected: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = compose("deepchange", file=Path(name))
    assert {key: lookup(cfg, key) for key in expected} == expected
    assert cfg.TRAIN.BN_GROUPS == 2


def test_a_users_file_overrides_a_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("res50_cels_cal.yaml").write_text("LOSS: {CLA_LOSS: arcface}\n")
    assert compose("ltcc", file=Path("res50_cels_cal.yaml")).LOSS.CLA_LOSS == "arcface"


def test_every_flag_of_the_original_is_accepted(
    ltcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    flags = f"train --dataset ltcc --cfg configs/res50_cels_cal.yaml --root {quoted(ltcc)}"
    flags += f" --output {tmp_path} --amp --tag flags --gpu 0"
    assert exit_code(f"{flags} {SETTINGS} TRAIN.STEPS 1") == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    weights = tmp_path / "ltcc/flags/last.pth"
    assert exit_code(f"{flags} --eval --resume {weights} {SETTINGS}") == 0
    text = (tmp_path / "ltcc/flags/config.yaml").read_text()
    assert "PRECISION: amp" in text
    assert (tmp_path / "ltcc/flags/results.json").is_file()
