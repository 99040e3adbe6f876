"""Searches of own pictures: ranks, kept features, unreadable files, tracklets, labels."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ffreid.api import create_reid_model, load_model
from ffreid.engine.checkpoints import io
from ffreid.engine.dataset_files import read_image
from ffreid.errors import UserError
from ffreid.reid import gallery as kept_features
from ffreid.reid.gallery import FeatureFile
from ffreid.reid.predictor import ReidModel
from ffreid.reid.visualization import MATCH, MISS, UNKNOWN, blur_face
from tests.commands import exit_code, mistake, quoted
from tests.reid.command_line import SETTINGS, use_tiny
from tests.reid.own_pictures import draw, pictures

SIZES = dict(zip(SETTINGS.split()[::2], SETTINGS.split()[1::2], strict=True))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch)


def model_of(dataset: str = "toy-reid") -> ReidModel:
    return create_reid_model(dataset, settings=SIZES)


def write_checkpoint(path: Path, dataset: str = "toy-reid") -> Path:
    model = model_of(dataset)
    network = model.net.state_dict()
    state = {"task": "reid", "dataset": dataset, "parts": {"net": network}}
    io.save(path, {**state, "model_state_dict": network, "config": model.cfg.dump()})
    return path


def mark_of(model: ReidModel) -> str:
    return kept_features.fingerprint(model.cfg, model.net.state_dict())[:12]


def features_file(folder: Path) -> Path:
    (file,) = folder.parent.glob(f"{folder.name}.*.features")
    return file


def test_ranks_are_those_of_the_cosines_of_embed(tmp_path: Path) -> None:
    model = model_of()
    asked, items = (
        pictures(tmp_path / "q", "a.png b.png", 50),
        pictures(tmp_path / "g", " ".join(f"{n}.png" for n in range(9))),
    )
    cosines = model.embed(asked) @ model.embed(items).T
    result = model.search(tmp_path / "q", tmp_path / "g", top=4)
    images = model.search(list(asked), list(items), top=4)
    for row, found, same in zip(cosines, result.matches, images.matches, strict=True):
        order = row.argsort(descending=True)[:4].tolist()
        assert [match.index for match in found] == order
        assert [match.index for match in same] == order
        assert [match.name for match in found] == [f"{n}.png" for n in order]
        assert [match.cosine for match in found] == pytest.approx(row[order].tolist(), abs=2e-4)


def test_a_second_search_extracts_only_what_is_new(tmp_path: Path) -> None:
    model, gallery = model_of(), tmp_path / "g"
    pictures(gallery, "a.png b.png c.png")
    query = draw(tmp_path / "q.png", 9)
    assert model.search(query, gallery).extracted == 4
    before = model.search(query, gallery)
    assert before.extracted == 0
    draw(gallery / "below/d.png", 7)
    (gallery / "a.png").rename(gallery / "renamed.png")
    shutil.copy(gallery / "b.png", gallery / "copy.png")
    after = model.search(query, gallery)
    assert after.extracted == 1
    names = {match.name for match in after.matches[0]}
    assert names == {"below/d.png", "renamed.png", "b.png", "copy.png", "c.png"}
    draw(gallery / "c.png", 8)  # other content under the old name
    assert model.search(query, gallery).extracted == 1


def test_other_weights_and_settings_have_features_of_their_own(tmp_path: Path) -> None:
    pictures(tmp_path / "g", "a.png b.png")
    query = draw(tmp_path / "q.png", 9)
    model, other = model_of(), model_of()
    larger = create_reid_model("toy-reid", settings=SIZES | {"DATA.HEIGHT": 48})
    with torch.no_grad():
        next(other.parameters()).mul_(1.001)
    for one in (model, other, larger):
        assert one.search(query, tmp_path / "g").extracted == 3
    assert len(list(tmp_path.glob("*.features"))) == 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("MODEL.POOLING.NAME", "avg"),
        ("MODEL.RES4_STRIDE", 2),
        ("DATA.HEIGHT", 48),
        ("DATA.WIDTH", 24),
        ("DATA.DECODE", "pil"),
        ("TEST.PRECISION", "bf16"),
        ("TEST.ENGINE", "openvino"),
        ("TRAIN.PRECISION", "fp64"),
    ],
)
def test_every_setting_that_changes_features_is_in_the_fingerprint(
    setting: str, value: str | int
) -> None:
    cfg, mark = model_of().cfg.clone(), kept_features.fingerprint(model_of().cfg, {})
    cfg.merge_from_list(["MODEL.BACKBONE", "random", "DATA.NUM_WORKERS", 0])
    assert kept_features.fingerprint(cfg, {}) == mark
    cfg.merge_from_list([setting, value])
    assert kept_features.fingerprint(cfg, {}) != mark


def test_an_interrupted_extraction_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, gallery = (
        create_reid_model("toy-reid", settings=SIZES | {"DATA.TEST_BATCH": 2}),
        (tmp_path / "g"),
    )
    pictures(gallery, "a.png b.png c.png d.png e.png")
    query = draw(tmp_path / "q.png", 9)
    embed, calls = model.embed, list[int]()

    def interrupted(images: list[Image.Image]) -> Tensor:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(images)

    monkeypatch.setattr(model, "embed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.search(query, gallery)
    with features_file(gallery).open("ab") as file:
        file.write(b"part of a record")
    assert model.search(query, gallery).extracted == 3
    assert model.search(query, gallery).extracted == 0


def test_features_that_a_power_cut_spoilt_are_extracted_again(tmp_path: Path) -> None:
    model, gallery = model_of(), tmp_path / "g"
    pictures(gallery, "a.png b.png")
    query = draw(tmp_path / "q.png", 9)
    expected = model.search(query, gallery).matches
    path = features_file(gallery)
    content = bytearray(path.read_bytes())
    content[-4096:] = bytes(4096)
    path.write_bytes(content)
    again = model.search(query, gallery)
    assert again.extracted == 1
    assert again.matches == expected


def test_features_are_kept_in_the_cache_where_none_can_be_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, gallery = model_of(), tmp_path / "g"
    pictures(gallery, "a.png b.png")
    query = draw(tmp_path / "q.png", 9)
    (
        tmp_path / f"g.{kept_features.fingerprint(model.cfg, model.net.state_dict())[:12]}.features"
    ).mkdir()
    assert model.search(query, gallery).extracted == 3
    assert "cannot be written: features are kept in" in capsys.readouterr().err
    assert model.search(query, gallery).extracted == 0


def test_another_file_in_place_of_the_features_is_refused(tmp_path: Path) -> None:
    model = model_of()
    pictures(tmp_path / "g", "a.png b.png")
    mark = mark_of(model)
    (tmp_path / f"g.{mark}.features").write_text("the thesis")
    with pytest.raises(UserError, match="contains no features"):
        model.search(tmp_path / "g/a.png", tmp_path / "g")
    assert (tmp_path / f"g.{mark}.features").read_text() == "the thesis"


def test_keys_are_found_whatever_their_bytes(tmp_path: Path) -> None:
    keys = [bytes(16), b"\0" * 15 + b"\1", b"\1" + b"\0" * 15]
    features = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    file = FeatureFile(tmp_path / "f", 8, "mark")
    file.add(keys[:2], features[:2])
    file.add(keys[2:], features[2:])
    file.reload()
    assert [file.rows[key] for key in keys] == [0, 1, 2]
    assert np.allclose(file.features, features, atol=1e-3)


def test_tracklets_are_folders_with_frames_sorted_by_number(tmp_path: Path) -> None:
    model = model_of("toy-reid-video")
    for person in range(3):
        pictures(tmp_path / f"g/cam/{person}", "f1.png f2.png f10.png", 10 * person)
    pictures(tmp_path / "q", "f1.png f2.png f10.png", 40)
    frames = [[tmp_path / f"g/cam/{p}/f{n}.png" for n in (1, 2, 10)] for p in range(3)]
    asked = [[tmp_path / f"q/f{n}.png" for n in (1, 2, 10)]]
    cosines = (model.embed(asked) @ model.embed(frames).T)[0]
    result = model.search(tmp_path / "q", tmp_path / "g")
    order = cosines.argsort(descending=True).tolist()
    assert [match.name for match in result.matches[0]] == [f"cam/{n}" for n in order]
    assert [m.cosine for m in result.matches[0]] == pytest.approx(cosines[order].tolist(), abs=2e-4)
    assert model.search(tmp_path / "q", tmp_path / "g").extracted == 0


def test_a_tracklet_is_used_without_its_unreadable_frame_which_is_listed_each_time(
    tmp_path: Path,
) -> None:
    model = model_of("toy-reid-video")
    for person in range(2):
        pictures(tmp_path / f"g/{person}", "1.png 2.png 3.png", 10 * person)
    (tmp_path / "g/0/2.png").write_text("no picture")
    rest = model.embed([[tmp_path / "g/0/1.png", tmp_path / "g/0/3.png"]])
    asked = model.embed([[draw(tmp_path / "q.png", 30)]])
    for extracted in (3, 0):
        result = model.search(tmp_path / "q.png", tmp_path / "g")
        assert result.extracted == extracted
        assert list(result.unreadable) == [str(tmp_path / "g/0/2.png")]
        cosine = next(m.cosine for m in result.matches[0] if m.name == "0")
        assert cosine == pytest.approx(float(asked @ rest.T), abs=2e-4)


def test_a_query_does_not_find_its_own_picture(tmp_path: Path) -> None:
    pictures(tmp_path / "g", "a.png b.png c.png")
    result = model_of().search(tmp_path / "g", tmp_path / "g")
    for name, matches in zip(result.queries, result.matches, strict=True):
        assert {m.name for m in matches} == {"a.png", "b.png", "c.png"} - {name}
    assert any("in the gallery themselves: 3 of 3" in note for note in result.notes)


def bad_gallery(folder: Path) -> Path:
    """Three pictures that can be read, and seven files that cannot."""
    pictures(folder, "Anna.png anna.png")
    draw(folder / "Ünï cöde 名/a b.png", 5)
    (folder / "text.jpg").write_text("hello")
    (folder / "copy.jpg").write_text("hello")
    (folder / "empty.png").touch()
    (folder / "link.png").symlink_to("nowhere")
    (folder / "evil\x1b[31m\n.png").write_bytes(b"\x89PNG")
    (folder / os.fsdecode(b"bad\xff.png")).write_bytes(b"")
    (folder / "back").symlink_to("..")
    os.mkfifo(folder / "pipe.png")
    (folder / "notes.txt").write_text("hello")
    (folder / "film.mp4").write_text("hello")
    return folder


def test_what_cannot_be_read_is_listed_at_the_end_and_the_exit_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, best = bad_gallery(tmp_path / "g"), write_checkpoint(tmp_path / "best.pth")
    query, out = draw(tmp_path / "q.png", 40), tmp_path / "out"
    command = f"predict --checkpoint {best} --query {query} --gallery {gallery} --out {out}"
    assert exit_code(command) == 1
    shown, said = capsys.readouterr()
    assert "\x1b" not in shown + said
    assert "evil\\x1b[31m\\n.png" in said
    *_, first = said.partition("not read: 7 files\n")
    assert len(first.splitlines()) == 7
    assert "film.mp4" in said.splitlines()[0]
    assert "notes.txt" not in said
    (line,) = (out / "matches.jsonl").read_text().splitlines()
    found = {match["name"] for match in json.loads(line)["matches"]}
    assert found == {"Anna.png", "anna.png", "Ünï cöde 名/a b.png"}
    assert read_image(out / "pictures/000-q.png").size


@pytest.mark.parametrize(
    ("query", "gallery", "more", "expected"),
    [
        ("q.png", "empty", "", "no picture in "),
        ("q.png", "missing", "", "no file or folder "),
        ("q.png", "q.png", "", "the gallery "),
        ("missing.png", "g", "", "no file or folder "),
        ("text.png", "g", "", "no picture of the query can be read: "),
        ("pipe.png", "g", "", "no picture of the query can be read: "),
        ("q.png", "broken", "", "no picture of the gallery can be read: "),
        ("q.png", "g", "--out text.png", "cannot write text.png/matches.jsonl"),
        ("q.png", "g", "--out old", "old already contains matches.jsonl"),
        ("q.png", "g", "--labels text.png", "text.png has no column path, identity"),
        ("q.png", "g", "--labels none.csv", "no table of persons none.csv"),
        ("q.png", "g", "--labels other.csv", "other.csv names no picture"),
        ("q.png", "g", "--labels twice.csv", "twice.csv: g/a.png is 'x' in line 2 and 'y'"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    query: str,
    gallery: str,
    more: str,
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "best.pth")
    pictures(tmp_path / "g", "a.png b.png")
    for folder in ("empty", "broken", "old"):
        (tmp_path / folder).mkdir()
    (tmp_path / "old/matches.jsonl").write_text("")
    (tmp_path / "broken/a.png").write_text("hello")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "other.csv").write_text("path,identity\nelsewhere.png,x\n")
    (tmp_path / "twice.csv").write_text("path,identity\ng/a.png,x\ng/a.png,y\n")
    os.mkfifo(tmp_path / "pipe.png")
    draw(tmp_path / "q.png", 9)
    command = f"predict --checkpoint best.pth --query {query} --gallery {gallery} {more}"
    assert mistake(capsys, command)[0].startswith(expected)
    assert not list(tmp_path.glob("*/pictures"))
    if "--labels" in more and "other" not in more:  # refused before the work
        assert not list(tmp_path.glob("*.features"))


def test_borders_tell_whether_persons_are_the_same(tmp_path: Path) -> None:
    best, out = write_checkpoint(tmp_path / "best.pth"), tmp_path / "out"
    pictures(tmp_path / "g", "a.png b.png c.png")
    draw(tmp_path / "q.png", 40)
    table = tmp_path / "persons.csv"
    table.write_text("identity;path\nanna;q.png\nanna;g/a.png\nben;b.png\n")
    command = f"predict --checkpoint {best} --query {tmp_path / 'q.png'} --gallery {tmp_path / 'g'}"
    assert exit_code(f"{command} --out {out} --labels {table}") == 0
    (line,) = map(json.loads, (out / "matches.jsonl").read_text().splitlines())
    assert line["person"] == "anna"
    same = {match["name"]: match["same"] for match in line["matches"]}
    assert same == {"a.png": True, "b.png": False, "c.png": None}
    drawn = read_image(out / "pictures/000-q.png").reshape(-1, 3)
    for colour in (MATCH, MISS, UNKNOWN):
        assert (drawn == colour).all(axis=1).sum() > 100
    assert exit_code(f"{command} --out {out} --pictures 0 --force") == 0
    assert not list((out / "pictures").glob("*.png"))


def test_faces_are_blurred_in_what_is_drawn(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (101, 40, 3)).astype(np.uint8)
    blurred = blur_face(image)
    assert (blurred[21:] == image[21:]).all()
    assert blurred[:21].std(axis=(0, 1)).max() < 0.1 * image[:21].std()
    assert blur_face(image[:1, :1]).shape == (1, 1, 3)


def test_a_checkpoint_knows_its_dataset_and_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = write_checkpoint(tmp_path / "best.pth")
    model = load_model(best)
    assert isinstance(model, ReidModel)
    assert ("toy-reid", int(SIZES["DATA.HEIGHT"])) == (model.cfg.DATASET, model.cfg.DATA.HEIGHT)
    assert "note" not in capsys.readouterr().err
    bare = tmp_path / "bare.pth"
    io.save(bare, dict(model.net.state_dict()))
    assert (
        "add --dataset"
        in mistake(
            capsys, f"predict --checkpoint {quoted(bare)} --query {bare} --gallery {tmp_path}"
        )[1]
    )
