"""What the original prints before its results, and the protocol that it means."""

from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, GENERAL, SAME_CLOTHES

SETTINGS = {
    "Computing CMC and mAP": GENERAL,
    "Computing CMC and mAP only for the same clothes setting": SAME_CLOTHES,
    "Computing CMC and mAP only for clothes-changing": CLOTHES_CHANGING,
    "Computing CMC and mAP for the same clothes setting": GENERAL,
    "Computing CMC and mAP only for clothes changing": GENERAL,
}
