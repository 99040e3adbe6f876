"""How the data sets lie on disk, in a line each, for errors; imports nothing."""

_VC_CLOTHES = "VC-Clothes/{train,query,gallery}/PPPP-C-OO-N.jpg (person, camera, outfit, picture)"

TREES = {
    "ltcc": "LTCC_ReID/{train,query,test}/PPP_O_cC_NNNNNN.png (person, outfit, camera, picture)",
    "prcc": "prcc/rgb/{train,val}/PPP/{A,B,C}_*.jpg, prcc/rgb/test/{A,B,C}/PPP/*.jpg",
    "vcclothes": _VC_CLOTHES,
    "vcclothes_sc": _VC_CLOTHES,
    "vcclothes_cc": _VC_CLOTHES,
    "last": (
        "last/train/PPPPPP/PPPPPP_*_O.jpg, last/{val,test}/query/PPPPPP_*.jpg, "
        "last/{val,test}/gallery/PPPPPP/PPPPPP_*.jpg"
    ),
    "deepchange": (
        "DeepChangeDataset/{train-set,val-set-query,val-set-gallery,test-set-query,"
        "test-set-gallery}/*.jpg, and a list beside each: train-set-bbox.txt, …"
    ),
    "ccvid": (
        "CCVID/{train,query,gallery}.txt with lines 'session1/001_01 001 u0_l0_s0_c0_a0', "
        "frames CCVID/session1/001_01/00001.jpg, …"
    ),
    "folder": (
        "records.csv with the columns path,identity,camera,clothes,split, or pictures in "
        "{train,query,gallery}/<identity>/"
    ),
    "market1501": "{bounding_box_train,query,bounding_box_test}/PPPP_cCsS_NNNNNN_NN.jpg",
}
"""What is expected at or below the root, by data set."""
