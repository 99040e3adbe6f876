"""Thresholds at false-match rates: exact on known cosines, and strangers among toy persons."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ffreid.api import load_model
from ffreid.engine.calibrations import path_of
from ffreid.engine.checkpoints import io
from ffreid.errors import UserError
from ffreid.reid import calibration
from ffreid.reid.calibration import BINS, Calibration, calibrate, wilson
from ffreid.reid.features import ExtractedFeatures, LabelledFeatures
from ffreid.reid.predictor import ReidModel
from ffreid.reid.retrieval.protocols import GENERAL, between
from ffreid.reid.toy.dataset import generate
from tests.commands import exit_code, mistake
from tests.reid.command_line import line, make_toy_data, use_tiny

CPU = torch.device("cpu")
WIDTH = 2 / BINS
Cosines = npt.NDArray[np.float32]


def part(identities: list[int], cameras: list[int], seed: int) -> LabelledFeatures:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(len(identities), 6, generator=draw)
    columns = {"identity": identities, "camera": cameras, "clothes": [0] * len(identities)}
    return LabelledFeatures(
        features=torch.nn.functional.normalize(features, dim=1),
        labels={name: torch.tensor(values) for name, values in columns.items()},
        paths=tuple(map(str, range(len(identities)))),
    )


def extracted(queries: int = 40, items: int = 60) -> ExtractedFeatures:
    return ExtractedFeatures(
        dataset="any",
        network="resnet50",
        weights="",
        columns=("camera", "clothes"),
        protocols=(GENERAL, between("1 searches 2", (1,), (2,))),
        query=part([n % 8 for n in range(queries)], [n % 2 for n in range(queries)], 0),
        gallery=part([n % 10 for n in range(items)], [n % 3 for n in range(items)], 1),
    )


def impostors(features: ExtractedFeatures) -> list[Cosines]:
    cosines = (features.query.features @ features.gallery.features.T).numpy()
    same = features.query.labels["identity"][:, None] == features.gallery.labels["identity"]
    return [row[~own] for row, own in zip(cosines, same.numpy(), strict=True)]


def test_a_threshold_lets_through_the_stated_share_and_a_lower_one_more() -> None:
    features = extracted()
    others = impostors(features)
    result = calibrate(features, CPU)[0]
    assert result.protocol == "general"
    assert (result.queries, result.identities, result.sizes[0]) == (40, 8, 1)
    whole = result.sizes[-1]
    assert whole == min(map(len, others)) == 54
    for rate in (0.1, 0.05):
        for size in (1, whole):
            threshold = result.threshold(rate, size)
            assert passing(others, threshold, size) <= rate
            assert passing(others, threshold - 2 * WIDTH, size) > rate


def passing(others: list[Cosines], threshold: float, size: int) -> float:
    """The share of pairs (of one item), or of queries in the whole gallery, that pass."""
    return float(
        np.mean(
            [(row >= threshold).mean() if size == 1 else max(row) >= threshold for row in others]
        )
    )


def test_galleries_between_have_the_rate_of_drawn_galleries() -> None:
    features = extracted()
    result = calibrate(features, CPU)[0]
    threshold, others = result.threshold(0.1, 10), impostors(features)
    draw = np.random.default_rng(0)
    passed = [
        (draw.choice(row, 10, replace=False) >= threshold).any()
        for row in others
        for _ in range(300)
    ]
    assert np.mean(passed) == pytest.approx(0.1, abs=0.01)
    thresholds = [result.threshold(0.1, size) for size in range(1, 55)]
    assert all(a <= b for a, b in itertools.pairwise(thresholds))


def test_a_protocols_filters_hold() -> None:
    result = calibrate(extracted(), CPU)[1]
    assert (result.protocol, result.queries) == ("1 searches 2", 20)
    assert result.sizes[-1] == 18


def test_a_rate_that_the_queries_cannot_tell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    result = calibrate(extracted(), CPU)[0]
    with pytest.raises(UserError, match="40 queries of 8 persons cannot tell") as caught:
        result.threshold(0.01, 54)
    assert "0.05 or more" in caught.value.hint
    assert result.threshold(0.01, 1) > result.threshold(0.1, 1)
    with pytest.raises(UserError, match=r"no threshold for a false-match rate of 0\.03"):
        result.threshold(0.03, 5)
    assert result.threshold(0.1, 1000) == result.threshold(0.1, 54)
    assert "note: the gallery has 1000 items, that of the calibration 54" in capsys.readouterr().err


def test_one_person_cannot_be_calibrated() -> None:
    features = extracted()
    for side in (features.query, features.gallery):
        side.labels["identity"].fill_(3)
    with pytest.raises(UserError, match="no query has gallery items of other persons"):
        calibrate(features, CPU)


@pytest.mark.parametrize(
    ("rate", "count", "low", "high"),
    [(0.0, 10, 0.0, 0.2775), (0.5, 10, 0.2366, 0.7634), (0.01, 100, 0.0018, 0.0545)],
)
def test_wilsons_interval(rate: float, count: int, low: float, high: float) -> None:
    assert wilson(rate, count) == pytest.approx((low, high), abs=1e-4)


def written(folder: Path) -> tuple[Path, Calibration]:
    path, (result, *_) = folder / "best.pth", calibrate(extracted(), CPU)
    calibration.write(path_of(path), [result], {"fingerprint": "abc"})
    return path, result


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, result = written(tmp_path)
    again = calibration.read(path, "abc")
    assert again.thresholds == result.thresholds
    assert list(again.interval(0.1)) == list(result.interval(0.1))
    with pytest.raises(UserError, match="of other weights or settings"):
        calibration.read(path, "abd")


@pytest.mark.parametrize(
    "change",
    [
        {"task": "pose"},
        {"task": None},
        {"protocols": []},
        {"protocols": [{"rates": [0.1]}]},
        {"protocols": 3},
    ],
)
def test_a_damaged_calibration_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path, _ = written(tmp_path)
    file = path_of(path)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match="cannot read the calibration"):
        calibration.read(path, "abc")


def test_strangers_pass_at_the_stated_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even persons are known and calibrate; odd ones are strangers, who search the same gallery."""
    use_tiny(monkeypatch)
    known, best, strangers = tmp_path / "known/LTCC_ReID", tmp_path / "best.pth", tmp_path / "other"
    sizes = {"identities": 1, "test_identities": 80, "outfits": 2, "cameras": 2, "pictures": 2}
    drawn = generate(tmp_path / "all", sizes | {"seed": 3, "height": 32, "width": 16}, video=False)
    for name in ("train", "query", "test"):
        (known / name).mkdir(parents=True)
        for path in sorted((drawn / "LTCC_ReID" / name).iterdir()):
            if int(path.name[:3]) % 2 == 0 or name == "train":
                shutil.copy(path, known / name)
    strangers.mkdir()
    for path in sorted((drawn / "LTCC_ReID/query").iterdir()):
        if int(path.name[:3]) % 2:
            shutil.copy(path, strangers)
    make_checkpoint(best)
    command = f"eval --dataset ltcc --root {known.parent} --output {tmp_path} --checkpoint {best}"
    # Decoded otherwise than predict does, which hardly changes cosines.
    settings = "DATA.HEIGHT 32 DATA.WIDTH 16 DATA.NUM_WORKERS 0 DATA.DECODE pil"
    assert exit_code(f"{command} --calibrate {settings}") == 0
    assert "calibration: " in capsys.readouterr().err
    model = load_model(best)
    assert isinstance(model, ReidModel)
    result = calibration.read(best, fingerprint_of(model))
    for rate in (0.1, 0.05):
        found = model.search(strangers, known / "test", top=1, false_match_rate=rate)
        share = np.mean([bool(matches) for matches in found.matches])
        low, high = result.interval(rate)
        assert low <= share <= high
        assert found.threshold == result.threshold(rate, len(found.gallery_items))


