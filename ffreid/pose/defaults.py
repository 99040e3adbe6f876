"""Every setting of the pose task with its default: the authors' values for YCB-Video."""

from collections.abc import Collection
from typing import NamedTuple

from yacs.config import CfgNode

from ffreid.config import check_choices, check_folder, check_least
from ffreid.engine import defaults as engine_defaults
from ffreid.errors import UserError
from ffreid.pose.resources import resource


class Layout(NamedTuple):
    """Where a layout's `sources.Layout` is, as ``module:name``, and the files that it expects."""

    source: str
    files: str


LAYOUTS = {
    "ycb": Layout(
        "ffreid.pose.sources:YCB",
        "data/SSSS/FFFFFF-{color.png,depth.png,label.png,meta.mat}, data_syn/FFFFFF-…, "
        "models/<class>/points.xyz, dataset_config/{train,test}_data_list.txt or "
        "image_sets/{train,keyframe}.txt",
    ),
    "linemod": Layout(
        "ffreid.pose.sources:LINEMOD",
        "data/NN/{rgb,depth,mask}/FFFF.png with gt.yml, train.txt and test.txt in data/NN, "
        "models/obj_NN.ply, renders/<object>/*.pkl, fuse/<object>/*.pkl",
    ),
    "bop": Layout(
        "ffreid.pose.sources:BOP",
        "{models_eval,models}/{models_info.json,obj_000001.ply}, "
        "{train_pbr,train_real,test}/000001/{scene_camera,scene_gt,scene_gt_info}.json with "
        "{rgb,depth}/000000.png and mask_visib/000000_000000.png",
    ),
    "toy": Layout("ffreid.pose.sources:TOY", ""),  # rendered on first use
}
"""Every DATA.LAYOUT; a new dataset is a reader, a line here and a recipe in ``configs/pose``."""

