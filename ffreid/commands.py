"""Commands on results, and on people's own frames and pictures."""

from pathlib import Path
from typing import Annotated

import typer

from ffreid import flags
from ffreid.errors import UserError
from ffreid.flags import KEY, POSE, REID, option


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(compare)
    app.command(context_settings=flags.PAIRS)(predict)
    app.command(context_settings=flags.PAIRS)(export)
    app.command()(objects)
    app.command()(render)


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...", help="Files results.json of ffreid eval, or their folders."
        ),
    ],
    report: flags.Report = None,
    json: flags.JsonFile = None,
) -> None:
    """Compare results of evaluations, with intervals of their differences to the first.

    Example: ffreid compare runs/ltcc/baseline runs/ltcc/cal --report compare.html
    """
    from ffreid.compare import compare as run

    run(results, json_file=json, report_file=report)


def _accept_stdin(context: typer.Context, values: list[str] | None) -> list[str]:
    """Refuse unknown options, but not - for standard input."""
    flags.accept_negative_numbers(context, [value for value in values or [] if value != "-"])
    return values or []


INPUTS = "Pose: images, folders, lists, or - (paths on stdin); settings."
NAMES = {"pose": "pose", "reid": "re-ID"}
OF_TASK = {
    "pose": [
        "camera",
        "intrinsics",
        "depth",
        "depth_scale",
        "size",
        "min_score",
        "refine",
        "instances",
        "grid",
        "json",
        "cls",
        "objects",
        "root",
    ],
    "reid": ["query", "gallery", "top", "labels", "pictures", "blur_faces", "false_match_rate"],
}
"""Parameters of `predict` for one task alone."""


