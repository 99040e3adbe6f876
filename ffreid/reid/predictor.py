"""A re-identification network as an object: images or tracklets in, features out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid.engine import precision
from ffreid.engine.dataset_files import DAMAGED, to_rgb
from ffreid.engine.modules import evaluating, weights_key
from ffreid.engine.specs import Symbol, TensorSpec, checked_inputs
from ffreid.errors import UserError, flat
from ffreid.reid import build
from ffreid.reid.data.batch import to_images
from ffreid.reid.data.clips import clip_indices
from ffreid.reid.data.pictures import Picture, as_pixels, read_picture
from ffreid.reid.data.transforms import Evaluation
from ffreid.reid.defaults import NON_LOCAL, NON_LOCAL_MIN_SIZE, is_video
from ffreid.reid.feature_extraction import batch_features
from ffreid.reid.model import build_network
from ffreid.reid.retrieval.features import average_clips, check_features
from ffreid.report import log

if TYPE_CHECKING:
    from ffreid.reid.search import SearchResult

ImageInput = Image.Image | npt.NDArray[np.uint8] | str | Path
"""A Pillow image, an array (H, W, 3) uint8 RGB of any size, or a file's path."""
Tracklet = Sequence[ImageInput] | npt.NDArray[np.uint8]
"""Images of one person in temporal order, or an array (T, H, W, 3) uint8 RGB."""


class ReidModel(nn.Module):
    """A network of CAL with its preprocessing and feature extraction, in evaluation mode.

    Created by `ffreid.create_model`. It uses DATA.HEIGHT, DATA.WIDTH and, for tracklets,
    AUG.SEQ_LEN and AUG.SAMPLING_STRIDE.

    Example:
        >>> model = ffreid.create_model("ltcc", checkpoint="best.pth", device="cuda")
        >>> cosines = model.embed(["a.png", "b.png"]) @ model.embed(gallery).T
    """

    def __init__(self, net: nn.Module, cfg: CfgNode, checkpoint: Path | None = None) -> None:
        super().__init__()
        self.net, self.cfg, self.video, self.checkpoint = net, cfg, is_video(cfg), checkpoint
        self._built: tuple[object, nn.Module] | None = None
        self.prepare = Evaluation(cfg.DATA.HEIGHT, cfg.DATA.WIDTH, self.video)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the network."""
        return next(self.parameters()).dtype

    def input_spec(self) -> tuple[TensorSpec, ...]:
        """Tensors that `forward` takes: names, shapes, types, units."""
        data, least = self.cfg.DATA, NON_LOCAL_MIN_SIZE if self.cfg.MODEL.NAME in NON_LOCAL else 1
        symbols = {
            "B": Symbol(meaning="clips" if self.video else "images"),
            "H": Symbol(meaning=f"height; {data.HEIGHT} in the recipe", least=least),
            "W": Symbol(meaning=f"width; {data.WIDTH} in the recipe", least=least),
        }
        if self.video:
            length = self.cfg.AUG.SEQ_LEN
            symbols["T"] = Symbol(meaning=f"frames per clip; {length} in the recipe")
        spec = TensorSpec(
            name="images",
            shape=("B", 3, *["T"] * self.video, "H", "W"),
            dtype=self.dtype,
            unit="standard deviations",
            meaning=f"{symbols['B']}, RGB, normalised by ImageNet's mean and deviation",
            symbols=symbols,
        )
        return (spec,)

    def output_spec(self) -> tuple[TensorSpec, ...]:
        """Tensors that `forward` returns."""
        spec = TensorSpec(
            name="features",
            shape=("B", self.cfg.MODEL.FEATURE_DIM),
            dtype=self.dtype,
            unit="1",
            meaning="features of any length, compared by their cosine",
            symbols={"B": Symbol(meaning="clips" if self.video else "images")},
        )
        return (spec,)

    def forward(
        self, inputs: Mapping[str, Tensor] | None = None, **tensors: Tensor
    ) -> dict[str, Tensor]:
        """Run the network on preprocessed tensors (see `input_spec`), with gradients if enabled.

        Returns:
            ``features``, see `output_spec`.

        Raises:
            UserError: a tensor is missing, unknown, or has the wrong type, shape or device.

        Example:
            >>> features = model(images=torch.randn(2, 3, 384, 192))["features"]
        """
        arguments = checked_inputs(self.input_spec(), inputs, tensors, self.device)
        return {"features": self.net(arguments["images"])}

    def embed(
        self, images: Sequence[ImageInput | Tracklet], *, batch_size: int | None = None
    ) -> Tensor:
        """Compute features as ``ffreid eval --save-features`` does.

        The features of an image and its mirror image are summed. Tracklets are cut into clips of
        AUG.SEQ_LEN frames, whose features are averaged.

        Args:
            images: images; for a network of clips, tracklets.
            batch_size: images or clips at once; default DATA.TEST_BATCH.

        Returns:
            (N, D) float32 (float64 with TRAIN.PRECISION fp64) of length 1 on the CPU; cosines are
            ``a @ b.T``.

        Raises:
            UserError: an item is no readable image or tracklet, or features are not finite.

        Example:
            >>> model.embed(["a.png", PIL.Image.open("b.png"), array]).shape
            torch.Size([3, 4096])
        """
        size = self.cfg.DATA.TEST_BATCH if batch_size is None else batch_size
        if size < 1:
            raise UserError(f"batch_size is {batch_size}", "use 1 or more")
        if isinstance(images, str | Path | Image.Image):
            raise UserError(
                f"images is a single {type(images).__name__}", "use a list: embed([image])"
            )
        items, spans = self._items(images)
        batches: list[Tensor] = []
        net = self._network()
        with torch.inference_mode(), precision.flags(self.cfg), evaluating(net):
            for start in range(0, len(items), size):
                samples = [
                    self.prepare.pixels([self._picture(name, image) for image in frames])
                    for name, frames in items[start : start + size]
                ]
                batch = to_images(torch.from_numpy(np.stack(samples)), self.device, self.dtype)
                batches.append(batch_features(net, batch, flip=not self.video).cpu())
        if not batches:
            return torch.empty(0, self.cfg.MODEL.FEATURE_DIM, dtype=self.dtype)
        features = torch.cat(batches)
        if self.video:
            features = average_clips(features, torch.tensor(spans))
        check_features(features, "computed")
        return features

    def search(
        self,
        query: "str | Path | Sequence[ImageInput | Tracklet]",
        gallery: "str | Path | Sequence[ImageInput | Tracklet]",
        *,
        top: int = 10,
        false_match_rate: float | None = None,
    ) -> "SearchResult":
        """Find the gallery items that are nearest to each query, as ``ffreid predict`` does.

        Args:
            query: a picture's path, a folder of pictures in any layout (for a network of clips a
                folder of frames, or of such folders), or images as for `embed`.
            gallery: a folder, or images. Features of a folder are kept in a file beside it, so
                that a second search extracts only those of new pictures.
            top: number of items for each query.
            false_match_rate: share of strangers that may have a match, e.g. 0.01, from the
                calibration that ``ffreid eval --calibrate`` writes beside the checkpoint. A query
                without matches is then nobody in the gallery.

        Returns:
            For each query its matches with name and cosine; also the files that cannot be read,
            which are left out.

        Raises:
            UserError: no picture can be read, of queries or of gallery.

        Example:
            >>> result = model.search("query.png", "people/", top=5)
            >>> [(match.name, match.cosine) for match in result.matches[0]]
        """
        from ffreid.reid.search import search

        return search(self, query, gallery, top=top, false_match_rate=false_match_rate)

    def _network(self) -> nn.Module:
        """What computes the features, built again when the weights have changed."""
        key = weights_key(self.net)
        if self._built is None or self._built[0] != key:
            self._built = key, build.for_evaluation(self.cfg, self.net)
        return self._built[1]

    def _picture(self, name: str, image: Any) -> Picture:
        """The image as an evaluation decodes it."""
        if isinstance(image, str | Path):
            return read_picture(Path(image), self.cfg.DATA.DECODE)
        picture = _to_pillow(name, image)
        return picture if self.cfg.DATA.DECODE == "pil" else as_pixels(picture)

    def _items(self, images: Sequence[Any]) -> tuple[list[tuple[str, list[Any]]], list[list[int]]]:
        """Images or clips, each with its name, and the span of each tracklet's clips."""
        if not self.video:
            return [(f"images[{i}]", [image]) for i, image in enumerate(images)], []
        items: list[tuple[str, list[Any]]] = []
        spans = []
        for i, frames in enumerate(images):
            _check_tracklet(f"images[{i}]", frames)
            start, aug = len(items), self.cfg.AUG
            clips = clip_indices(len(frames), aug.SEQ_LEN, aug.SAMPLING_STRIDE)
            items += [(f"images[{i}]", [frames[index] for index in clip]) for clip in clips]
            spans.append([start, len(items)])
        return items, spans


