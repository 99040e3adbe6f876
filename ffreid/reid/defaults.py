"""Every setting of the reid task with its default: Simple-CCReID's names and values for pictures.

What tracklets have otherwise stands in ``configs/reid/ccvid.yaml``.
"""

from yacs.config import CfgNode

from ffreid.config import check_choices, check_folder, check_least, lookup
from ffreid.engine import defaults as engine_defaults
from ffreid.errors import UserError

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


IMAGE_NETWORKS = ("resnet50",)
VIDEO_NETWORKS = ("c2dres50", "i3dres50", "ap3dres50", "nlres50", "ap3dnlres50")
NON_LOCAL, NON_LOCAL_LEAST = ("nlres50", "ap3dnlres50"), 17
"""Networks that halve a sixteenth of the picture's height and width again, and so the least."""
VIDEO_LAYOUTS = ("ccvid", "toy-video")
TOYS = ("toy", "toy-video")
COSINES = ("arcface", "cosface", "circle")
"""Identity losses of cosines: their classifier has unit weights and no bias."""

CHOICES = {
    "DATA.LAYOUT": (*TREES, *TOYS),
    "AUG.TEMPORAL_SAMPLING_MODE": ("stride", "tsn"),
    "MODEL.NAME": IMAGE_NETWORKS + VIDEO_NETWORKS,
    "MODEL.POOLING.NAME": ("avg", "max", "gem", "maxavg"),
    "LOSS.CLA_LOSS": ("crossentropy", "crossentropylabelsmooth", *COSINES),
    "LOSS.CLOTHES_CLA_LOSS": ("cosface", "crossentropy"),
    "LOSS.PAIR_LOSS": ("triplet", "contrastive", "cosface", "circle"),
    "LOSS.PAIR_GRADIENT": ("own", "full"),
    "LOSS.CAL": ("cal", "calwithmemory", "none"),
    "LOSS.MEMORY_UPDATE": ("asis", "mean"),
    "TRAIN.OPTIMIZER.NAME": ("adam", "adamw", "sgd"),
    "TRAIN.BATCH_NORM": ("groups", "sync"),
    "TEST.SELECT_ON": ("test", "val"),
}
LEAST = {
    "DATA.HEIGHT": 1,
    "DATA.WIDTH": 1,
    "DATA.TRAIN_BATCH": 2,
    "DATA.TEST_BATCH": 1,
    "DATA.NUM_INSTANCES": 1,
    "DATA.NUM_WORKERS": 0,
    "DATA.SAMPLING_STEP": 0,
    "DATA.TOY.IDENTITIES": 2,
    "DATA.TOY.TEST_IDENTITIES": 2,
    "DATA.TOY.OUTFITS": 2,
    "DATA.TOY.CAMERAS": 2,
    "DATA.TOY.PICTURES": 2,
    "DATA.TOY.FRAMES": 1,
    "DATA.TOY.SEED": 0,
    "AUG.SEQ_LEN": 1,
    "AUG.SAMPLING_STRIDE": 1,
    "MODEL.RES4_STRIDE": 1,
    "MODEL.POOLING.P": 1e-6,
    "MODEL.AP3D.TEMPERATURE": 1e-6,
    "LOSS.CLA_S": 1e-6,
    "LOSS.PAIR_S": 1e-6,
    "LOSS.PAIR_LOSS_WEIGHT": 0,
    "LOSS.EPSILON": 0,
    "TRAIN.OPTIMIZER.LR": 0,
    "TRAIN.OPTIMIZER.WEIGHT_DECAY": 0,
    "TRAIN.LR_SCHEDULER.DECAY_RATE": 0,
    "TRAIN.MAX_EPOCH": 1,
    "TRAIN.STEPS": 0,
    "TRAIN.BN_GROUPS": 1,
    "SEED": 0,
}
SHARES = ("AUG.RC_PROB", "AUG.RE_PROB", "AUG.RF_PROB", "LOSS.MOMENTUM")
"""Settings that lie between 0 and 1."""


