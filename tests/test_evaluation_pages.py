"""Pages of evaluations: whole, self-contained, quiet in a browser."""

import re
from pathlib import Path

import pytest
import torch

from ffreid.reid.evaluation_page import BINS, similarity_histograms
from tests.browser import open_page
from tests.commands import exit_code
from tests.makers import toy_folder
from tests.reid.synthetic_features import synthetic_features

TOY = (
    "DATA.TOY.TRAIN 4 DATA.TOY.TEST 2 DATA.TOY.SYNTHETIC 2 DATA.WORKERS 0",
    "DATA.TOY.IDENTITIES 2 DATA.TOY.TEST_IDENTITIES 3 DATA.TOY.OUTFITS 2 DATA.TOY.PICTURES 2 "
    "DATA.NUM_WORKERS 0 DATA.HEIGHT 32 DATA.WIDTH 16",
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of poses voted by labels, and one of random features."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("pages")
    weights = folder / "net.pth"
    options = f"--output {folder} --root"
    command = f"eval --dataset toy-pose --test-gt {options} {toy_folder(folder / 'data')} {TOY[0]}"
    assert exit_code(f"{command} --report {folder}/pose.html") == 0
    from ffreid.reid.model import NETWORKS

    torch.save(NETWORKS["resnet50"]().state_dict(), weights)
    command = f"eval --dataset toy-reid --checkpoint {weights} {options} {folder / 'data'} {TOY[1]}"
    assert exit_code(f"{command} --report {folder}/reid.html") == 0
    return {name: folder / f"{name}.html" for name in ("pose", "reid")}


@pytest.mark.parametrize(
    ("name", "titles", "figures", "images"),
    [
        ("pose", ("Results", "Accuracy", "Worst cases", "Time", "Settings"), 2, 9),
        ("reid", ("Results", "Cumulative matching", "Rank lists", "Time"), 4, 6),
    ],
)
def test_a_page_has_its_figures_and_needs_no_network(
    pages: dict[str, Path],
    tmp_path: Path,
    name: str,
    titles: tuple[str, ...],
    figures: int,
    images: int,
) -> None:
    text = pages[name].read_text()
    assert len(text) < 10_000_000
    assert all(f"<h2>{title}</h2>" in text for title in titles)
    assert text.count("<svg") == figures
    assert text.count('src="data:image/jpeg') >= images
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "url(http" not in text
    dom = open_page(pages[name], tmp_path)
    assert dom.count("<svg") == figures
    assert dom.count("<tr>") > 4


def test_similarities_are_of_the_pairs_that_the_protocol_compares() -> None:
    features = synthetic_features()
    for protocol in features.protocols:
        same, other = similarity_histograms(features, protocol)
        assert len(same) == BINS
        assert 0 < same.sum() < other.sum()


def test_a_file_that_is_no_page_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("mine")
    command = f"eval --dataset toy-pose --test-gt --report {tmp_path}/notes.html"
    assert exit_code(f"{command} --root {toy_folder(tmp_path / 'data')} {TOY[0]}") == 2
    assert (tmp_path / "notes.html").read_text() == "mine"