CHOICES: dict[str, Collection[str]] = {
    "DATA.LAYOUT": LAYOUTS,
    "DATA.INTRINSICS": ("ycb", "meta"),
    "DATA.OBJECTS": ("", "ycb", "linemod", "lmo"),
    "DATA.PREPARE": ("workers", "device"),
    "TRAIN.SCHEDULE": ("triangular", "cosine"),
    "TRAIN.BATCH_NORM": ("own", "sync", "frozen"),
    "TEST.PRECISION": ("fp32", "bf16"),
    "VOTE.MODE": ("exact", "fast"),
}
LEAST = {
    "SEED": 0,
    "DATA.SHRINK": 1,
    "DATA.WORKERS": 0,
    "DATA.TOY.TRAIN": 1,
    "DATA.TOY.TEST": 1,
    "DATA.TOY.SYNTHETIC": 0,
    "DATA.TOY.SEED": 0,
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
    "VOTE.BANDWIDTH": 1e-6,
    "VOTE.MAX_POINTS": 0,
    "TEST.BATCH": 1,
    "TEST.LIMIT": 0,
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
    c.DATA.LAYOUT = "ycb"  # one of LAYOUTS
    c.DATA.ROOT = ""  # the dataset's folder or its parent; --root or $FFREID_DATA
    c.DATA.CLS = ""  # LineMOD's objects: ape, or ape,cat, or all; BOP: 1,5; toy-pose: duck
    c.DATA.OBJECTS = ""  # BOP: keypoints of ycb, linemod or lmo (8 of linemod); "": the models'
    c.DATA.OBJECT_SET = ""  # BOP: folder of ffreid objects whose models are used; --objects
    c.DATA.SPLIT = "test"  # BOP: the split that is evaluated
    c.DATA.TRAIN_SPLITS = []  # BOP: those of them that are there; []: all that begin with train
    c.DATA.EVERY_IMAGE = False  # BOP: evaluate the whole split, not only images with targets
    c.DATA.CANONICAL = True  # BOP: of poses that look the same train on one, see bop/errors.py
    c.DATA.TRAIN_LIST = ""  # file of frame names that replaces the dataset's
    c.DATA.TEST_LIST = ""
    c.DATA.INTRINSICS = "ycb"  # YCB-Video's (LineMOD's) cameras; meta: meta.mat's (info.yml's)
    c.DATA.SHRINK = 1  # read every n-th row and column; intrinsics follow
    c.DATA.AUGMENT = True
    c.DATA.PREPARE = "workers"  # device: normals and neighbours on the GPU, same values
    c.DATA.FRAMES = []  # train and evaluate on these frames only, without augmentation
    c.DATA.CACHE = ""  # folder of ffreid data cache --out; "": beside the data; none: not used
    c.DATA.WORKERS = 4  # loader processes; 0 loads in the main process
    c.DATA.TOY = CfgNode()  # what toy-pose renders on first use
    c.DATA.TOY.TRAIN = 300
    c.DATA.TOY.TEST = 50
    c.DATA.TOY.SYNTHETIC = 0
    c.DATA.TOY.HEIGHT = 96
    c.DATA.TOY.WIDTH = 128
    c.DATA.TOY.SEED = 0

    c.MODEL = CfgNode()
    c.MODEL.POINTS = 12800  # N, points per frame
    c.MODEL.POINT_MOMENTUM = 0.99  # of RandLA's batch norm: the authors' keeps the last batch
    c.MODEL.DROPOUT = True  # False: none, e.g. to compare runs on different numbers of processes
    c.MODEL.BACKBONE = "imagenet"  # ResNet-34: imagenet (torchvision), random, or a file

    c.LOSS = CfgNode()
    c.LOSS.OFFSET_SAMPLES = 3.0  # samples the offset terms sum over (the authors' 3 per process)

    c.TRAIN = CfgNode()
    c.TRAIN.EPOCHS = 25
    c.TRAIN.BATCH = 24  # over all processes; the authors use 8 processes of 3
    c.TRAIN.LENGTH = 0  # samples per epoch; 0 is the length of the frame list
    c.TRAIN.STEPS = 0  # length in steps instead of EPOCHS; cycle and validation follow
    c.TRAIN.SCHEDULE = "triangular"  # the authors' cycle (Smith, WACV 2017), or cosine: see README
    c.TRAIN.LR_MIN = 1e-5
    c.TRAIN.LR_MAX = 1e-3
    c.TRAIN.CYCLE_DIVISOR = 6  # half cycles in a run: 6 on YCB-Video, 2 on LineMOD
    c.TRAIN.WEIGHT_DECAY = 0.0
    c.TRAIN.BATCH_NORM = "sync"  # statistics over all processes (sync) or one (own), or frozen
    c.TRAIN.BN_MOMENTUM_SCHEDULE = False  # without effect in the authors' training
    c.TRAIN.VALIDATE_FRAMES = 0  # test frames for the validation loss; 0 is all
    c.TRAIN.EVAL_POSES = True  # estimate and score poses when training ends
    engine_defaults.add(c.TRAIN)

    c.VOTE = CfgNode()
    c.VOTE.MODE = "exact"  # mean shift: the authors' blurring, or fast: from seeds to modes
    c.VOTE.BANDWIDTH = 0.04  # metres, mean shift
    c.VOTE.USE_CENTRE = True  # use the centre as one more keypoint in the rigid fit
    c.VOTE.FILTER = True  # only points in the centre's cluster vote
    c.VOTE.INSTANCES = False  # eval: tell several objects of a class apart, by their centre votes
    c.VOTE.MAX_POINTS = 0  # voting points per object; 0 is all

    c.TEST = CfgNode()
    c.TEST.BATCH = 1
    c.TEST.PRECISION = "fp32"  # bf16: deep colour layers in bfloat16; eval --precision
    c.TEST.LIMIT = 0  # evaluate only the first frames; 0 is all
    return c


def check(cfg: CfgNode) -> None:
    """Refuse values that cannot work, before anything heavy is imported."""
    check_choices(cfg, CHOICES)
    check_least(cfg, LEAST)
    engine_defaults.check(cfg)
    chosen, objects = cfg.DATA.CLS, cfg.DATA.OBJECTS
    if cfg.DATA.LAYOUT == "linemod" or (objects in ("linemod", "lmo") and chosen):
        linemod_names(chosen)
    elif chosen and (cfg.DATA.LAYOUT not in ("bop", "toy") or objects):
        raise UserError(
            f"dataset {cfg.DATASET} has one network for all objects, not for {chosen} alone",
            "remove --cls",
        )
    if cfg.DATA.OBJECT_SET and (objects or cfg.DATA.LAYOUT != "bop"):
        raise UserError(
            f"dataset {cfg.DATASET} has objects of its own, not those of {cfg.DATA.OBJECT_SET}",
            "remove --objects, or use --dataset bop",
        )


def linemod_names(chosen: str) -> tuple[str, ...]:
    """The names of LineMOD's 13 objects in ``all``, ``ape`` or ``ape,cat``, in order of number."""
    known = resource("linemod")["objects"]
    names = {*known} if chosen == "all" else {*chosen.split(",")}
    if unknown := sorted(names - {*known}):
        name = unknown[0]
        raise UserError(
            f"LineMOD has no object {name!r}" if chosen else "no LineMOD object given",
            f"use --cls NAME, one of: {', '.join(known)}; several as ape,cat, or all",
        )
    return tuple(name for name in known if name in names)


def check_root(cfg: CfgNode) -> None:
    """Refuse a dataset whose folder is not given or does not exist; toy data need none."""
    if files := LAYOUTS[cfg.DATA.LAYOUT].files:
        check_folder(cfg, files)
