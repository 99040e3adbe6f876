"""The README files: commands and examples run, links, paths, settings and names exist."""

import importlib
import importlib.util
import io
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from itertools import chain
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch
import typer
from torch.distributed.run import get_args_parser

from ffreid import cli, config, runner, tasks
from ffreid.engine.distributed import launch

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", *sorted(ROOT.glob("[!.]*/README.md")), *ROOT.glob("ffreid/*/README.md")]
DOCS += sorted([*ROOT.glob("ffreid/*/*/README.md"), *ROOT.glob("ffreid/*/own_*.md")])
REID = (
    "DATA.TOY.IDENTITIES 2 DATA.TOY.TEST_IDENTITIES 2 DATA.TOY.OUTFITS 2 DATA.TOY.CAMERAS 2 "
    "DATA.TOY.PICTURES 2 DATA.HEIGHT 32 DATA.WIDTH 16 DATA.TRAIN_BATCH 4 DATA.NUM_INSTANCES 2 "
    "DATA.NUM_WORKERS 0 TRAIN.STEPS 1 TRAIN.BN_GROUPS 1"
)
POSE = (
    "DATA.TOY.TRAIN 2 DATA.TOY.TEST 1 DATA.WORKERS 0 TRAIN.BATCH 2 TRAIN.STEPS 1 "
    "TRAIN.VALIDATE_FRAMES 1 TRAIN.EVAL_POSES false VOTE.MAX_POINTS 50"
)
SMALL = {"toy-reid": REID.split(), "toy-pose": POSE.split()}
TRAIN_ON_TOYS = [f"ffreid train --dataset {name}" for name in SMALL]
REPOSITORY_FOLDERS = ("ffreid/", "tests/", "configs/", ".ci/")
OTHER_FLAGS = ("-m", "-n", "--signal")
"""Of Python, pytest and SLURM."""
NOT_IN_REPOSITORY = (
    "configs/default_img.py",
    "gen_obj_info.py",
    "my_cool_root",
    "configs/reid/mini.yaml",
)


EACH_DOC = pytest.mark.parametrize("doc", DOCS, ids=lambda doc: str(doc.relative_to(ROOT)))


def blocks(doc: Path, language: str) -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, doc.read_text(), re.DOTALL | re.MULTILINE)


def prose(doc: Path) -> str:
    """The text without code blocks."""
    return re.sub(r"^```.*?^```$", "", doc.read_text(), flags=re.DOTALL | re.MULTILINE)


def code_spans(doc: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(doc))


def shell_commands() -> list[str]:
    """Each command of the ``sh`` blocks once, without comments."""
    text = "\n".join(block for doc in DOCS for block in blocks(doc, "sh"))
    parts = re.split(r" && |\n", text.replace("\\\n", " "))
    commands = (shlex.join(shlex.split(part, comments=True)) for part in parts)
    return list(dict.fromkeys(filter(None, commands)))


def examples() -> list[Any]:
    return [
        pytest.param(block, id=str(doc.relative_to(ROOT)))
        for doc in DOCS
        for block in blocks(doc, "python")
        if not block.startswith("# ")  # a file to add, or tested elsewhere
    ]


def transcripts() -> list[tuple[str, str]]:
    """Commands with their printed output, from ``text`` blocks that begin with ``$``."""
    texts = [text for doc in DOCS for text in blocks(doc, "text") if text.startswith("$ ")]
    return [(text[2:].partition("\n")[0], text.partition("\n")[2]) for text in texts]


@pytest.fixture
def _clean_environment(monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a short run on each toy dataset and the files in the commands."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FFREID_CACHE", str(folder / "cache"))
        for command in TRAIN_ON_TOYS:
            run_ffreid([*shlex.split(command)[1:], *SMALL[command.split()[-1]]])
        best = folder / "runs/toy-reid/default/best.pth"
        (folder / "best.pth").symlink_to(best)
        run_ffreid(["convert-ckpt", str(best), "old.pth.tar", "--to", "original"])
        for name in ("a", "b"):
            (folder / f"runs/ltcc/{name}").parent.mkdir(exist_ok=True)
            (folder / f"runs/ltcc/{name}").symlink_to(best.parent)
        for name in ("ycb", "lmo", "shelf", "rendered"):
            (folder / "data" / name).mkdir(parents=True)
        drawn = sorted((folder / "cache").glob("toy-reid/*/LTCC_ReID/query/*.png"))
        (folder / "people").mkdir()
        for number, picture in enumerate(drawn):
            (folder / f"people/{number}.png").symlink_to(picture)
        (folder / "anna.jpg").symlink_to(drawn[0])
        (frames,) = (folder / "cache/toy-pose").glob("*/data/0048")
        (folder / "frames").symlink_to(frames)
        camera = {"fx": 213, "fy": 213, "cx": 63, "cy": 48, "depth_scale": 0.1}
        (folder / "camera.json").write_text(json.dumps(camera))
        (folder / "mine.yaml").write_text("TRAIN:\n  MAX_EPOCH: 30\n")
        (folder / "train_lm.sh").write_text("python3 train_lm.py --cls=ape\n")
        yield folder


