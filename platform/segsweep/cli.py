"""The command line: a thin shell around ``segsweep.api``.

Heavy packages are imported inside the commands, so that ``--help`` answers at once. Results go to
standard output (one JSON document with ``--json``), everything else to standard error.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segsweep.cli_chain import run_kind
from segsweep.cli_cluster import logs, status, stop, submit, top
from segsweep.cli_compare import compare, report
from segsweep.cli_data import data_app
from segsweep.cli_evaluation import evaluate, predict
from segsweep.cli_options import JsonFlag, OutOption, ResumeOption, SetOption, read_size, read_values
from segsweep.cli_output import console, print_json, print_paper, print_sweep, print_training, say
from segsweep.cli_recommend import DEFAULT_NAME, recommend
from segsweep.cli_tracking import sync
from segsweep.cli_ui import ui
from segsweep.errors import InvalidInput, SegsweepError
from segsweep.jobs.folders import OUT
from segsweep.redaction import without_passwords
from segsweep.termination import end_in_order_on_sigterm

if TYPE_CHECKING:
    from segsweep.jobs.result import SweepResult

BARE = {"--resume": "latest", "--register": DEFAULT_NAME}  # what an option without its value means
INTERRUPTED = 130  # 128 + SIGINT, as shells expect
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which segmentation design gives the best accuracy for its cost, on your data and your hardware?",
)
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point: a user's mistake ends with its message, not with a traceback."""
    end_in_order_on_sigterm()
    try:
        sys.argv = _with_latest(sys.argv)
        app()
    except InvalidInput as error:
        _fail("\n".join(f"error: {problem}" for problem in error.problems))
    except SegsweepError as error:
        _fail(f"error: {error}")
    except KeyboardInterrupt:
        _fail("interrupted", code=INTERRUPTED)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        _fail(f"error: {error.strerror or error}{place}; free what is missing, or choose another --out")


def _with_latest(arguments: list[str]) -> list[str]:
    """A bare ``--resume`` means ``--resume latest``; a bare ``--register`` takes the default name."""
    complete = []
    for index, argument in enumerate(arguments):
        complete.append(argument)
        following = arguments[index + 1] if index + 1 < len(arguments) else "-"
        if argument in BARE and (following.startswith("-") or Path(following).suffix == ".yaml"):
            complete.append(BARE[argument])
    return complete


def _fail(message: str, code: int = 2) -> None:
    print(without_passwords(message), file=sys.stderr)
    sys.exit(code)


@app.command()
def demo(
    json_: JsonFlag = False,
    out: OutOption = OUT,
    resume: ResumeOption = None,
    set_: SetOption = None,
) -> None:
    """Run the built-in sweep: tiny ESeg designs on procedural street scenes, at most 3 minutes."""
    from segsweep import api

    _show_sweep(api.demo(out=out, overrides=set_ or [], resume=resume, console=console()), json_)


@app.command()
def sweep(
    job: Annotated[str, typer.Argument(help="Job file, or the name of a built-in job.")],
    json_: JsonFlag = False,
    resume: ResumeOption = None,
    set_: SetOption = None,
) -> None:
    """Search a space for its Pareto front."""
    from segsweep import api

    _show_sweep(api.sweep(job, overrides=set_ or [], resume=resume, console=console()), json_)


@app.command()
def train(
    job: Annotated[str, typer.Argument(help="Job file, or the name of a built-in job.")],
    json_: JsonFlag = False,
    resume: ResumeOption = None,
    set_: SetOption = None,
) -> None:
    """Train one design at its full schedule on 1..N workers."""
    from segsweep import api

    result = api.train(job, overrides=set_ or [], resume=resume, say=say)
    if json_:
        print_json(result.to_json())
    else:
        print_training(result)


