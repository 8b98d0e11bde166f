"""The saved views of an experiment by name, the links that open them, and the descriptions with the links."""

from __future__ import annotations

from collections.abc import Sequence

PARETO_FRONTS = "pareto-fronts"
ALL_TRIALS = "all-trials"
SWEEP_PROGRESS = "sweep-progress"
BY_METHOD = "by-method"
VIEW_TAG = "mlflow.sharedViewState."
NOTE_TAG = "mlflow.note.content"
NOTE_MARK = "*Written by segsweep. What you write below this line stays.*"
MAX_NOTE_CHARS = 5000  # MLflow's limit for tags of runs and experiments
RANK = "pareto_rank"
SWEEP_RANK = -2  # of the runs of sweeps: before everything where they are shown
FRONT_RUN_RANK = -1  # of the run that draws a front, so that it comes before the trials on it
REPORT = "report.html"


def comparison_url(base: str, experiment_id: str, *, view: str = PARETO_FRONTS, mode: str = "CHART") -> str:
    """The link that opens a saved view. The mode is not in the view's state, so it has to be in the link."""
    return f"{base.rstrip('/')}/{relative_view_url(experiment_id, view, mode)}"


def run_url(base: str, experiment_id: str, run_id: str) -> str:
    """The link to one run."""
    return f"{base.rstrip('/')}/{relative_run_url(experiment_id, run_id)}"


def relative_run_url(experiment_id: str, run_id: str, page: str = "") -> str:
    """The link to one run for text that the UI itself shows."""
    # without the workflow type the UI opens its pages for language models
    return f"#/experiments/{experiment_id}/runs/{run_id}{page}?workflowType=machine_learning"


def relative_view_url(experiment_id: str, view: str = PARETO_FRONTS, mode: str = "CHART") -> str:
    """The link to a saved view for text that the UI itself shows."""
    query = f"viewStateShareKey={view}&compareRunsMode={mode}&workflowType=machine_learning"
    return f"#/experiments/{experiment_id}/runs?{query}"


def experiment_note(
    experiment_id: str, text: str, *, before: str = "", report: str = "", warning: str = ""
) -> str:
    """The experiment's description; the UI shows its first line on every tab, so the links come first.

    Args:
        experiment_id: Where the links lead.
        text: What follows the links, in Markdown.
        before: The description so far: what a person wrote below the mark is kept.
        report: Link to the newest report, if there is one.
        warning: What a reader must know before comparing; on the first line, too.
    """
    views = [
        ("**Compare the Pareto fronts**", PARETO_FRONTS, "CHART"),
        ("all trials", ALL_TRIALS, "CHART"),
        ("table", ALL_TRIALS, "TABLE"),
        ("by method", BY_METHOD, "CHART"),
        ("sweep progress", SWEEP_PROGRESS, "CHART"),
    ]
    links = [(name, relative_view_url(experiment_id, view, mode)) for name, view, mode in views]
    parts = [f"[{name}]({url})" for name, url in [*links, *([("report", report)] if report else [])]]
    line = " · ".join([*parts, *([f"**{warning}**"] if warning else [])])
    kept = before.split(NOTE_MARK, 1)[-1].strip()
    room = MAX_NOTE_CHARS - len(line) - len(NOTE_MARK) - len(kept) - 8
    return f"{line}\n\n{_shortened(text, room)}\n\n{NOTE_MARK}\n\n{kept}".strip() + "\n"


def sweep_note(experiment_id: str, run_id: str, figures: Sequence[str], text: str = "") -> str:
    """The description of a sweep's run: the comparison and its figures, one click away, then a summary."""
    links = [("**Compare the Pareto fronts**", relative_view_url(experiment_id))]
    links += [(name, relative_run_url(experiment_id, run_id, f"/artifacts/{name}")) for name in figures]
    line = " · ".join(f"[{name}]({url})" for name, url in links)
    return f"{line}\n\n{_shortened(text, MAX_NOTE_CHARS - len(line) - 2)}".strip()


def _shortened(text: str, room: int) -> str:
    """The text without its last lines, if it has more characters than there is room for."""
    lines = text.splitlines()
    while lines and len("\n".join(lines)) > max(room, 0):
        lines.pop()
    return "\n".join(lines)
