"""A re-identification network as an object: pictures or tracklets in, features out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid.engine import precision
from ffreid.engine.dataset_files import open_image
from ffreid.engine.modules import evaluating
from ffreid.engine.specs import Symbol, TensorSpec, checked_inputs
from ffreid.errors import UserError, flat
from ffreid.reid import build
from ffreid.reid.data.clips import clip_indices
from ffreid.reid.data.transforms import ClipEvaluation, ImageEvaluation
from ffreid.reid.defaults import NON_LOCAL, NON_LOCAL_LEAST, VIDEO_LAYOUTS
from ffreid.reid.feature_extraction import batch_features
from ffreid.reid.networks import build_network
from ffreid.reid.retrieval.features import average_clips, check_finite
from ffreid.report import log

Picture = Image.Image | npt.NDArray[np.uint8] | str | Path
"""A picture: Pillow's, an array (H, W, 3) uint8 RGB of any size, or a file's path."""
Tracklet = Sequence[Picture] | npt.NDArray[np.uint8]
"""Pictures of one person in their order, or an array (T, H, W, 3) uint8 RGB."""


class ReidModel(nn.Module):
    """A network of CAL with what belongs to it: how pictures are prepared and features taken.

    Made by `ffreid.create_model`; in evaluation mode.

    Args:
        net: the network.
        cfg: DATA.HEIGHT, DATA.WIDTH and, of tracklets, AUG.SEQ_LEN and AUG.SAMPLING_STRIDE count.

    Example:
        >>> model = ffreid.create_model("ltcc", checkpoint="best.pth", device="cuda")
        >>> cosines = model.embed(["a.png", "b.png"]) @ model.embed(gallery).T
    """

    def __init__(self, net: nn.Module, cfg: CfgNode) -> None:
        super().__init__()
        self.net, self.cfg = net, cfg
        self.video = cfg.DATA.LAYOUT in VIDEO_LAYOUTS
        make = ClipEvaluation if self.video else ImageEvaluation
        self.prepare = make(cfg.DATA.HEIGHT, cfg.DATA.WIDTH)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return next(self.parameters()).dtype

    def input_spec(self) -> tuple[TensorSpec, ...]:
        """Tell the tensors that `forward` takes: names, shapes, types, units."""
        data, least = self.cfg.DATA, NON_LOCAL_LEAST if self.cfg.MODEL.NAME in NON_LOCAL else 1
        symbols = {
            "B": Symbol(meaning="clips" if self.video else "pictures"),
            "H": Symbol(meaning=f"rows; the recipe's are {data.HEIGHT}", least=least),
            "W": Symbol(meaning=f"columns; the recipe's are {data.WIDTH}", least=least),
        }
        shape: tuple[str | int, ...] = ("B", 3, "H", "W")
        if self.video:
            shape = ("B", 3, "T", "H", "W")
            length = self.cfg.AUG.SEQ_LEN
            symbols["T"] = Symbol(meaning=f"frames a clip; the recipe's are {length}")
        return (
            TensorSpec(
                name="images",
                shape=shape,
                dtype=self.dtype,
                unit="standard deviations",
                meaning=f"{symbols['B']}, RGB, normalised by ImageNet's mean and deviation",
                symbols=symbols,
            ),
        )

    def output_spec(self) -> tuple[TensorSpec, ...]:
        """Tell the tensors that `forward` gives."""
        return (
            TensorSpec(
                name="features",
                shape=("B", self.cfg.MODEL.FEATURE_DIM),
                dtype=self.dtype,
                unit="1",
                meaning="features of any length, compared by their cosine",
                symbols={"B": Symbol(meaning="clips" if self.video else "pictures")},
            ),
        )

    def forward(
        self, inputs: Mapping[str, Tensor] | None = None, **tensors: Tensor
    ) -> dict[str, Tensor]:
        """Run the network alone, on tensors that are prepared already; see `input_spec`.

        Gradients are as the caller has them.

        Args:
            inputs: ``{"images": tensor}``, or give it as a keyword.
            tensors: ``images``.

        Returns:
            ``features``, see `output_spec`.

        Raises:
            UserError: a tensor is missing, unknown, or of another type, shape or device.

        Example:
            >>> features = model(images=torch.randn(2, 3, 384, 192))["features"]
        """
        given = checked_inputs(self.input_spec(), inputs, tensors, self.device)
        return {"features": self.net(given["images"])}

    def embed(
        self, images: Sequence[Picture | Tracklet], *, batch_size: int | None = None
    ) -> Tensor:
        """Compute features as ``ffreid eval --save-features`` does.

        Pictures are seen from both sides, and the two views' features summed. Tracklets are cut
        into clips of AUG.SEQ_LEN frames, and their features averaged.

        Args:
            images: pictures; with a network of clips, tracklets.
            batch_size: pictures or clips at once; DATA.TEST_BATCH where it is None.

        Returns:
            (N, D) float32 of length 1 on the CPU, in the order of `images`; the matrix of cosines
            of two such is ``a @ b.T``. (float64 with TRAIN.PRECISION fp64.)

        Raises:
            UserError: one of `images` is no such picture or cannot be read, a tracklet is empty,
                or features are not finite.

        Example:
            >>> model.embed(["a.png", PIL.Image.open("b.png"), array]).shape
            torch.Size([3, 4096])
        """
        size = self.cfg.DATA.TEST_BATCH if batch_size is None else batch_size
        if size < 1:
            raise UserError(f"batch_size is {batch_size}", "give a number from 1 on")
        if isinstance(images, str | Path | Image.Image):
            raise UserError(
                f"images is one {type(images).__name__}", "give a list, even of one: embed([image])"
            )
        items, spans = self._items(images)
        found: list[Tensor] = []
        with torch.inference_mode(), precision.flags(self.cfg), evaluating(self.net):
            for start in range(0, len(items), size):
                batch = torch.stack([self._prepared(*item) for item in items[start : start + size]])
                batch = batch.to(self.device, self.dtype)
                found.append(batch_features(self.net, batch, flip=not self.video).cpu())
        if not found:
            return torch.empty(0, self.cfg.MODEL.FEATURE_DIM, dtype=self.dtype)
        features = torch.cat(found)
        if self.video:
            features = average_clips(features, torch.tensor(spans))
        check_finite(features, "computed")
        return features

    def _items(self, images: Sequence[Any]) -> tuple[list[tuple[str, list[Any]]], list[list[int]]]:
        """Give what the network sees at once, each with its name, and each tracklet's span."""
        if not self.video:
            return [(f"images[{i}]", [image]) for i, image in enumerate(images)], []
        items: list[tuple[str, list[Any]]] = []
        spans = []
        for i, frames in enumerate(images):
            _check_tracklet(f"images[{i}]", frames)
            start, aug = len(items), self.cfg.AUG
            for clip in clip_indices(len(frames), aug.SEQ_LEN, aug.SAMPLING_STRIDE):
                items.append((f"images[{i}]", [frames[place] for place in clip]))
            spans.append([start, len(items)])
        return items, spans

    def _prepared(self, name: str, pictures: Sequence[Any]) -> Tensor:
        return self.prepare(list(_opened(name, pictures)))