def predict(
    context: typer.Context,
    checkpoint: Annotated[Path, option("Checkpoint, e.g. best.pth.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT... [KEY VALUE]", help=INPUTS, callback=_accept_stdin),
    ] = None,
    dataset: Annotated[str | None, option("Dataset, if the checkpoint names none.")] = None,
    out: Annotated[Path | None, option("Folder for results and pictures.")] = None,
    gpu: Annotated[str | None, option("GPU to use, e.g. 0.")] = None,
    camera: Annotated[
        Path | None, option("File of intrinsics, e.g. camera.json.", panel=POSE)
    ] = None,
    intrinsics: Annotated[
        tuple[float, float, float, float] | None,
        option("Intrinsics in pixels.", panel=POSE, metavar="FX FY CX CY"),
    ] = None,
    depth: Annotated[Path | None, option("Depth of the colour image.", panel=POSE)] = None,
    depth_scale: Annotated[
        float | None, option("Depth units per metre, e.g. 1000.", panel=POSE)
    ] = None,
    size: Annotated[str | None, option("Fit into HEIGHTxWIDTH; own: as it is.", panel=POSE)] = None,
    min_score: Annotated[
        float,
        option(
            "Leave out poses with lower scores.", panel=POSE, metavar="<float>", show_default=False
        ),
    ] = 0.0,
    refine: Annotated[str | None, option("Fit poses to the depth: icp.", panel=POSE)] = None,
    instances: Annotated[
        bool, option("Several objects of a class.", "--instances", panel=POSE)
    ] = False,
    grid: Annotated[bool, option("Draw all frames in one picture.", "--grid", panel=POSE)] = False,
    json: Annotated[Path | None, option("Also write a JSON file.", panel=POSE)] = None,
    force: Annotated[bool, option("Overwrite results in --out.", "--force")] = False,
    cls: Annotated[str | None, option("LineMOD object of an old file.", panel=POSE)] = None,
    objects: Annotated[
        Path | None, option("Object set, if the checkpoint has none.", panel=POSE)
    ] = None,
    root: Annotated[Path | None, option("Folder with the objects' meshes.", panel=POSE)] = None,
    query: Annotated[Path | None, option("Picture, or folder of pictures.", panel=REID)] = None,
    gallery: Annotated[Path | None, option("Folder of pictures to search.", panel=REID)] = None,
    top: Annotated[int, option("Matches per query.", panel=REID, min=1, metavar="<int>")] = 10,
    labels: Annotated[
        Path | None, option("CSV file of persons: path, identity.", panel=REID)
    ] = None,
    pictures: Annotated[
        int, option("Rank lists in --out.", panel=REID, min=0, metavar="<int>")
    ] = 20,
    blur_faces: Annotated[
        bool, option("Blur the upper fifth when drawing.", "--blur-faces", panel=REID)
    ] = False,
    false_match_rate: Annotated[
        float | None, option("Strangers who may match, e.g. 0.01.", panel=REID)
    ] = None,
) -> None:
    """Estimate poses in your own frames, or search your own pictures for persons.

    Example: ffreid predict --checkpoint best.pth frames --out poses

    Example: ffreid predict --checkpoint best.pth --query a.jpg --gallery people
    """
    flags.check_file(checkpoint, "checkpoint", "best.pth")
    flags.check_file(depth, "depth image", "frame-depth.png")
    flags.check_file(camera, "camera file", "camera.json")
    flags.check_file(labels, "table of persons", "labels.csv")
    flags.choose_devices(gpu)
    inputs, pairs = _split(arguments or [])
    from ffreid.config import split_pairs

    settings = dict(split_pairs(pairs))  # before torch is loaded
    if objects is not None:
        settings["DATA.OBJECT_SET"] = str(objects)
    import torch

    from ffreid.api import PoseModel, load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(checkpoint, dataset, cls=cls, root=root, device=device, settings=settings)
    task, other = ("pose", "reid") if isinstance(model, PoseModel) else ("reid", "pose")
    for name in OF_TASK[other]:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            flag = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{flag} has no effect for a {NAMES[task]} checkpoint", f"remove {flag}"
            )
    if isinstance(model, PoseModel):
        from ffreid.pose.own import command, read

        done = command.run(
            model,
            inputs,
            read.make_options(camera, intrinsics, depth_scale, size),
            depth=depth,
            out=out,
            grid=grid,
            force=force,
            json_file=json,
            min_score=min_score,
            refine=refine,
            instances=instances,
        )
    else:
        if inputs:
            hint = "use --query FILE|FOLDER --gallery FOLDER"
            raise UserError(f"{inputs[0]} is neither a setting nor an option", hint)
        if query is None or gallery is None:
            missing = "--query" if query is None else "--gallery"
            raise UserError(f"no {missing}", "use --query FILE|FOLDER --gallery FOLDER")
        from ffreid.reid.predict import predict as run

        done = run(
            model,
            query=query,
            gallery=gallery,
            out=out,
            top=top,
            labels=labels,
            pictures=pictures,
            blur_faces=blur_faces,
            false_match_rate=false_match_rate,
            force=force,
        )
    if not done:
        raise typer.Exit(1)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Separate inputs from KEY VALUE pairs, which come after them."""
    for index, argument in enumerate(arguments):
        if KEY.fullmatch(argument) and not Path(argument).exists():
            return arguments[:index], arguments[index:]
    return arguments, []


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint to export.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .onnx or .pt2.")],
    dataset: Annotated[str | None, option("Dataset of a checkpoint that does not name it.")] = None,
    size: Annotated[
        str | None, option("HEIGHTxWIDTH of a pose network's image, e.g. 480x640.")
    ] = None,
    pairs: flags.Pairs = None,
) -> None:
    """Export a network to ONNX or torch.export, and compare it with PyTorch.

    Example: ffreid export best.pth network.onnx
    """
    flags.check_file(checkpoint, "checkpoint", "best.pth")
    from ffreid.config import split_pairs
    from ffreid.export import export as run

    settings = dict(split_pairs(pairs or []))
    if not run(checkpoint, out, dataset=dataset, size=size, settings=settings):
        raise typer.Exit(1)


def objects(
    meshes: Annotated[
        list[Path], typer.Argument(metavar="MESH...", help="PLY, OBJ, STL or glTF files.")
    ],
    out: Annotated[Path, option("Folder for the object set.")],
    unit: Annotated[str | None, option("Unit of the files, m or mm; default: found.")] = None,
    keypoints: Annotated[int, option("Keypoints of an object.", metavar="<int>")] = 8,
    force: Annotated[bool, option("Replace the set in --out.", "--force")] = False,
    json: flags.JsonFile = None,
) -> None:
    """Make an object set of your own meshes: keypoints, symmetries, pictures.

    Example: ffreid objects drill.obj mug.ply --out tools
    """
    from ffreid import atomic
    from ffreid.pose.object_set.make import make_objects, report_objects

    if json is not None:
        atomic.check_writable(json)
    content = make_objects(meshes, out, unit=unit, keypoints=keypoints, force=force)
    report_objects(content, out)
    if json is not None:
        atomic.write_json(json, content)


def render(
    objects: Annotated[Path, option("Object set of ffreid objects, or models of a BOP dataset.")],
    frames: Annotated[int, option("Number of training frames.", metavar="<int>")],
    out: Annotated[Path, option("Folder of the dataset; frames that are there are kept.")],
    test: Annotated[int, option("Number of test frames besides.", metavar="<int>")] = 0,
    camera: Annotated[Path | None, option("File of intrinsics, e.g. camera.json.")] = None,
    size: Annotated[
        str | None, option("HEIGHTxWIDTH; default: the camera's, else 480x640.")
    ] = None,
    instances: Annotated[
        int, option("Instances of an object in a frame, at most.", metavar="<int>")
    ] = 1,
    views: Annotated[
        str, option("Objects are seen from all sides, or upright from the front.")
    ] = "all",
    split: Annotated[str, option("Folder of the training frames.")] = "train_pbr",
    seed: Annotated[int, option("Start of all random numbers.", metavar="<int>")] = 0,
    no_noise: Annotated[
        bool, option("Leave out the sensor's noise and holes.", "--no-noise")
    ] = False,
    renderer: Annotated[
        str | None, option("What draws: opengl (default), embree, or mitsuba.")
    ] = None,
    workers: Annotated[
        int | None, option("Number of processes; default: one a core.", metavar="<int>")
    ] = None,
) -> None:
    """Render training data of objects: a BOP dataset of scenes in clutter.

    Example: ffreid render --objects set --frames 1000 --test 100 --out rendered
    """
    flags.check_file(camera, "camera file", "camera.json")
    from ffreid.pose.render.command import render as run

    run(
        objects,
        out,
        frames=frames,
        test=test,
        camera=camera,
        size=size,
        instances=instances,
        views=views,
        split=split,
        seed=seed,
        noise=not no_noise,
        renderer=renderer,
        workers=workers,
    )
