"""Small trees in the real layouts of all datasets, with empty images."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

LTCC = """
LTCC_ReID/train/005_1_c1_027272.png LTCC_ReID/train/005_1_c3_014212.png
LTCC_ReID/train/012_2_c1_005609.png LTCC_ReID/train/012_10_c12_025509.png
LTCC_ReID/train/094_1_c10_024456.png LTCC_ReID/train/094_2_c4_004306.png
LTCC_ReID/query/003_1_c9_018487.png LTCC_ReID/query/044_1_c6_028023.png
LTCC_ReID/test/003_1_c10_005148.png LTCC_ReID/test/003_2_c11_023891.png
LTCC_ReID/test/044_1_c4_018408.png LTCC_ReID/test/044_2_c6_021175.png
LTCC_ReID/test/150_1_c10_029456.png
"""
PRCC = """
prcc/rgb/train/001/A_cropped_rgb027.jpg prcc/rgb/train/001/B_cropped_rgb206.jpg
prcc/rgb/train/001/C_cropped_rgb053.jpg prcc/rgb/train/002/A_cropped_rgb711.jpg
prcc/rgb/train/002/B_cropped_rgb278.jpg prcc/rgb/train/002/C_cropped_rgb315.jpg
prcc/rgb/val/001/A_cropped_rgb842.jpg prcc/rgb/val/001/B_cropped_rgb198.jpg
prcc/rgb/val/001/C_cropped_rgb245.jpg prcc/rgb/val/002/A_cropped_rgb841.jpg
prcc/rgb/val/002/B_cropped_rgb385.jpg
prcc/rgb/test/A/004/cropped_rgb285.jpg prcc/rgb/test/A/004/cropped_rgb351.jpg
prcc/rgb/test/A/037/cropped_rgb143.jpg prcc/rgb/test/A/037/cropped_rgb362.jpg
prcc/rgb/test/B/004/cropped_rgb333.jpg prcc/rgb/test/B/037/cropped_rgb955.jpg
prcc/rgb/test/C/004/cropped_rgb081.jpg prcc/rgb/test/C/037/cropped_rgb191.jpg
"""
VC_CLOTHES = """
VC-Clothes/train/0001-01-01-08.jpg VC-Clothes/train/0001-03-02-02.jpg
VC-Clothes/train/0009-02-01-12.jpg VC-Clothes/train/0009-04-01-06.jpg
VC-Clothes/query/0300-01-02-12.jpg VC-Clothes/query/0300-02-01-02.jpg
VC-Clothes/query/0411-03-01-08.jpg VC-Clothes/query/0411-04-03-04.jpg
VC-Clothes/gallery/0300-01-02-01.jpg VC-Clothes/gallery/0300-03-01-04.jpg
VC-Clothes/gallery/0411-02-01-08.jpg VC-Clothes/gallery/0411-03-01-09.jpg
VC-Clothes/gallery/0411-04-03-08.jpg
"""
LAST = """
last/train/000000/000000_068_03880_0.jpg last/train/000000/000000_135_03369_1.jpg
last/train/000003/000003_154_05688_0.jpg last/train/000003/000003_105_02420_0.jpg
last/val/query/005001_073_01457.jpg last/val/gallery/005001/005001_077_05587.jpg
last/val/gallery/999999/999999_000_00000.jpg
last/test/query/005100_187_01251.jpg last/test/query/005250_011_00526.jpg
last/test/gallery/005100/005100_014_06893.jpg last/test/gallery/005250/005250_253_09886.jpg
last/test/gallery/999999/999999_000_00001.jpg
"""
MARKET = """
bounding_box_train/0002_c1s1_000451_03.jpg bounding_box_train/0002_c2s1_000301_01.jpg
bounding_box_train/0007_c3s3_077419_03.jpg query/0001_c1s1_001051_00.jpg
bounding_box_test/-1_c1s1_000401_03.jpg bounding_box_test/0000_c1s1_000151_01.jpg
bounding_box_test/0001_c2s1_001976_01.jpg
"""
DEEPCHANGE = {
    "train-set": """P10_C12_20200102_08_49586_0.jpg,1 P2_C7_20190301_12_90815_0.jpg,2
        P2_C11_20191224_20_38963_0.jpg,3 P2_C11_20191224_12_27693_1.jpg,3""",
    "val-set-query": "P7_C10_20190301_20_20752_0.jpg,7 P7_C17_20191224_09_86548_0.jpg,8",
    "val-set-gallery": "P7_C17_20190301_17_17192_0.jpg,11",
    "test-set-query": "P400_C17_20190301_09_99370_0.jpg,15 P400_C6_20200102_08_32627_0.jpg,16",
    "test-set-gallery": "P400_C5_20190715_12_99828_0.jpg,19 P999_C2_20190715_14_11155_0.jpg,23",
}
CCVID = {
    "train": """session2/012_01 012 u0_l0_s0_c0_a0;session1/005_02 005 u1_l1_s0_c0_a0
        session3/005_05 005 u0_l0_s0_c0_a0""",
    "query": "session3/001_11 001 u0_l0_s0_c0_a0",
    "gallery": "session1/001_04 001 u0_l0_s0_c0_a0;session2/001_02 001 u1_l0_s0_c1_a0",
}
FRAMES = 5
TABLE = """path,identity,camera,clothes,split
a/1.jpg,anna,door,red,train
a/2.jpg,anna,yard,green,train
b/1.jpg,ben,door,blue,train
c/1.jpg,10,door,black,query
c/2.jpg,10,yard,black,gallery
d/1.jpg,9,yard,white,gallery
"""


def build(name: str, folder: Path) -> Path:
    """Build the dataset `name` below `folder`, which is the root to read it from."""
    lists, images = contents(name)
    return write(folder, lists, images)


def fill(root: Path, height: int, width: int) -> None:
    """Replace the empty images below `root` by noise."""
    rng = np.random.default_rng(5)
    for path in sorted(root.rglob("*")):
        if path.suffix in (".jpg", ".png"):
            assert cv2.imwrite(str(path), rng.integers(0, 256, (height, width, 3), np.uint8))


def write(folder: Path, texts: Mapping[str, str], empty: Iterable[str]) -> Path:
    """Write files of text and empty ones below `folder`."""
    for path, text in chain(texts.items(), ((path, "") for path in empty)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, newline="")
    return folder


def contents(name: str) -> tuple[dict[str, str], list[str]]:
    """Files of text by path, and paths of empty images, of the dataset `name`."""
    if name == "deepchange":
        return _deepchange()
    if name == "ccvid":
        return _ccvid()
    if name == "folder":
        paths = [line.partition(",")[0] for line in TABLE.splitlines()[1:]]
        return {"records.csv": TABLE}, paths
    flat = {
        "ltcc": LTCC,
        "prcc": PRCC,
        "vcclothes": VC_CLOTHES,
        "vcclothes_sc": VC_CLOTHES,
        "vcclothes_cc": VC_CLOTHES,
        "last": LAST,
        "market1501": MARKET,
    }
    texts = {"LTCC_ReID/info/cloth-change_id_test.txt": "3\n44\n"} if name == "ltcc" else {}
    return texts, flat[name].split()


def frames(tracklet: str, numbers: Sequence[int]) -> list[str]:
    """Paths of a CCVID tracklet's frames."""
    return [f"CCVID/{tracklet}/{number:05d}.jpg" for number in numbers]


def _deepchange() -> tuple[dict[str, str], list[str]]:
    lists = {part: lines.split() for part, lines in DEEPCHANGE.items()}
    images = [
        f"DeepChangeDataset/{part}/{line.partition(',')[0]}"
        for part, lines in lists.items()
        for line in lines
    ]
    texts = {
        f"DeepChangeDataset/{part}-bbox.txt": "\n".join(lines) + "\n"
        for part, lines in lists.items()
    }
    return texts, images


def _ccvid() -> tuple[dict[str, str], list[str]]:
    lists = {
        part: [line.split() for line in text.replace(";", "\n").splitlines()]
        for part, text in CCVID.items()
    }
    # The real lists have tabs, and line ends of Windows.
    texts = {
        f"CCVID/{part}.txt": "".join("\t".join(line) + "\r\n" for line in lines)
        for part, lines in lists.items()
    }
    tracklets = [line[0] for lines in lists.values() for line in lines]
    return texts, [path for t in tracklets for path in frames(t, range(1, FRAMES + 1))]