def run_ffreid(args: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(args)
    assert ended.value.code in (0, None), f"exit code {ended.value.code}: ffreid {args}"


def only_parse(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace what commands start by recording; return the names of the started functions."""
    reached: list[str] = []

    def record(module: str, name: str, result: Any = 0) -> None:
        def called(*_: Any, **__: Any) -> Any:
            reached.append(name)
            return result

        monkeypatch.setattr(f"{module}.{name}", called)

    for name, value in list(vars(runner).items()):
        if isinstance(value, FunctionType) and value.__module__ == runner.__name__:
            record(runner.__name__, name)
    record(launch.__name__, "launch")
    record("ffreid.pose.evaluation", "evaluate_predictions")
    record("ffreid.compare", "compare")
    record("ffreid.smoke", "smoke", True)
    record("ffreid.export", "export", True)
    record("ffreid.pose.object_set.make", "make_objects", {"objects": []})
    record("ffreid.pose.render.command", "render")
    return reached


@pytest.mark.usefixtures("_clean_environment")
@pytest.mark.parametrize("command", shell_commands())
def test_a_command_runs(command: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = shlex.split(command)
    match args:
        case ["ffreid", *_] if command in TRAIN_ON_TOYS:
            assert (workspace / "runs" / args[-1] / "default/best.pth").is_file()
        case ["ffreid" | ".venv/bin/ffreid", *arguments]:
            check_ffreid(arguments, workspace, monkeypatch)
        case ["torchrun", *arguments]:
            parsed = get_args_parser().parse_args(arguments)
            assert (parsed.module, parsed.training_script) == (True, "ffreid")
            check_ffreid(parsed.training_script_args, workspace, monkeypatch)
        case ["python", "-m", module, *arguments]:
            spec = importlib.util.find_spec(module)
            assert spec is not None
            assert spec.origin is not None
            code = Path(spec.origin).read_text()
            assert all(flag in code for flag in arguments if flag.startswith("-"))
        case ["bash" | "pytest", path, *_]:
            assert (ROOT / path).exists()
        case ["pip" | ".venv/bin/pip", "install", "-e", package]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert set(re.findall(r"\w+", package)) <= set(project["optional-dependencies"])
        case _:
            assert command in ("python3 -m venv .venv", ". .venv/bin/activate")


def check_ffreid(arguments: list[str], workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command on toy data; only parse and check a command on real data."""
    arguments = [re.sub(r"^/data", str(workspace / "data"), each) for each in arguments]
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    toys = [name for name in SMALL if name in arguments]
    reached: list[str] | None = None
    if toys:
        arguments += SMALL[toys[0]]
    elif arguments[0] not in ("convert-ckpt", "migrate", "predict", "runs"):
        reached = only_parse(monkeypatch)
    run_ffreid(arguments)
    assert reached is None or reached, "the command did nothing"


@pytest.mark.usefixtures("_clean_environment")
@pytest.mark.parametrize(("command", "output"), transcripts())
def test_a_command_prints_the_documented_output(
    command: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(shlex.split(command)[1:])
    printed = capsys.readouterr()
    assert printed.out + printed.err == output


@pytest.mark.parametrize("code", examples())
def test_an_example_prints_the_values_in_its_comments(code: str) -> None:
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), names)
    for comment in re.findall(r"print\(.*\)  # (?!\()(.+)", code):
        assert comment in printed.getvalue()
    if "features" in names:
        torch.testing.assert_close(names["features"].norm(dim=1), torch.ones(4))
    if "pose" in names:
        assert names["pose"].camera_from_object.shape == (3, 4)
    if "scores" in names:
        assert names["scores"]["CC"]["valid"] == 4


def test_the_example_of_a_dataset_is_read(tmp_path: Path) -> None:
    examples = blocks(ROOT / "ffreid/README.md", "python")
    (block,) = (one for one in examples if one.startswith("# ffreid/"))
    for path in ("train/1_0_1_1", "train/2_0_1_1", "query/3_0_1_1", "gallery/3_1_2_1"):
        (tmp_path / "mini" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mini" / f"{path}.jpg").touch()
    names: dict[str, Any] = {}
    exec(compile(block, "mini.py", "exec"), names)
    source = names["read"](tmp_path)
    assert source.protocol_names("test") == ["general", "SC", "CC"]
    parts = (source.train, source.test.query, source.test.gallery)
    assert [len(part) for part in parts] == [2, 1, 1]
    assert len(source.clothes) == 2


def test_the_readme_is_short_and_every_file_has_examples_that_are_tested() -> None:
    assert len(DOCS) == 13
    assert len(shell_commands()) > 30
    assert len(examples()) == 3
    assert transcripts()
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


@EACH_DOC
def test_links_exist(doc: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(doc)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (doc.parent / path).resolve() if path else doc
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target
        assert file.suffix != ".png" or file.stat().st_size < 150_000, target


def anchors(doc: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a file."""
    headings = re.findall(r"^#+ (.+)$", prose(doc), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH_DOC
def test_paths_of_the_repository_exist(doc: Path) -> None:
    for span in code_spans(doc):
        path = re.sub(r"<\w+>", "*", span)
        is_path = path.startswith(REPOSITORY_FOLDERS) or path.endswith(".py")
        if is_path and re.fullmatch(r"[\w./*-]+", path) and span not in NOT_IN_REPOSITORY:
            folders = (ROOT, doc.parent, ROOT / "tests", ROOT / "ffreid/pose")
            assert any(list(folder.glob(path)) for folder in folders), span


@EACH_DOC
def test_settings_and_flags_exist(doc: Path) -> None:
    defaults = [tasks.defaults(task).defaults() for task in tasks.TASKS]
    settings = {*chain.from_iterable(map(config.keys, defaults)), *config.RENAMED}
    for span in code_spans(doc):
        for key in re.findall(r"\b[A-Z][A-Z0-9_]*(?:\.[A-Z][A-Z0-9_]*)+\b", span):
            assert key in settings, span
        for flag in re.findall(r"(?:^|(?<=\s))--?[a-zA-Z][\w-]*", span):
            is_foreign = flag in (*OTHER_FLAGS, *flags_of_the_originals())
            assert flag in flags() or is_foreign, span


@cache
def flags() -> set[str]:
    group = typer.main.get_command(cli.app)
    commands: Any = getattr(group, "commands").values()  # noqa: B009
    ours = {option for one in commands for parameter in one.params for option in parameter.opts}
    return ours | set(get_args_parser()._option_string_actions)


@cache
def flags_of_the_originals() -> set[str]:
    """All names in `ffreid migrate`, as flags."""
    code = " ".join(path.read_text() for path in (ROOT / "ffreid/migrate").glob("*.py"))
    return {dash + name for name in re.findall(r"\w+", code) for dash in ("-", "--")}


@EACH_DOC
def test_names_of_the_code_exist(doc: Path) -> None:
    for span in code_spans(doc):
        if re.fullmatch(r"ffreid(\.\w+)+", span):
            assert resolve(span) is not None, span
        elif re.fullmatch(r"[a-zA-Z]\w*_\w+|[A-Z]\w*[a-z]\w*", span):
            assert span in NOT_IN_REPOSITORY or re.search(rf"\b{span}\b", source_code()), span
    located = re.findall(r"((?:`\w+`(?:, | and | or )?)+) in\s+`([\w/]+\.py)`", prose(doc))
    for names, path in located:
        for name in re.findall(r"`(\w+)`", names):
            code = (ROOT / path).read_text()
            assert re.search(rf"^((def|class) )?{name}\b", code, re.MULTILINE), f"{name} in {path}"


def resolve(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ImportError:
        return getattr(importlib.import_module(module), attribute, None)


@cache
def source_code() -> str:
    files = chain.from_iterable(ROOT.glob(f"{folder}/**/*.*") for folder in ("ffreid", "configs"))
    kinds = (".py", ".yaml")
    return "\n".join(file.read_text() for file in files if file.suffix in kinds)
