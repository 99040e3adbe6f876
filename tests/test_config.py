"""Settings are merged by type; errors give their source and a valid example."""

import time
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
            "TRAIN": {"BATCH": 8, "LR": 1e-3, "AUGMENT": True, "NESTED": {"DEEP": 1}},
            "FRAMES": [],
            "STEPS": [20, 40],
        }
    )


def merged(*pairs: str) -> CfgNode:
    cfg = tree()
    config.merge_pairs(cfg, pairs)
    return cfg


def from_file(folder: Path, text: str | bytes) -> CfgNode:
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    cfg = tree()
    config.merge_file(cfg, path)
    return cfg


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("SEED", "-3", -3),
        ("SEED", "4.0", 4),
        ("SEED", "1e3", 1000),
        ("SEED", "12345678901234567", 12345678901234567),
        ("NAME", "3", "3"),
        ("NAME", "", ""),
        ("NAME", "2024-02-30", "2024-02-30"),
        ("NAME", "!!binary x", "!!binary x"),
        ("TRAIN.LR", "2", 2.0),
        ("TRAIN.LR", "1e-5", 1e-5),
        ("TRAIN.AUGMENT", "no", False),
        ("TRAIN.NESTED.DEEP", "2", 2),
        ("FRAMES", "000001", ["000001"]),
        ("FRAMES", "[a, 000001]", ["a", "000001"]),
        ("FRAMES", "2024-02-30", ["2024-02-30"]),
        ("STEPS", "20", [20]),
        ("STEPS", "[20, 30]", [20, 30]),
        ("STEPS", "[]", []),
    ],
)
def test_values_take_the_type_of_the_default(key: str, text: str, value: Any) -> None:
    result = config.lookup(merged(key, text), key)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("SEED", "1.5", "an integer"),
        ("SEED", "many", "an integer"),
        ("SEED", "true", "an integer"),
        ("SEED", "nan", "an integer"),
        ("SEED", "1e999999999", "an integer"),
        ("SEED", "[1]", "an integer"),
        ("TRAIN.LR", "fast", "a finite number"),
        ("TRAIN.LR", "nan", "a finite number"),
        ("TRAIN.LR", "inf", "a finite number"),
        ("TRAIN.LR", "true", "a finite number"),
        ("TRAIN.AUGMENT", "1", "true or false"),
        ("STEPS", "[20, x]", "a list, each item an integer"),
        ("STEPS", "[20", "a list"),
        ("STEPS", "0.5", "a list, each item an integer"),
    ],
)
def test_a_value_of_another_type_is_refused_with_an_example_that_works(
    key: str, text: str, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        merged(key, text)
    message = f"{key} is {text!r} on the command line; expected {expected}"
    assert caught.value.message.startswith(message)
    merged(*caught.value.hint.removeprefix("use e.g. ").split())


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("TRAIN.BACH", "TRAIN.BATCH"),
        ("train.batch", "TRAIN.BATCH"),
        ("BATCH", "TRAIN.BATCH"),
        ("SEEED", "SEED"),
        ("TRAIN.NESTED.DEP", "TRAIN.NESTED.DEEP"),
    ],
)
def test_a_mistyped_key_has_a_suggestion(typed: str, expected: str) -> None:
    with pytest.raises(UserError, match=f"unknown key {typed} on the command line") as caught:
        merged(typed, "1")
    assert (
        caught.value.hint == f"did you mean {expected}? (now {config.lookup(tree(), expected)!r})"
    )


@pytest.mark.parametrize("key", ["TRAIN", "TRAIN.BATCH.SIZE", "XYZZY", "", "."])
def test_an_unknown_key_is_refused(key: str) -> None:
    with pytest.raises(UserError, match="unknown key"):
        merged(key, "1")


def test_the_last_of_repeated_keys_is_used() -> None:
    assert merged("SEED", "1", "SEED", "2").SEED == 2


def test_a_file_changes_only_its_keys(tmp_path: Path) -> None:
    cfg = from_file(tmp_path, "TRAIN:\n  LR: 1e-2\n  NESTED: {DEEP: 5}\nFRAMES: a\nSTEPS: 7\n")
    assert (cfg.TRAIN.LR, cfg.TRAIN.NESTED.DEEP, cfg.FRAMES, cfg.STEPS) == (0.01, 5, ["a"], [7])
    assert (cfg.TRAIN.BATCH, cfg.SEED) == (8, 0)


