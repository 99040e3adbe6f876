"""All datasets of re-identification, one entry each; nothing heavy is imported.

A new dataset is a reader in ``reid/data/readers/``, an entry here and a recipe
``configs/reid/<name>.yaml``.
"""

from dataclasses import dataclass

_VC_CLOTHES = "VC-Clothes/{train,query,gallery}/PPPP-C-OO-N.jpg (person, camera, clothes, image)"


@dataclass(frozen=True)
class DatasetInfo:
    """How a dataset is stored and read.

    Attributes:
        reader: ``module:function`` in ``reid/data/readers``; "" for toy data.
        tree: the files expected at or below the root.
        is_video: tracklets instead of images.
        has_val: whether it has a validation split.
        is_toy: generated on first use.
    """

    reader: str = ""
    tree: str = ""
    is_video: bool = False
    has_val: bool = False
    is_toy: bool = False


DATASETS = {
    "ltcc": DatasetInfo(
        "ltcc:read",
        "LTCC_ReID/{train,query,test}/PPP_O_cC_NNNNNN.png (person, clothes, camera, image)",
    ),
    "prcc": DatasetInfo(
        "prcc:read",
        "prcc/rgb/{train,val}/PPP/{A,B,C}_*.jpg, prcc/rgb/test/{A,B,C}/PPP/*.jpg",
        has_val=True,
    ),
    "vcclothes": DatasetInfo("vcclothes:read", _VC_CLOTHES),
    "vcclothes_sc": DatasetInfo("vcclothes:read_same_clothes", _VC_CLOTHES),
    "vcclothes_cc": DatasetInfo("vcclothes:read_changed_clothes", _VC_CLOTHES),
    "last": DatasetInfo(
        "last:read",
        "last/train/PPPPPP/PPPPPP_*_O.jpg, last/{val,test}/query/PPPPPP_*.jpg, "
        "last/{val,test}/gallery/PPPPPP/PPPPPP_*.jpg",
        has_val=True,
    ),
    "deepchange": DatasetInfo(
        "deepchange:read",
        "DeepChangeDataset/{train-set,val-set-query,val-set-gallery,test-set-query,"
        "test-set-gallery}/*.jpg, each with its list: train-set-bbox.txt, …",
        has_val=True,
    ),
    "ccvid": DatasetInfo(
        "ccvid:read",
        "CCVID/{train,query,gallery}.txt with lines 'session1/001_01 001 u0_l0_s0_c0_a0', "
        "frames CCVID/session1/001_01/00001.jpg, …",
        is_video=True,
    ),
    "folder": DatasetInfo(
        "folder:read",
        "records.csv with the columns path,identity,camera,clothes,split, or images in "
        "{train,query,gallery}/<identity>/",
    ),
    "market1501": DatasetInfo(
        "market1501:read", "{bounding_box_train,query,bounding_box_test}/PPPP_cCsS_NNNNNN_NN.jpg"
    ),
    "toy": DatasetInfo(is_toy=True),
    "toy-video": DatasetInfo(is_toy=True, is_video=True),
}
"""Datasets by DATA.LAYOUT."""