def defaults() -> CfgNode:
    """A fresh, unfrozen tree of defaults."""
    c = CfgNode()
    c.TASK = "reid"
    c.DATASET = "ltcc"  # set by --dataset
    c.RECIPE = ""  # of configs/reid/recipes, merged over the data set's own; --cfg replaces it
    c.SEED = 1  # everything random derives from it
    c.OUTPUT = "runs"  # results go to OUTPUT/DATASET/TAG
    c.TAG = "default"
    c.GPU = "0"  # the original's; devices are named by --gpu or CUDA_VISIBLE_DEVICES
    c.EVAL_MODE = False  # the original's --eval: evaluate MODEL.RESUME, do not train

    c.DATA = CfgNode()
    c.DATA.LAYOUT = "ltcc"  # how the files lie
    c.DATA.ROOT = ""  # holds the data set's folder, or is it; --root or $FFREID_DATA
    c.DATA.DATASET = "ltcc"  # the original's; follows --dataset
    c.DATA.HEIGHT = 384
    c.DATA.WIDTH = 192
    c.DATA.TRAIN_BATCH = 32  # pictures or clips a batch-norm group (the original: a process)
    c.DATA.TEST_BATCH = 128
    c.DATA.NUM_INSTANCES = 8  # of an identity, side by side
    c.DATA.NUM_WORKERS = 4  # processes that load; 0 loads in the main process
    c.DATA.SKIP_BROKEN = False  # True: count unreadable files and go on without them
    c.DATA.DENSE_SAMPLING = True  # tracklets: train on chunks of SAMPLING_STEP frames
    c.DATA.SAMPLING_STEP = 64
    c.DATA.TOY = CfgNode()  # what toy-reid and toy-reid-video draw on first use
    c.DATA.TOY.IDENTITIES = 20
    c.DATA.TOY.TEST_IDENTITIES = 20
    c.DATA.TOY.OUTFITS = 3
    c.DATA.TOY.CAMERAS = 4
    c.DATA.TOY.PICTURES = 4  # an identity, outfit and camera; tracklets an identity and outfit
    c.DATA.TOY.FRAMES = 16  # a tracklet
    c.DATA.TOY.SEED = 0

    c.AUG = CfgNode()
    c.AUG.RC_PROB = 0.5  # random crop
    c.AUG.RE_PROB = 0.5  # random erasing
    c.AUG.RF_PROB = 0.5  # mirrored left to right
    c.AUG.TEMPORAL_SAMPLING_MODE = "stride"  # or tsn: a frame of each of SEQ_LEN equal parts
    c.AUG.SEQ_LEN = 8  # frames a clip
    c.AUG.SAMPLING_STRIDE = 4

    c.MODEL = CfgNode()
    c.MODEL.NAME = "resnet50"
    c.MODEL.BACKBONE = "imagenet"  # ResNet-50's first weights: imagenet, random, or a file
    c.MODEL.RES4_STRIDE = 1
    c.MODEL.FEATURE_DIM = 0  # follows from network and pooling; another number is refused
    c.MODEL.RESUME = ""  # --resume
    c.MODEL.POOLING = CfgNode()  # of picture networks
    c.MODEL.POOLING.NAME = "maxavg"
    c.MODEL.POOLING.P = 3  # gem's power at the start
    c.MODEL.AP3D = CfgNode()
    c.MODEL.AP3D.TEMPERATURE = 4
    c.MODEL.AP3D.CONTRACTIVE_ATT = True  # contrastive attention, as the original spells it

    c.LOSS = CfgNode()
    c.LOSS.CLA_LOSS = "crossentropy"  # of identities
    c.LOSS.CLOTHES_CLA_LOSS = "cosface"
    c.LOSS.CLA_S = 16.0
    c.LOSS.CLA_M = 0.0
    c.LOSS.PAIR_LOSS = "triplet"
    c.LOSS.PAIR_LOSS_WEIGHT = 0.0
    c.LOSS.PAIR_S = 16.0
    c.LOSS.PAIR_M = 0.3
    c.LOSS.PAIR_GRADIENT = "own"  # through the own batch-norm group alone, or full
    c.LOSS.CAL = "cal"  # or calwithmemory; none: no clothes classifier, the paper's baseline
    c.LOSS.EPSILON = 0.1
    c.LOSS.MOMENTUM = 0.0  # of the memory bank
    c.LOSS.MEMORY_UPDATE = "asis"  # the last sample of a class wins; mean: of the batch's

    c.TRAIN = CfgNode()
    c.TRAIN.START_EPOCH = 0  # the original's; a resumed run knows where it stands
    c.TRAIN.MAX_EPOCH = 60
    c.TRAIN.STEPS = 0  # end after so many steps instead
    c.TRAIN.START_EPOCH_CC = 25  # clothes classifier
    c.TRAIN.START_EPOCH_ADV = 25  # adversarial loss
    c.TRAIN.BN_GROUPS = 1  # batch-norm groups a step; 2 stands for the authors' two GPUs
    c.TRAIN.BATCH_NORM = "groups"  # or sync: statistics of the whole step, any number of processes
    c.TRAIN.ACTIVATION_CHECKPOINTING = False  # networks of clips: less memory, a forward more
    c.TRAIN.OPTIMIZER = CfgNode()
    c.TRAIN.OPTIMIZER.NAME = "adam"
    c.TRAIN.OPTIMIZER.LR = 0.00035
    c.TRAIN.OPTIMIZER.WEIGHT_DECAY = 5e-4
    c.TRAIN.LR_SCHEDULER = CfgNode()
    c.TRAIN.LR_SCHEDULER.STEPSIZE = [20, 40]  # epochs at which the rate falls
    c.TRAIN.LR_SCHEDULER.DECAY_RATE = 0.1
    engine_defaults.add(c.TRAIN)

    c.TEST = CfgNode()
    c.TEST.EVAL_STEP = 5  # epochs between evaluations; 0 or less: at the end only
    c.TEST.START_EVAL = 0
    c.TEST.SELECT_ON = "test"  # as the original; val where the data set has a validation split
    return c


