"""Flags of the original scripts, and what became of each."""

from typing import NamedTuple


class Rule(NamedTuple):
    """What becomes of an old flag: option or KEY in training and in evaluation, and a note.

    `evaluation_note` replaces `note` in evaluation where it is not None.
    """

    has_value: bool = True
    training: str = ""
    evaluation: str = ""
    note: str = ""
    evaluation_note: str | None = None


DEAD = "had no effect in the original"
BATCH_NORM = f"{DEAD}; TRAIN.BN_MOMENTUM_SCHEDULE true enables the schedule"
CYCLE = "not needed: the length of the cyclic schedule is known from the data"
NODES = "not needed; for several machines use torchrun --nnodes N --node-rank R -m ffreid train"
FOR_TRAINING = "removed: has no effect on evaluation, which is in float32"
FOR_EVALUATION = "removed: has no effect on training; use ffreid eval"
POSES = "not needed: ffreid eval always estimates and scores poses"
OLD_FILES = "now --checkpoint; old files can be read"
RESUMES = "--resume continues from its step; the original started another 25 epochs"
REPEATS = (
    "continues with the next epoch and its learning rate; the original repeated the saved epoch "
    "with the initial rate"
)
FFB6D = {
    "eval_net": Rule(False, note="now ffreid eval"),
    **dict.fromkeys(("test", "test_pose"), Rule(False, "", "", FOR_EVALUATION, POSES)),
    "test_gt": Rule(False, "", "--test-gt", FOR_EVALUATION, ""),
    "checkpoint": Rule(True, "--resume", "--checkpoint", RESUMES, OLD_FILES),
    "cls": Rule(True, "--cls", "--cls"),
    "gpu": Rule(True, "--gpu", "--gpu"),
    "opt_level": Rule(True, "--amp", "", "O0 is the default, O1 to O3 are --amp", FOR_TRAINING),
    "deterministic": Rule(False, "--deterministic", "", "", FOR_TRAINING),
    "weight_decay": Rule(True, "TRAIN.WEIGHT_DECAY", "", "now TRAIN.WEIGHT_DECAY", FOR_TRAINING),
    **dict.fromkeys(("gpus", "g"), Rule(note=CYCLE)),
    "lr": Rule(note=f"{DEAD}: the cyclic schedule overwrote it; see TRAIN.LR_MIN and TRAIN.LR_MAX"),
    "lr_decay": Rule(note=f"{DEAD}; the cyclic schedule has no decay"),
    **dict.fromkeys(("decay_step", "bn_momentum", "bn_decay"), Rule(note=BATCH_NORM)),
    "epochs": Rule(note=f"{DEAD}, which always trained for 25; see TRAIN.EPOCHS"),
    **dict.fromkeys(("cal_metrics", "view_dpt"), Rule(False, note=DEAD)),
    "debug": Rule(False, note="no windows are shown; ffreid eval --pictures N writes image files"),
    "local_rank": Rule(note="not needed"),
    "gpu_id": Rule(note=f"{DEAD}; see --gpu"),
    **dict.fromkeys(("n", "nodes", "nr"), Rule(note=NODES)),
    "keep_batchnorm_fp32": Rule(note="not needed: batch norm is in float32 with --amp"),
    "test_occ": Rule(False, note=f"{DEAD}; Occlusion-LineMOD: ffreid eval --dataset lmo --cls …"),
}
"""Flags of ``train_ycb.py`` and ``train_lm.py``."""
DEMO = {
    "dataset": Rule(),
    "show": Rule(False, note="no windows are shown; look at the image files"),
    **{name: FFB6D[name] for name in ("checkpoint", "cls")},
}
CCREID = {
    "dataset": Rule(),
    "cfg": Rule(),
    **{name: Rule(True, f"--{name}", f"--{name}") for name in ("root", "output", "tag", "gpu")},
    "resume": Rule(True, "--resume", "--checkpoint", REPEATS, OLD_FILES),
    "amp": Rule(False, "--amp", "", "torch.autocast instead of apex", FOR_TRAINING),
    "eval": Rule(False, note="now ffreid eval"),
    "local_rank": Rule(note="not needed"),
}
"""Flags of ``main.py``."""
SCRIPTS = {
    "train_ycb": ("ycb", FFB6D),
    "train_lm": ("linemod", FFB6D),
    "demo": ("linemod", DEMO),
    "ycb_dataset": ("ycb", {"cls": FFB6D["cls"]}),
    "linemod_dataset": ("linemod", {"cls": FFB6D["cls"]}),
    "gen_obj_info": ("", {}),
    "main": ("ltcc", CCREID),
}
"""Scripts and modules of the originals: their default dataset and flags."""
VIEW = "no windows are shown; ground-truth poses are drawn as image files. See also ffreid data"
VIEWERS = {
    "demo": "draws 20 evenly spaced frames, evaluates all; TEST.LIMIT 20 evaluates the first 20",
    "ycb_dataset": VIEW,
    "linemod_dataset": VIEW,
}
