"""An evaluation run: frames to a table with the published results beside it, JSON and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from yacs.config import CfgNode

from ffreid import atomic, report
from ffreid.engine import precision
from ffreid.engine.checkpoints import contents
from ffreid.engine.dataset_files import write_picture
from ffreid.engine.distributed import group
from ffreid.engine.distributed.group import World
from ffreid.engine.loading import evaluation_stream
from ffreid.engine.tracking import run_folder
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.pose import build, sources
from ffreid.pose.data.batch import collate_for_evaluation
from ffreid.pose.draw import Picture, draw_poses
from ffreid.pose.inference import FrameResult, evaluate_frames, pose_rows
from ffreid.pose.objects import ObjectModels, ycb_objects
from ffreid.pose.predictions import gt_from_folder, read_predictions, score_predictions
from ffreid.pose.resources import resource
from ffreid.pose.scoring import diameters, summarise
from ffreid.pose.table import published_note, results_table


def evaluate(
    cfg: CfgNode,
    world: World,
    *,
    folder: Path,
    weights: Path | None,
    json_file: Path | None = None,
    use_gt: bool = False,
    pictures: int = 0,
) -> dict[str, Any]:
    """Evaluate the network in `weights`, or the true labels where there is none.

    Writes ``results.json``, ``poses.json`` and ``pictures/*.png`` below `folder` (below its
    ``test-gt`` for the true labels) and prints the table, in the first process.
    """
    source = group.main_process_first(lambda: sources.open_source(cfg))
    if use_gt:
        folder = folder / "test-gt"
    net: nn.Module | None = None
    origin: dict[str, Any] = {"weights": "none: true labels and offsets"}
    if not use_gt:
        assert weights is not None
        net, state = build.load_network(weights, source.objects, world.device)
        net = net.to(precision.dtype(cfg))
        told = contents.origin(state, weights)
        origin = {"weights": weights, "step": state.get("step"), "origin": told}
        if world.is_main:
            report.log(f"evaluating {told}")
            for line in build.changed_settings(cfg, state):
                report.log(f"note: {line}")
    elif world.is_main:
        report.log("voting with the true labels and offsets")
    if world.is_main:
        run_folder.create_folder(folder)
    results = _run(cfg, world, source, net, pictures)
    results = sorted(group.gather_rows(results), key=lambda result: result.gt.index)
    scores = [score for result in results for score in result.scores]
    summary = summarise(scores, source.objects, diameters(source.objects, source.meshes))
    payload = origin | {
        "results": summary,
        "data": source.summary(),
        "frames": len(results),
        "skipped_frames": {r.gt.name: r.skipped for r in results if r.skipped},
        "config": cfg.dump(),
        "provenance": run_folder.provenance(cfg.SEED, world.size, str(world.device)),
    }
    if world.is_main:
        _show(summary, source.objects, payload["skipped_frames"])
        _write(folder, payload, results, source, json_file)
    return payload


def needs_weights(options: Mapping[str, Any]) -> bool:
    """Whether an evaluation with such options needs a checkpoint."""
    return not options.get("use_gt")


def _run(
    cfg: CfgNode, world: World, source: sources.Source, net: nn.Module | None, pictures: int
) -> list[FrameResult]:
    data = build.evaluation_set(cfg, source, cfg.TEST.LIMIT)
    stream = evaluation_stream(
        data,
        collate_for_evaluation,
        batch=cfg.TEST.BATCH,
        workers=cfg.DATA.WORKERS,
        rank=world.rank,
        size=world.size,
    )
    mine = len(range(world.rank, len(data), world.size))
    with ProgressBar("evaluating", mine, show=world.is_main) as bar:
        return evaluate_frames(
            stream,
            net,
            source.objects,
            source.meshes,
            build.voting(cfg),
            device=world.device,
            dtype=precision.dtype(cfg),
            pictures=pictures,
            advance=bar.advance,
        )


def evaluate_predictions(
    cfg: CfgNode,
    predictions: Path,
    *,
    gt: Path | None,
    frames: Path | None,
    json_file: Path | None,
) -> dict[str, Any]:
    """Score somebody's poses without pictures or network, and print the table.

    Args:
        cfg: of ``ycb``; its root holds ``models/`` (and meta.mat files where `gt` is None).
        predictions: folder of text files, or a BOP results CSV.
        truth: folder of true poses in the text format; None reads meta.mat files.
        frames: file of frame names; None takes the test list.
        json_file: where to write the results.
    """
    if cfg.DATASET != "ycb":
        raise UserError(
            f"--predictions knows the objects of ycb, not of {cfg.DATASET}", "use --dataset ycb"
        )
    objects = ycb_objects()
    root = Path(cfg.DATA.ROOT)
    if json_file is not None:
        atomic.check_writable(json_file)
    if gt is not None:
        if frames is None:
            raise UserError("--truth needs the frames of its rows", "add --frames FILE")
        gts = gt_from_folder(gt, frames, objects)
    else:
        gts = sources.ycb_truths(root, objects, frames)
    poses = read_predictions(predictions, objects, frames)
    mesh = sources.ycb_meshes(root, objects)
    with ProgressBar("scoring", len(gts)) as bar:
        scores = score_predictions(gts, poses, objects, mesh, progress=bar.update)
    summary = summarise(scores, objects, diameters(objects, mesh))
    payload = {
        "predictions": predictions,
        "truth": gt or root,
        "results": summary,
        "frames": len(gts),
        "provenance": run_folder.provenance(cfg.SEED, 1, "cpu"),
    }
    _show(summary, objects, {})
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload


def _show(summary: dict[str, Any], objects: ObjectModels, skipped: dict[str, str]) -> None:
    published = resource("published").get(objects.dataset)
    columns, rows = results_table(summary, published)
    report.show_table(f"{objects.dataset}: poses", columns, rows)
    if published:
        report.log(f"published: {published_note(published)}")
    for name, reason in skipped.items():
        report.log(f"skipped, its objects count as missed: {name}: {reason}")


def _write(
    folder: Path,
    payload: dict[str, Any],
    results: Sequence[FrameResult],
    source: sources.Source,
    json_file: Path | None,
) -> None:
    atomic.write_json(folder / "results.json", payload)
    atomic.write_json(folder / "poses.json", {"poses": pose_rows(results, source.objects)})
    if json_file is not None:
        atomic.write_json(json_file, payload)
    drawn = [result for result in results if result.rgb is not None]
    for old in (folder / "pictures").glob("*.png") if drawn else ():
        old.unlink()
    for result in drawn:
        path = folder / "pictures" / (result.gt.name.replace("/", "_") + ".png")
        write_picture(path, picture(result, source.objects, source.meshes))
    if drawn:
        report.log(f"{len(drawn)} pictures in {folder / 'pictures'}")
    report.log(f"results in {folder / 'results.json'}, poses in {folder / 'poses.json'}")


def picture(result: FrameResult, objects: ObjectModels, mesh: sources.Meshes) -> Picture:
    """Draw a frame that kept its picture: true poses beside the estimated ones."""
    gt = result.gt
    assert result.rgb is not None
    return draw_poses(
        result.rgb,
        gt.intrinsics,
        points=mesh,
        predicted=[(p.class_id, p.camera_from_object) for p in result.poses if p.solved],
        true=list(zip(gt.class_ids.tolist(), gt.camera_from_object, strict=True)),
        names={class_id: objects.name(class_id) for class_id in objects.class_ids},
    )