@pytest.mark.parametrize("text", ["", "# nothing\n", "TRAIN: {}\n", "TRAIN:\n"])
def test_a_file_without_values_changes_nothing(tmp_path: Path, text: str) -> None:
    assert from_file(tmp_path, text) == tree()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TRAIN: [1", "is not valid YAML"),
        ("\t- x: 1", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
        (b"\xff\xfe\x80", "is not valid YAML"),
        ("SEED: !!timestamp 2024-02-30", "is not valid YAML"),
        ("- 1\n- 2\n", "has no keys"),
        ("only text", "has no keys"),
        ("TRAIN:\n  BACH: 1\n", "unknown key TRAIN.BACH in "),
        ("TRAIN: 8\n", "unknown key TRAIN in "),
        ("TRIAN:\n", "unknown key TRIAN in "),
        ("TRAIN:\n  BATCH: many\n", "TRAIN.BATCH is 'many' in "),
        ("TRAIN:\n  BATCH:\n", "TRAIN.BATCH is empty in "),
        ("NAME: 3\n", "NAME is 3 in "),
        ("FRAMES: [3]\n", r"FRAMES is \[3\] in "),
        ("STEPS: [20, x]\n", "STEPS is .* in "),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        from_file(tmp_path, text)
    assert "recipe.yaml" in caught.value.message
    assert "\n" not in caught.value.message


def test_choices_and_minima_are_checked() -> None:
    config.check_choices(tree(), {"NAME": ("default", "other")})
    with pytest.raises(UserError, match="NAME is 'default'") as caught:
        config.check_choices(tree(), {"NAME": ("a", "b")})
    assert caught.value.hint == "choose one of: a, b"
    config.check_least(tree(), {"TRAIN.BATCH": 8})
    with pytest.raises(UserError, match=r"TRAIN\.BATCH is 8"):
        config.check_least(tree(), {"TRAIN.BATCH": 9})


def test_differing_lists_shared_keys_with_other_values() -> None:
    earlier, now = CfgNode({"A": {"B": 1, "C": 2}}), CfgNode({"A": {"B": 5, "D": 2}})
    assert config.differing(now, earlier.dump()) == [("A.B", 1, 5)]


def test_newer_keys_have_the_value_that_older_configurations_meant() -> None:
    now = CfgNode({"DATA": {"DECODE": "fast", "SKIP_BROKEN": False}})
    older = CfgNode({"DATA": {"SKIP_BROKEN": False}})
    assert config.differing(now, older.dump()) == [("DATA.DECODE", "pil", "fast")]
    assert config.differing(now, now.dump()) == []
    assert config.differing(now, "{}") == []


PRECISION = {"TRAIN": {"PRECISION": "fp32"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("TRAIN: {AMP: true, PRECISION: fp32}", "amp"),
        ("TRAIN: {AMP: false, PRECISION: bf16}", "bf16"),
        ("TRAIN: {AMP: true}", "amp"),
    ],
)
def test_an_old_key_is_accepted_with_a_note_if_it_changes_something(
    tmp_path: Path, text: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.yaml").write_text(text)
    cfg = CfgNode(PRECISION)
    config.merge_file(cfg, tmp_path / "old.yaml")
    assert value == cfg.TRAIN.PRECISION
    note = f"note: TRAIN.AMP in {tmp_path}/old.yaml is deprecated; use TRAIN.PRECISION amp\n"
    assert capsys.readouterr().err == (note if value == "amp" else "")
    assert config.differing(cfg, text) == []
    config.merge_pairs(cfg, ["TRAIN.AMP", "false"])
    assert ("fp32" if value == "amp" else value) == cfg.TRAIN.PRECISION


def nested(depth: int) -> str:
    return "TRAIN: " + "[" * depth + "]" * depth


def laughs(levels: int, open_: str = "[", close: str = "]") -> str:
    """Each level repeats the one before nine times."""
    lines = [f"a0: &a0 {open_}x{close}" if open_ == "[" else "a0: &a0 {k: x}"]
    for level in range(1, levels):
        items = [f"*a{level - 1}" for _ in range(9)]
        if open_ == "{":
            items = [f"k{i}: {item}" for i, item in enumerate(items)]
        lines.append(f"a{level}: &a{level} {open_}{', '.join(items)}{close}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (nested(5000), "nested too deeply"),
        (nested(100_000), "nested too deeply"),
        ("a: &a [*a]", "aliases expand"),
        ("a: &a {b: *a}", "aliases expand"),
        (laughs(30), "aliases expand"),
        (laughs(30, "{", "}"), "aliases expand"),
        ("SEED: " + "1" * 5000, "an integer of 5,000 characters"),
        ("SEED: 0x" + "f" * 5000, "an integer of 5,002 characters"),
        ("SEED: 1" + ":1" * 200_000, "an integer of 400,001 characters"),
        ("? 0b" + "1" * 20_000 + "\n: 1", "an integer of 20,002 characters"),
        ("SEED: !!timestamp 2024-02-30", "not valid YAML"),
        ("SEED: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("SEED: \x1b[31m", "not valid YAML"),
        ("SEED: '" + "x" * 10**6 + "'", "SEED is 'xxx"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_yaml_is_read_in_bounded_time_and_its_errors_are_short(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        config.merge_file(tree(), tmp_path / "a.yaml")
    assert problem in caught.value.message
    assert len(caught.value.message) < 2100
    assert caught.value.message.isprintable()
    assert time.monotonic() - started < 5


def test_aliases_and_shared_values_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("SEED: &n 3\nSTEPS: [*n, *n]\nTRAIN: {BATCH: *n}\n")
    cfg = tree()
    config.merge_file(cfg, tmp_path / "a.yaml")
    assert (cfg.SEED, cfg.STEPS, cfg.TRAIN.BATCH) == (3, [3, 3], 3)


@pytest.mark.parametrize(
    "text", ["2024-02-30", "2024-01-01", "!!python/none x", "!tag", "&a *a", "{a: b", "null", "~"]
)
def test_text_on_the_command_line_is_never_yaml(text: str) -> None:
    assert text == merged("NAME", text).NAME
    assert merged("FRAMES", f"[{text.strip('{')}]" if text[0] not in "!&{" else text).FRAMES


@pytest.mark.parametrize("text", ["[" * 5000, "[&a [*a]]", "9" * 5000, "9" * 10**6])
def test_hostile_values_on_the_command_line_are_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        merged("STEPS", text)
    assert len(caught.value.message) < 2100
