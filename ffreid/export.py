"""``ffreid export``: networks as ONNX or torch.export files, checked against PyTorch."""

import importlib.util
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ffreid import atomic, report
from ffreid.api import PoseModel, ReidModel, load_model
from ffreid.engine.specs import TensorSpec
from ffreid.errors import UserError
from ffreid.pose.data.batch import LEVELS, Inputs
from ffreid.pose.preparation import prepare_frame
from ffreid.pose.sources import layout_of
from ffreid.pose.specs import COUNTS

SUFFIXES = (".onnx", ".pt2")
LEAST_COSINE, LARGEST_OFFSET = 0.9999, 1e-3
"""Of outputs with those of PyTorch; of offsets the largest difference in metres."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
BATCHES = (2, 1, 3)
"""Sizes of checked batches; the first is exported with."""
Arrays = dict[str, npt.NDArray[Any]]


def export(
    checkpoint: Path,
    out: Path,
    *,
    dataset: str | None = None,
    size: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> bool:
    """Write the network of a checkpoint as ``.onnx`` or ``.pt2``, with a batch of any size.

    Inputs and outputs are those of the model's `input_spec` and `output_spec`, of the sizes that
    the checkpoint was trained with; `size`, HEIGHTxWIDTH, is another of a pose network's image. The
    file is run on several batches and compared with PyTorch.

    Returns whether the outputs agree; otherwise no file is left.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"cannot export to {out}", f"use a name with {' or '.join(SUFFIXES)}")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if out.suffix == ".onnx" and missing:
        raise UserError(
            f"export to ONNX needs {', '.join(missing)}", "run pip install 'ffreid[export]'"
        )
    try:
        atomic.check_writable(out, stream=False, magic=b"PK" if out.suffix == ".pt2" else b"\x08")
    except UserError as error:
        raise UserError(error.message, "use another path, or remove what is there") from error
    model = load_model(checkpoint, dataset, settings=settings)
    if size is not None and isinstance(model, ReidModel):
        raise UserError("--size has no effect for re-ID", "use DATA.HEIGHT and DATA.WIDTH")
    batches = [_example(model, count, size) for count in BATCHES]
    net = _Positional(model).eval()
    part = atomic.partial_file(out)
    try:
        with _quiet(), torch.no_grad():
            write = _write_onnx if out.suffix == ".onnx" else _write_pt2
            run = write(net, model, batches[0], part)
        agrees = _compare(net, model, batches, run)
        if agrees:
            megabytes = part.stat().st_size / 1e6
            part.replace(out)
            report.log(f"written: {out} ({megabytes:.0f} MB)")
    finally:
        part.unlink(missing_ok=True)
    if not agrees:
        report.log(f"the exported network differs from PyTorch's: {out} is not written")
    return agrees


class _Positional(nn.Module):
    """A model whose inputs and outputs are tensors in the order of its specs."""

    def __init__(self, model: PoseModel | ReidModel) -> None:
        super().__init__()
        self.net, self.is_pose = model.net, isinstance(model, PoseModel)

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        if not self.is_pose:
            features: Tensor = self.net(tensors[0])
            return features
        rgb, features, choose, *rest = tensors
        levels = {name: tuple(rest.pop(0) for _ in range(COUNTS[name])) for name in LEVELS}
        outputs = self.net(Inputs(rgb=rgb, features=features, choose=choose, **levels))
        return outputs.segmentation, outputs.keypoint_offsets, outputs.centre_offsets


def _example(model: PoseModel | ReidModel, count: int, size: str | None) -> Arrays:
    """A batch of inputs of the real shape: random images, or wavy surfaces with holes."""
    rng = np.random.default_rng(count)
    if isinstance(model, ReidModel):
        (spec,) = model.input_spec()
        sizes = {"B": count, "T": model.cfg.AUG.SEQ_LEN}
        sizes |= {"H": model.cfg.DATA.HEIGHT, "W": model.cfg.DATA.WIDTH}
        shape = [sizes.get(str(n), n) for n in spec.shape]
        return {spec.name: rng.standard_normal(shape).astype(np.float32)}
    height, width = _image_size(model, size)
    frames = []
    for number in range(count):
        rows, columns = np.mgrid[:height, :width] / max(height, width)
        depth = 0.9 + 0.2 * rows + 0.1 * np.sin(9 * columns + number)
        depth[rng.random(depth.shape) < 0.1] = 0
        camera = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]])
        # Smooth, as pictures are: noise gives offsets of hundreds of metres.
        waves = np.sin(np.stack([7 * rows, 9 * columns, 5 * (rows + columns)], axis=2) + number)
        noise = rng.normal(0, 3, waves.shape)
        rgb = (127 + 100 * waves + noise).clip(0, 255).astype(np.uint8)
        frames.append(
            prepare_frame(
                rgb,
                depth,
                camera,
                1.0,
                points=model.cfg.MODEL.POINTS,
                fill_holes=layout_of(model.cfg).reader.fill_holes,
                index=number,
            )
        )
    return {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}


