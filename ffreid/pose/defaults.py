"""Every setting of the pose task with its default: the authors' values for YCB-Video."""

from yacs.config import CfgNode

from ffreid.config import check_choices, check_folder, check_least
from ffreid.engine import defaults as engine_defaults
from ffreid.errors import UserError
from ffreid.pose.resources import resource

CHOICES = {
    "DATA.LAYOUT": ("ycb", "linemod", "toy"),
    "DATA.INTRINSICS": ("ycb", "meta"),
    "TRAIN.BATCH_NORM": ("own", "sync", "frozen"),
}
LEAST = {
    "DATA.SHRINK": 1,
    "DATA.WORKERS": 0,
    "MODEL.POINTS": 1024,
    "MODEL.POINT_MOMENTUM": 0,
    "LOSS.OFFSET_SAMPLES": 1e-6,
    "TRAIN.BATCH": 1,
    "TRAIN.EPOCHS": 1,
    "TRAIN.STEPS": 0,
    "TRAIN.LENGTH": 0,
    "TRAIN.CYCLE_DIVISOR": 1,
    "TRAIN.LR_MIN": 0,
    "TRAIN.LR_MAX": 0,
    "TRAIN.WEIGHT_DECAY": 0,
    "TRAIN.VALIDATE_FRAMES": 0,
    "DATA.TOY.TRAIN": 1,
    "DATA.TOY.TEST": 1,
    "DATA.TOY.SYNTHETIC": 0,
    "DATA.TOY.SEED": 0,
    "SEED": 0,
    "VOTE.BANDWIDTH": 1e-6,
    "TEST.BATCH": 1,
    "TEST.LIMIT": 0,
    "VOTE.MAX_POINTS": 0,
}


def defaults() -> CfgNode:
    """A fresh, unfrozen tree of defaults."""
    c = CfgNode()
    c.TASK = "pose"
    c.DATASET = "ycb"  # set by --dataset
    c.SEED = 0  # everything random derives from it
    c.OUTPUT = "runs"  # results go to OUTPUT/DATASET/TAG
    c.TAG = "default"

    c.DATA = CfgNode()
    c.DATA.LAYOUT = "ycb"  # how the files lie: ycb, linemod, toy
    c.DATA.ROOT = ""  # holds the data set's folder, or is it; --root or $FFREID_DATA
    c.DATA.CLS = ""  # LineMOD's object: one network each
    c.DATA.TRAIN_LIST = ""  # file of frame names instead of the data set's own
    c.DATA.TEST_LIST = ""
    c.DATA.INTRINSICS = "ycb"  # the two YCB-Video cameras, or meta.mat's intrinsic_matrix
    c.DATA.SHRINK = 1  # read every n-th row and column; intrinsics follow
    c.DATA.AUGMENT = True
    c.DATA.FRAMES = []  # train and evaluate on these frames alone, without augmentation
    c.DATA.WORKERS = 4  # processes that load; 0 loads in the main process
    c.DATA.TOY = CfgNode()  # what toy-pose renders on first use
    c.DATA.TOY.TRAIN = 300
    c.DATA.TOY.TEST = 50
    c.DATA.TOY.SYNTHETIC = 0
    c.DATA.TOY.HEIGHT = 96
    c.DATA.TOY.WIDTH = 128
    c.DATA.TOY.SEED = 0

    c.MODEL = CfgNode()
    c.MODEL.POINTS = 12800  # N, points a frame
    c.MODEL.POINT_MOMENTUM = 0.99  # RandLA's batch norm; the authors' keeps the last batch alone
    c.MODEL.DROPOUT = True  # False: none, e.g. to compare runs of different numbers of processes
    c.MODEL.BACKBONE = "imagenet"  # ResNet-34: imagenet (torchvision), random, or a file

    c.LOSS = CfgNode()
    c.LOSS.OFFSET_SAMPLES = 3.0  # samples the offset terms sum over (the authors' 3 a process)

    c.TRAIN = CfgNode()
    c.TRAIN.EPOCHS = 25
    c.TRAIN.BATCH = 24  # global: 8 processes of 3 for the authors, any split here
    c.TRAIN.LENGTH = 0  # samples an epoch; 0 is the length of the frame list
    c.TRAIN.STEPS = 0  # length in steps instead of EPOCHS; cycle and validation follow
    c.TRAIN.LR_MIN = 1e-5  # triangular cycle (Smith, WACV 2017)
    c.TRAIN.LR_MAX = 1e-3
    c.TRAIN.CYCLE_DIVISOR = 6  # half cycles in a run: 6 on YCB-Video, 2 on LineMOD
    c.TRAIN.WEIGHT_DECAY = 0.0
    c.TRAIN.BATCH_NORM = "sync"  # statistics of all processes' samples; own process; frozen
    c.TRAIN.BN_MOMENTUM_SCHEDULE = False  # without effect in the authors' training
    c.TRAIN.VALIDATE_FRAMES = 0  # test frames for the validation loss; 0 is all
    c.TRAIN.EVAL_POSES = True  # estimate and score poses when training ends
    engine_defaults.add(c.TRAIN)

    c.VOTE = CfgNode()
    c.VOTE.BANDWIDTH = 0.04  # metres, mean shift
    c.VOTE.USE_CENTRE = True  # the centre is a correspondence too
    c.VOTE.FILTER = True  # only the points of the centre's cluster vote
    c.VOTE.MAX_POINTS = 0  # points an object that vote; 0 is all

    c.TEST = CfgNode()
    c.TEST.BATCH = 1
    c.TEST.LIMIT = 0  # evaluate the first frames only; 0 is all
    return c


def check(cfg: CfgNode) -> None:
    """Refuse values that cannot work, before anything heavy is imported.

    Raises:
        UserError: naming key and value.
    """
    check_choices(cfg, CHOICES)
    check_least(cfg, LEAST)
    engine_defaults.check(cfg)
    if cfg.DATA.LAYOUT != "linemod" and cfg.DATA.CLS:
        raise UserError(
            f"{cfg.DATASET} trains one network for all objects, not one for {cfg.DATA.CLS}",
            "leave --cls out",
        )
    if cfg.DATA.LAYOUT == "linemod":
        _check_object(cfg.DATA.CLS)


def _check_object(name: str) -> None:
    names = list(resource("linemod")["objects"])
    if name not in names:
        raise UserError(
            f"LineMOD has no object {name!r}" if name else "no object is named",
            f"add --cls NAME, one of: {', '.join(names)}",
        )


def check_root(cfg: CfgNode) -> None:
    """Refuse a data set whose folder nobody named, or that does not exist; toys need none.

    Raises:
        UserError: saying how to name it.
    """
    if cfg.DATA.LAYOUT != "toy":
        check_folder(cfg, TREES[cfg.DATA.LAYOUT])


TREES = {
    "ycb": (
        "data/SSSS/FFFFFF-{color.png,depth.png,label.png,meta.mat}, data_syn/FFFFFF-…, "
        "models/<class>/points.xyz, dataset_config/{train,test}_data_list.txt or "
        "image_sets/{train,keyframe}.txt"
    ),
    "linemod": (
        "data/NN/{rgb,depth,mask}/FFFF.png with gt.yml, train.txt and test.txt in data/NN, "
        "models/obj_NN.ply, renders/<object>/*.pkl, fuse/<object>/*.pkl"
    ),
}
"""What is expected below a data set's own folder, by layout."""
