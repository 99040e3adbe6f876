"""Settings are merged by type, and every mistake names its source and what to type."""

from pathlib import Path
from typing import Any

import pytest
from yacs.config import CfgNode

from ffreid import config
from ffreid.errors import UserError


def tree() -> CfgNode:
    return CfgNode(
        {
            "SEED": 0,
            "NAME": "default",
            "TRAIN": {"BATCH": 8, "LR_MAX": 1e-3, "AUGMENT": True, "NESTED": {"DEEP": 1}},
            "FRAMES": [],
        }
    )


def merged(*pairs: str) -> CfgNode:
    cfg = tree()
    config.merge_pairs(cfg, pairs)
    return cfg


def from_file(folder: Path, text: str) -> CfgNode:
    (folder / "recipe.yaml").write_text(text)
    cfg = tree()
    config.merge_file(cfg, folder / "recipe.yaml")
    return cfg


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("SEED", "3", 3),
        ("SEED", "-3", -3),
        ("SEED", "4.0", 4),
        ("SEED", "1e3", 1000),
        ("NAME", "3", "3"),
        ("NAME", "true", "true"),
        ("NAME", "", ""),
        ("NAME", "a: b", "a: b"),
        ("TRAIN.LR_MAX", "2", 2.0),
        ("TRAIN.LR_MAX", "1e-5", 1e-5),
        ("TRAIN.LR_MAX", "1.0e-5", 1e-5),
        ("TRAIN.AUGMENT", "false", False),
        ("TRAIN.AUGMENT", "False", False),
        ("TRAIN.NESTED.DEEP", "2", 2),
        ("FRAMES", "data/0000/000001", ["data/0000/000001"]),
        ("FRAMES", "000001", ["000001"]),
        ("FRAMES", "[a, b]", ["a", "b"]),
    ],
)
def test_words_take_the_type_of_the_default(key: str, text: str, value: Any) -> None:
    found = config.lookup(merged(key, text), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("SEED", "1.5"),
        ("SEED", "many"),
        ("SEED", "true"),
        ("SEED", "nan"),
        ("SEED", "[1]"),
        ("TRAIN.LR_MAX", "fast"),
        ("TRAIN.LR_MAX", "true"),
        ("TRAIN.AUGMENT", "1"),
        ("TRAIN.AUGMENT", "perhaps"),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, text: str) -> None:
    with pytest.raises(UserError, match=f"{key} in the command line is") as caught:
        merged(key, text)
    assert caught.value.hint.startswith(f"write for example: {key} ")


@pytest.mark.parametrize("key", ["TRAIN.LR_MAX", "SEED", "TRAIN.AUGMENT", "NAME"])
def test_the_example_in_a_hint_works(tmp_path: Path, key: str) -> None:
    nested = "".join(f"{part}: {{" for part in key.split("."))[:-1]
    with pytest.raises(UserError) as caught:
        from_file(tmp_path, nested + "[x]" + "}" * key.count("."))
    config.merge_pairs(tree(), caught.value.hint.removeprefix("write for example: ").split())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("TRAIN.BACH", "TRAIN.BATCH"),
        ("train.batch", "TRAIN.BATCH"),
        ("BATCH", "TRAIN.BATCH"),
        ("SEEED", "SEED"),
        ("TRAIN.NESTED.DEP", "TRAIN.NESTED.DEEP"),
    ],
)
def test_a_mistyped_key_brings_a_suggestion(typed: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"unknown key {typed} in the command line") as caught:
        merged(typed, "1")
    assert caught.value.hint == f"did you mean {meant}? (now {config.lookup(tree(), meant)!r})"


@pytest.mark.parametrize("key", ["TRAIN", "TRAIN.BATCH.SIZE", "XYZZY", "", "."])
def test_what_is_no_setting_is_refused(key: str) -> None:
    with pytest.raises(UserError, match="unknown key"):
        merged(key, "1")


def test_a_key_without_a_value_is_refused() -> None:
    with pytest.raises(UserError, match=r"'TRAIN\.BATCH' has no value"):
        merged("SEED", "1", "TRAIN.BATCH")


def test_later_words_win() -> None:
    assert merged("SEED", "1", "SEED", "2").SEED == 2


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    cfg = from_file(tmp_path, "TRAIN:\n  LR_MAX: 1e-2\n  NESTED: {DEEP: 5}\nFRAMES: [a]\n")
    assert (cfg.TRAIN.LR_MAX, cfg.TRAIN.NESTED.DEEP, cfg.FRAMES) == (0.01, 5, ["a"])
    assert (cfg.TRAIN.BATCH, cfg.SEED) == (8, 0)


@pytest.mark.parametrize("text", ["", "# nothing\n", "TRAIN: {}\n"])
def test_a_file_without_keys_changes_nothing(tmp_path: Path, text: str) -> None:
    assert from_file(tmp_path, text) == tree()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TRAIN: [1", "is no YAML"),
        ("\t- x: 1", "is no YAML"),
        ("\x00", "is no YAML"),
        ("- 1\n- 2\n", "holds no keys"),
        ("just words", "holds no keys"),
        ("TRAIN:\n  BACH: 1\n", "unknown key TRAIN.BACH"),
        ("TRAIN: 8\n", "unknown key TRAIN"),
        ("TRAIN:\n  BATCH: many\n", "TRAIN.BATCH in "),
        ("NAME: 3\n", "NAME in "),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        from_file(tmp_path, text)
    assert "recipe.yaml" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_of_bytes_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(UserError, match="is no YAML"):
        config.merge_file(tree(), tmp_path / "a.yaml")


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot read") as caught:
        config.merge_file(tree(), tmp_path / name)
    assert "--cfg" in caught.value.hint


def test_keys_are_dotted() -> None:
    assert list(config.keys(tree())) == [
        "SEED",
        "NAME",
        "TRAIN.BATCH",
        "TRAIN.LR_MAX",
        "TRAIN.AUGMENT",
        "TRAIN.NESTED.DEEP",
        "FRAMES",
    ]


def test_choices_are_checked() -> None:
    config.check_choices(tree(), {"NAME": ("default", "other")})
    with pytest.raises(UserError, match="NAME is 'default'") as caught:
        config.check_choices(tree(), {"NAME": ("a", "b")})
    assert caught.value.hint == "choose one of: a, b"


def test_least_values_are_checked() -> None:
    config.check_least(tree(), {"TRAIN.BATCH": 8})
    with pytest.raises(UserError, match=r"TRAIN\.BATCH is 8"):
        config.check_least(tree(), {"TRAIN.BATCH": 9})


def test_differing_names_the_keys_that_two_configurations_share_and_set_otherwise() -> None:
    earlier, now = CfgNode({"A": {"B": 1, "C": 2}}), CfgNode({"A": {"B": 5, "D": 2}})
    assert config.differing(now, earlier.dump()) == [("A.B", 1, 5)]