def create(cfg: CfgNode, checkpoint: Path | None, device: torch.device) -> ReidModel:
    """Make the model that `cfg` names; without a checkpoint its weights are random.

    Raises:
        UserError: the checkpoint is unreadable, or another network's.
    """
    if checkpoint is None:
        net = build_network(cfg)
    else:
        net, state = build.load_network(checkpoint, cfg, device)
        for line in build.changed_settings(cfg, state):
            log(f"note: {line}")
    return ReidModel(net.to(device, precision.dtype(cfg)), cfg)


def _check_tracklet(name: str, frames: object) -> None:
    if isinstance(frames, np.ndarray):
        if frames.ndim != 4:
            raise UserError(
                f"{name} is an array {frames.shape}", "give tracklets: (T, H, W, 3) uint8 each"
            )
    elif not isinstance(frames, Sequence) or isinstance(frames, str):
        raise UserError(
            f"{name} is one {type(frames).__name__}, this network reads tracklets",
            "give a list of pictures for each tracklet",
        )
    if not len(frames):
        raise UserError(f"{name} is a tracklet without frames", "leave it out")


def _opened(name: str, pictures: Sequence[Any]) -> Iterator[Image.Image]:
    """Give Pillow's pictures, RGB."""
    for picture in pictures:
        if isinstance(picture, str | Path):
            yield open_image(Path(picture))
        elif isinstance(picture, Image.Image):
            yield _converted(name, picture)
        else:
            yield Image.fromarray(_checked(name, picture))


def _converted(name: str, picture: Image.Image) -> Image.Image:
    try:
        return picture.convert("RGB")  # which reads the file, where none has yet
    except (OSError, ValueError) as error:
        raise UserError(f"{name} cannot be read: {flat(str(error))}", "open it again") from error


def _checked(name: str, picture: object) -> npt.NDArray[np.uint8]:
    if not isinstance(picture, np.ndarray):
        raise UserError(
            f"{name} holds a {type(picture).__name__}",
            "give Pillow's pictures, arrays (H, W, 3) uint8, or paths",
        )
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise UserError(
            f"{name} is {picture.shape} {picture.dtype}",
            "give (H, W, 3) uint8, 0 … 255, in the order R, G, B",
        )
    if not picture.size:
        raise UserError(f"{name} is {picture.shape}: empty", "leave it out")
    return np.ascontiguousarray(picture)