def make_checkpoint(path: Path) -> None:
    from ffreid.api import create_reid_model

    model = create_reid_model("toy-reid", settings={"DATA.HEIGHT": 32, "DATA.WIDTH": 16})
    network = model.net.state_dict()
    state = {"task": "reid", "dataset": "toy-reid", "parts": {"net": network}}
    io.save(path, {**state, "model_state_dict": network, "config": model.cfg.dump()})


def fingerprint_of(model: ReidModel) -> str:
    from ffreid.reid.gallery import fingerprint

    return fingerprint(model.cfg, model.net.state_dict(), rounding=False)


def test_nobody_is_said_where_no_one_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_tiny(monkeypatch)
    best, data = tmp_path / "best.pth", tmp_path / "data"
    make_checkpoint(best)
    folder = make_toy_data(data)
    search = f"predict --checkpoint {best} --query {folder / 'query'} --gallery {folder / 'test'}"
    error, hint = mistake(capsys, f"{search} --false-match-rate 0.1")
    assert error.startswith("no calibration ")
    assert "--calibrate" in hint
    assert exit_code(line(f"eval --checkpoint {best} --calibrate", tmp_path, "run")) == 0
    error, hint = mistake(capsys, f"{search} --false-match-rate 0.03")
    assert error == "no threshold for a false-match rate of 0.03"
    assert "0.05" in hint
    assert not list(data.rglob("*.features"))
    file = path_of(best)
    content = json.loads(file.read_text())
    for row in content["protocols"]:
        row["thresholds"] = [[0.9999] * len(row["sizes"])] * len(row["rates"])
    file.write_text(json.dumps(content))
    capsys.readouterr()
    assert exit_code(f"{search} --false-match-rate 0.1 --out {tmp_path / 'out'}") == 0
    shown, said = capsys.readouterr()
    assert "nobody" in shown
    assert "matches have a cosine of 0.9999 or more, which 10 % of strangers pass" in said
    text = (tmp_path / "out/matches.jsonl").read_text()
    lines = [json.loads(each) for each in text.splitlines()]
    assert any(row["nobody"] and not row["matches"] for row in lines)