def _image_size(model: PoseModel, size: str | None) -> tuple[int, int]:
    if size is not None:
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
        if match is None or not min(map(int, match.groups())) >= 8:
            raise UserError(f"--size is {size!r}", "use HEIGHTxWIDTH in pixels, e.g. 480x640")
        return int(match[1]), int(match[2])
    height, width = model.frame_size
    return height // model.cfg.DATA.SHRINK, width // model.cfg.DATA.SHRINK


Run = Callable[[Arrays], list[npt.NDArray[Any]]]


def _tensors(batch: Arrays) -> tuple[Tensor, ...]:
    return tuple(map(torch.from_numpy, batch.values()))


def _dynamic(batch: Arrays) -> tuple[tuple[dict[int, Any], ...]]:
    size = torch.export.Dim("batch", min=1, max=1024)
    return (tuple({0: size} for _ in batch),)


def _write_onnx(net: nn.Module, model: PoseModel | ReidModel, batch: Arrays, path: Path) -> Run:
    import onnxruntime

    program = torch.onnx.export(
        net,
        _tensors(batch),
        dynamo=True,
        input_names=list(batch),
        output_names=[spec.name for spec in model.output_spec()],
        dynamic_shapes=_dynamic(batch),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda arrays: list(session.run(None, arrays))


def _write_pt2(net: nn.Module, model: PoseModel | ReidModel, batch: Arrays, path: Path) -> Run:
    program = torch.export.export(net, _tensors(batch), dynamic_shapes=_dynamic(batch))
    with path.open("wb") as target:
        torch.export.save(program, target)
    with path.open("rb") as file:
        loaded = torch.export.load(file).module()

    def run(arrays: Arrays) -> list[npt.NDArray[Any]]:
        with torch.no_grad():
            outputs = loaded(*_tensors(arrays))
        return [t.numpy() for t in (outputs if isinstance(outputs, tuple | list) else [outputs])]

    return run


def _compare(
    net: nn.Module, model: PoseModel | ReidModel, batches: Sequence[Arrays], run: Run
) -> bool:
    """Print how the exported network's outputs agree with PyTorch's."""
    rows: list[list[report.Cell]] = []
    agrees = True
    for batch in batches:
        started = time.perf_counter()
        with torch.no_grad():
            outputs = net(*_tensors(batch))
        between = time.perf_counter()
        found = run(batch)
        ended = time.perf_counter()
        expected = outputs if isinstance(outputs, tuple) else (outputs,)
        for spec, ours, theirs in zip(model.output_spec(), expected, found, strict=True):
            cosine, difference = _agreement(ours.numpy(), theirs)
            agrees &= _is_equal(spec, cosine, difference)
            shape = " x ".join(map(str, theirs.shape))
            times = [between - started, ended - between]
            largest = f"{difference:.2g} {'' if spec.unit == '1' else spec.unit}".rstrip()
            rows.append([spec.name, shape, f"{cosine:.6f}", largest, *times])
    columns = ["output", "shape", "least cosine", "largest difference", "PyTorch, s", "file, s"]
    report.show_table("the exported network against PyTorch", columns, rows)
    return agrees


def _agreement(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> tuple[float, float]:
    """The least cosine of a sample's outputs, and the largest difference; NaN where undefined."""
    if ours.shape != theirs.shape:
        return float("nan"), float("nan")
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (ours, theirs))
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(cosines.min()), float(np.abs(a - b).max())


def _is_equal(spec: TensorSpec, cosine: float, difference: float) -> bool:
    return cosine >= LEAST_COSINE and (spec.unit != "m" or difference <= LARGEST_OFFSET)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own messages; their errors say that the network cannot be exported."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            logger.setLevel(logging.ERROR)
            yield
    finally:
        logger.setLevel(level)
