"""One RGB-D frame with its labels and poses, as a reader hands it on."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Frame:
    """What one frame of any data set holds, before sampling and neighbours.

    Attributes:
        name: what to call the frame in errors, results and pictures, e.g. ``data/0048/000001``.
        rgb: (H, W, 3) uint8, RGB.
        depth: (H, W) float32 in the sensor's own units (`depth_scale` of them are a metre),
            0 where nothing was measured; hole filling needs these units for bit equality.
        depth_scale: units a metre: 10000 for YCB-Video, 1000 for LineMOD.
        labels: (H, W) int32, class id of each pixel, 0 is background.
        intrinsics: (3, 3) camera matrix, pixels.
        class_ids: (M,) int32 of the objects in the frame, in the file's order.
        camera_from_object: (M, 3, 4) float32 poses, metres.
        synthetic: rendered (or pasted) rather than photographed.
    """

    name: str
    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    depth_scale: float
    labels: npt.NDArray[np.int32]
    intrinsics: npt.NDArray[np.floating]
    class_ids: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    camera_from_object: npt.NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((0, 3, 4), np.float32)
    )
    synthetic: bool = False