def create(
    cfg: CfgNode, checkpoint: Path | None, device: torch.device, *, content: Any = None
) -> ReidModel:
    """Build the model of `cfg`; without a checkpoint its weights are random.

    `content` is that of the checkpoint, if it has been read already.
    """
    if checkpoint is None:
        net = build_network(cfg)
    else:
        net, state = build.load_network(checkpoint, cfg, device, content=content)
        for line in build.changed_settings(cfg, state):
            log(f"note: {line}")
    return ReidModel(net.to(device, precision.dtype(cfg)), cfg, checkpoint)


def _check_tracklet(name: str, frames: object) -> None:
    if isinstance(frames, np.ndarray):
        if frames.ndim != 4:
            raise UserError(
                f"{name} has shape {frames.shape}", "use tracklets: (T, H, W, 3) uint8 each"
            )
    elif not isinstance(frames, Sequence) or isinstance(frames, str):
        raise UserError(
            f"{name} is a {type(frames).__name__}, but this network takes tracklets",
            "use a list of images for each tracklet",
        )
    if not len(frames):
        raise UserError(f"{name} is a tracklet without frames", "remove it")


def _to_pillow(name: str, image: Any) -> Image.Image:
    """Convert to a Pillow image, RGB."""
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image, name)  # reads the file, if that is pending
        except DAMAGED as error:
            raise UserError(f"cannot read {name}: {flat(str(error))}", "open it again") from error
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"{name} contains a {type(image).__name__}",
            "use Pillow images, arrays (H, W, 3) uint8, or paths",
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UserError(
            f"{name} has shape {image.shape} and type {image.dtype}",
            "use (H, W, 3) uint8, 0 to 255, in the order R, G, B",
        )
    if not image.size:
        raise UserError(f"{name} has shape {image.shape}: it is empty", "remove it")
    return Image.fromarray(np.ascontiguousarray(image))