@app.command()
def run(
    job: Annotated[str, typer.Argument(help="Job file, or the name of a built-in job, of any kind.")],
    json_: JsonFlag = False,
    resume: ResumeOption = None,
    set_: SetOption = None,
) -> None:
    """Run a job file whatever its kind: sweep, train, prepare, pseudo_labels or chain."""
    from segsweep import api

    kind = api.job_kind(job, overrides=set_ or [])
    if kind == "sweep":
        sweep(job, json_, resume, set_)
    elif kind == "train":
        train(job, json_, resume, set_)
    else:
        run_kind(kind, job, json_, resume, set_ or [])


@app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders; default: the built-in ones.")
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Validate search spaces and jobs; every mistake at once."""
    from segsweep import api

    found = api.check(*(paths or []))
    problems = [problem for items in found.values() for problem in items]
    if json_:
        files = [
            {"path": str(path), "problems": [dataclasses.asdict(item) for item in items]}
            for path, items in found.items()
        ]
        print_json({"ok": not problems, "files": files})
    else:
        for path, items in found.items():
            print(f"{path}: {'ok' if not items else f'{len(items)} problems'}")
            for item in items:
                print(f"  {item}")
    if problems:
        raise typer.Exit(1)


@app.command()
def points(
    space: Annotated[str, typer.Argument(help="Space file, or the name of a built-in space.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many points.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    json_: JsonFlag = False,
) -> None:
    """Draw random points of a space."""
    from segsweep import api

    drawn = api.points(space, n=n, seed=seed)
    if json_:
        print_json([point.as_dict() for point in drawn])
    else:
        for point in drawn:
            print("  ".join(f"{axis}={value}" for axis, value in point.items()))


@app.command()
def cost(
    method: Annotated[str, typer.Option(help="Method, for example eseg.")],
    preset: Annotated[str | None, typer.Option(help="Named design, for example eseg-s.")] = None,
    point: Annotated[
        list[str] | None, typer.Option(metavar="AXIS=VALUE", help="Axis values; repeatable.")
    ] = None,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH in pixels.")] = "1024x2048",
    num_classes: Annotated[int, typer.Option(min=1)] = 19,
    json_: JsonFlag = False,
) -> None:
    """Count parameters, MACs and FLOPs without allocating weights."""
    from segsweep import api

    report = api.cost(
        method, preset=preset, point=read_values(point), size=read_size(size), num_classes=num_classes
    )
    if json_:
        print_json({"method": method, "preset": preset, **report.to_json()})
    else:
        print(f"{report.num_params:,} parameters, {report.macs:,} MACs, {report.flops:,} FLOPs at {size}")


@app.command()
def paper(
    method: Annotated[
        str | None, typer.Option(help="Method, for example senformer; without it all of them.")
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Published figures against those computed here."""
    from segsweep import api

    rows = api.paper(method)
    if json_:
        print_json({"rows": [dataclasses.asdict(row) for row in rows]})
    else:
        print_paper(rows)


@app.command()
def doctor(out: OutOption = OUT, json_: JsonFlag = False) -> None:
    """Look at versions, torch and torchvision, GPUs, Ray, MLflow and folders."""
    from segsweep import api

    findings = api.doctor(out)
    if json_:
        print_json({"findings": [dataclasses.asdict(item) for item in findings]})
    else:
        for item in findings:
            remedy = f" -> {item.remedy}" if item.remedy else ""
            print(f"{'ok  ' if item.ok else 'BAD '} {item.name}: {item.found}{remedy}")
    if not all(item.ok for item in findings):
        raise typer.Exit(1)


app.command("ui")(ui)
app.command("eval")(evaluate)
app.command("predict")(predict)
app.command("compare")(compare)
app.command("report")(report)
for command in (submit, status, logs, stop, top):
    app.command(command.__name__)(command)
app.command("sync")(sync)
app.command("recommend")(recommend)


def _show_sweep(result: SweepResult, json_: bool) -> None:
    if json_:
        print_json(result.to_json())
    else:
        print_sweep(result)
    if result.interrupted:
        print(f"interrupted; go on with: --resume {result.sweep_id}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)


if __name__ == "__main__":
    main()
