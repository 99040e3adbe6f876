"""Every dataset name gives a configuration; flags and KEY VALUE pairs override it."""

from pathlib import Path

import pytest
import yaml
from yacs.config import CfgNode

from ffreid import config, recipes
from ffreid.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted((REPOSITORY / "configs").glob("*/*.yaml"))
assert FILES, f"no recipes in {REPOSITORY / 'configs'}"
SHARED = sorted((REPOSITORY / "configs").glob("*/recipes/*.yaml"))
assert SHARED, f"no shared recipes in {REPOSITORY / 'configs'}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_is_in_the_configuration(path: Path) -> None:
    cfg = recipes.compose(path.stem, cls="ape" if path.stem == "linemod" else None)
    assert path == recipes.recipe_folder() / cfg.TASK / f"{cfg.DATASET}.yaml"
    assert cfg.is_frozen()
    shared = path.parent / f"recipes/{cfg.get('RECIPE')}.yaml"
    for file in (path, shared) if cfg.get("RECIPE") else (path,):
        written = CfgNode(yaml.safe_load(file.read_text()))
        keys = list(config.keys(written))
        assert keys
        for key in keys:
            assert config.lookup(cfg, key) == config.lookup(written, key)


def test_all_recipes_are_listed_under_distinct_names_and_used() -> None:
    assert sorted(recipes.recipes().values()) == FILES
    texts = [file.read_text() for file in FILES]
    for path in SHARED:
        assert any(f"RECIPE: {path.stem}\n" in text for text in texts)


def test_pairs_override_the_file_and_the_file_overrides_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("TRAIN: {BATCH: 6, EPOCHS: 7}\nDATASET: else\n")
    cfg = recipes.compose("toy-pose", file=file, pairs=["TRAIN.BATCH", "2"])
    assert (cfg.TRAIN.BATCH, cfg.TRAIN.EPOCHS, cfg.DATA.LAYOUT) == (2, 7, "toy")
    assert cfg.DATASET == "toy-pose"


def test_an_unknown_recipe_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(UserError, match=r"no file old\.yaml, and no recipe of that") as caught:
        recipes.compose("ltcc", file=Path("old.yaml"))
    assert "res50_cels_cal_16x4" in caught.value.hint


def test_flags_are_settings(tmp_path: Path) -> None:
    cfg = recipes.compose("linemod", root=tmp_path, output=tmp_path / "o", tag="t", cls="cat")
    assert (Path(cfg.DATA.ROOT), Path(cfg.OUTPUT)) == (tmp_path, tmp_path / "o")
    assert (cfg.TAG, cfg.DATA.CLS) == ("cat-t", "cat")
    assert recipes.compose("linemod", cls="cat").TAG == "cat"


def test_the_root_flag_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFREID_DATA", "/environment")
    assert recipes.compose("ycb").DATA.ROOT == "/environment"
    assert recipes.compose("ycb", root=Path("/flag")).DATA.ROOT == "/flag"


@pytest.mark.parametrize("name", ["YCB", ""])
def test_an_unknown_dataset_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown dataset {name!r}"):
        recipes.compose(name)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("TRAIN.BATCH_NORM", "synced"), "TRAIN.BATCH_NORM is 'synced'"),
        (("MODEL.POINTS", "100"), "MODEL.POINTS is 100"),
        (("DATA.LAYOUT", "coco"), "DATA.LAYOUT is 'coco'"),
        (("TASK", "reid"), "TASK and DATASET are determined by --dataset"),
        (("DATASET", "ycb"), "TASK and DATASET are determined by --dataset"),
    ],
)
def test_invalid_values_are_refused(pair: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipes.compose("toy-pose", pairs=pair)


@pytest.mark.parametrize("cls", [None, "aple"])
def test_only_linemod_has_one_network_per_object(cls: str | None) -> None:
    with pytest.raises(UserError) as caught:
        recipes.compose("linemod", cls=cls)
    assert caught.value.hint.startswith("use --cls NAME, one of: ape, ")
    with pytest.raises(UserError, match="one network for all objects"):
        recipes.compose("ycb", cls="ape")


def test_two_configurations_share_nothing() -> None:
    changed = recipes.compose("toy-pose", pairs=["TRAIN.BATCH", "2"])
    assert changed.TRAIN.BATCH == 2
    assert recipes.compose("toy-pose").TRAIN.BATCH != 2


def test_a_checkpoint_has_its_settings_object_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = recipes.compose("linemod", cls="ape", root=tmp_path, pairs=["DATA.SHRINK", "4"])
    state = {"dataset": "linemod", "classes": ["ape"], "config": cfg.dump()}
    data = recipes.compose_like(state, "best.pth").DATA
    found = [data.SHRINK, data.CLS, data.ROOT]
    assert found == [4, "ape", str(tmp_path)]
    assert recipes.compose_like(state, "best.pth", pairs=["DATA.SHRINK", "2"]).DATA.SHRINK == 2
    other = tmp_path / "other"
    roots = [recipes.compose_like(state, "best.pth", root=other).DATA.ROOT]
    monkeypatch.setenv("FFREID_DATA", str(other))
    roots.append(recipes.compose_like(state, "best.pth").DATA.ROOT)
    assert set(roots) == {str(other)}
    del state["config"]
    assert recipes.compose_like(state, "best.pth").DATA.CLS == "ape"
    with pytest.raises(UserError, match="does not name its dataset"):
        recipes.compose_like({}, "old.pth.tar")
    assert recipes.compose_like({}, "old.pth.tar", dataset="linemod", cls="cat").DATA.CLS == "cat"
    cfg = recipes.compose("toy-pose", cls="duck")
    state = {"dataset": "toy-pose", "classes": ["duck"], "config": cfg.dump()}
    assert recipes.compose_like(state, "best.pth").DATA.CLS == "duck"