def check(cfg: CfgNode) -> None:
    """Refuse values that cannot work, before anything heavy is imported; set what follows.

    Raises:
        UserError: naming key and value.
    """
    check_choices(cfg, CHOICES)
    check_least(cfg, LEAST)
    engine_defaults.check(cfg)
    for key in SHARES:
        if not 0 <= (share := lookup(cfg, key)) <= 1:
            raise UserError(f"{key} is {share}", f"set {key} to a number from 0 to 1")
    _check_network(cfg)
    if not cfg.is_frozen():
        cfg.MODEL.FEATURE_DIM = _feature_dim(cfg)
        cfg.DATA.DATASET = cfg.DATASET
    batch, instances = cfg.DATA.TRAIN_BATCH, cfg.DATA.NUM_INSTANCES
    if batch % instances:
        raise UserError(
            f"DATA.TRAIN_BATCH {batch} is no multiple of DATA.NUM_INSTANCES {instances}",
            f"set DATA.TRAIN_BATCH to {max(instances, batch // instances * instances)}, or "
            "DATA.NUM_INSTANCES to a divisor of it",
        )
    if cfg.TRAIN.ACCUMULATE > 1:
        _check_accumulation(cfg)
    if cfg.TRAIN.START_EPOCH:
        raise UserError(
            f"TRAIN.START_EPOCH is {cfg.TRAIN.START_EPOCH}",
            "leave it 0; go on with --resume FILE, which knows its epoch",
        )
    if cfg.TEST.SELECT_ON == "val" and cfg.DATA.LAYOUT not in ("prcc", "last", "deepchange"):
        raise UserError(
            f"{cfg.DATASET} has no validation split to select on",
            "set TEST.SELECT_ON test; prcc, last and deepchange have one",
        )


def _check_accumulation(cfg: CfgNode) -> None:
    """Refuse losses that need the whole step at once."""
    whole = {
        f"LOSS.PAIR_LOSS {cfg.LOSS.PAIR_LOSS} compares the samples of a step with each other": (
            cfg.LOSS.PAIR_LOSS_WEIGHT,
            "set LOSS.PAIR_LOSS_WEIGHT 0",
        ),
        "LOSS.CAL calwithmemory changes with every part": (
            cfg.LOSS.CAL == "calwithmemory",
            "set LOSS.CAL cal",
        ),
    }
    for reason, (found, remedy) in whole.items():
        if found:
            raise UserError(
                f"{reason}, and TRAIN.ACCUMULATE {cfg.TRAIN.ACCUMULATE} shows it in parts",
                f"{remedy}, or TRAIN.ACCUMULATE 1 (more memory: --amp, more processes, "
                "TRAIN.ACTIVATION_CHECKPOINTING)",
            )


def _check_network(cfg: CfgNode) -> None:
    name, video = cfg.MODEL.NAME, cfg.DATA.LAYOUT in VIDEO_LAYOUTS
    fitting = VIDEO_NETWORKS if video else IMAGE_NETWORKS
    if name not in fitting:
        read, has = ("pictures", "tracklets") if video else ("clips", "pictures")
        raise UserError(
            f"MODEL.NAME {name} reads {read}, {cfg.DATASET} has {has}",
            f"choose one of: {', '.join(fitting)}",
        )
    size = min(cfg.DATA.HEIGHT, cfg.DATA.WIDTH)
    if name in NON_LOCAL and size < NON_LOCAL_LEAST:
        raise UserError(
            f"DATA.HEIGHT {cfg.DATA.HEIGHT} x DATA.WIDTH {cfg.DATA.WIDTH} is too small for {name}",
            f"set both to {NON_LOCAL_LEAST} or more",
        )
    if cfg.MODEL.FEATURE_DIM not in (0, _feature_dim(cfg)):
        pooling = "" if video else f" with {cfg.MODEL.POOLING.NAME} pooling"
        raise UserError(
            f"MODEL.FEATURE_DIM is {cfg.MODEL.FEATURE_DIM}, {name}{pooling} gives "
            f"{_feature_dim(cfg)}",
            "leave MODEL.FEATURE_DIM out: it follows from the network",
        )


def _feature_dim(cfg: CfgNode) -> int:
    pooled = cfg.MODEL.NAME in IMAGE_NETWORKS and cfg.MODEL.POOLING.NAME == "maxavg"
    return 4096 if pooled else 2048


def check_root(cfg: CfgNode) -> None:
    """Refuse a data set whose folder nobody named, or that does not exist; toys need none.

    Raises:
        UserError: saying how to name it.
    """
    if cfg.DATA.LAYOUT not in TOYS:
        check_folder(cfg, TREES[cfg.DATA.LAYOUT])
