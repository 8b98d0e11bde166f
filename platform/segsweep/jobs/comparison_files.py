"""What a comparison leaves behind: a folder of files, and an experiment in MLflow."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.pareto.comparison_records import Comparison, Contender, FrontComparison, Standing
from segsweep.redaction import without_passwords
from segsweep.reporting.comparison_data import comparison_json, fronts_csv
from segsweep.reporting.comparison_figure import comparison_figure, contender_colors
from segsweep.reporting.comparison_text import (
    comparison_markdown,
    headline,
    sections,
    space_heading,
    title,
)
from segsweep.tracking.comparison_run import (
    XY,
    ComparedFront,
    ComparedTrial,
    ComparisonRecord,
    front_metrics,
    metric_name,
    write_comparison,
)
from segsweep.tracking.fronts import Panel
from segsweep.tracking.tracker import MlflowLink
from segsweep.tracking.units import shown, unit_of

COMPARISONS = "comparisons"  # folder of all comparisons in ``out``
MAX_NOTE = 4500  # characters of a description: older MLflow servers refuse 5,000


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """A comparison with everything that was written.

    Attributes:
        comparison: What was found.
        folder: Where the files are.
        files: Name -> file: ``comparison.json``, ``comparison.md``, ``comparison.png``, ``front.csv`` and,
            if it was asked for, ``report.html``.
        notes: What the report lacks, and why.
        mlflow: Where the runs are; ``None`` if they were not asked for.
    """

    comparison: Comparison
    folder: Path
    files: dict[str, Path]
    notes: tuple[str, ...]
    mlflow: MlflowLink | None

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        link = self.mlflow
        return {
            **comparison_json(self.comparison),
            "headline": headline(self.comparison),
            "sentences": dict(sections(self.comparison)),
            "folder": str(self.folder),
            "files": {name: str(path) for name, path in self.files.items()},
            "report_notes": list(self.notes),
            "mlflow": None
            if link is None
            else {
                "tracking_uri": without_passwords(link.tracking_uri),
                "experiment_id": link.experiment_id,
                "run_id": link.parent_run_id,
                "url": without_passwords(link.url),
                "problem": without_passwords(link.problem),
            },
        }


def comparison_key(comparison: Comparison) -> str:
    """Name of the folder: contenders, and a digest of the sweeps and axes that were compared."""
    ids = sorted(run.sweep_id for contender in comparison.contenders for run in contender.runs)
    axes = [space_heading(space) for space in comparison.spaces()]
    digest = hashlib.sha256(json.dumps([ids, axes]).encode()).hexdigest()[:8]
    names = "-vs-".join(contender.label for contender in comparison.contenders)
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', names)[:80]}-{digest}"


def write_files(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Write the figure, the sentences, the numbers and the fronts; a comparison from before is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "comparison.md": comparison_markdown(comparison),
        "comparison.json": json.dumps(comparison_json(comparison), indent=1, allow_nan=False) + "\n",
        "front.csv": fronts_csv(comparison),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    figure = comparison_figure(comparison, folder / "comparison.png")
    return {"comparison.png": figure, **{name: folder / name for name in texts}}


def record_in_mlflow(comparison: Comparison, files: dict[str, Path], *, uri: str) -> MlflowLink:
    """Write the comparison's experiment: every front on common axes, and one run with table and files."""
    key = comparison_key(comparison)
    space = comparison.headline
    record = ComparisonRecord(
        key=key,
        title=f"compare {title(comparison)} ({key[-8:]})",
        objectives=tuple(
            dict.fromkeys(
                objective
                for panel in comparison.panels
                if not panel.conditions  # speeds of several devices never share an axis
                for objective in panel.objectives
            )
        )
        or comparison.panels[0].objectives,
        fronts=tuple(
            ComparedFront(
                label=contender.label,
                method=contender.method,
                color=contender_colors(comparison)[contender.label],
                sweeps=tuple(run.sweep_id for run in contender.runs),
                lines=_lines(comparison, contender.label),
                metrics=_front_metrics(space, contender.label),
                members=_members(comparison, contender.label),
            )
            for contender in comparison.contenders
        ),
        note=_note(comparison),
        table=_table(comparison),
        params={**dict(comparison.conditions), "sweeps": _sweeps(comparison.contenders)},
        metrics=_metrics(comparison),
        files=files,
    )
    return write_comparison(uri, record)


def _sweeps(contenders: Sequence[Contender]) -> str:
    return ", ".join(run.sweep_id for contender in contenders for run in contender.runs)


def _lines(comparison: Comparison, label: str) -> tuple[tuple[Panel, tuple[XY, ...]], ...]:
    found = []
    for space in comparison.panels:
        standing = _standing(space, label)
        if standing is None or space.conditions:
            continue
        first, cost = space.objectives
        corners = sorted((shown(cost.metric, x), shown(first.metric, y)) for x, y in standing.surface)
        found.append((Panel(x=cost, y=first), tuple(corners)))
    return tuple(found)


def _members(comparison: Comparison, label: str) -> tuple[ComparedTrial, ...]:
    """Everyone on a front of the contender: the knees first, then in the order of the panels."""
    standings = [found for space in comparison.spaces() if (found := _standing(space, label)) is not None]
    ranked = [*(m for item in standings for m in item.knees), *(m for item in standings for m in item.front)]
    unique = {(member.sweep_id, member.evaluation.trial_id): member for member in reversed(ranked)}
    shared = {o.metric for panel in comparison.panels if not panel.conditions for o in panel.objectives}
    apart = {o.metric for panel in comparison.panels if panel.conditions for o in panel.objectives[1:]}
    told = (shared | {"macs", "num_params"}) - apart  # speeds of several devices never share an axis
    return tuple(
        ComparedTrial(
            name=f"{label} t{member.evaluation.number:03d} {member.sweep_id}",
            sweep_id=member.sweep_id,
            trial_id=member.evaluation.trial_id,
            point=member.evaluation.point.as_dict(),
            metrics={name: value for name, value in member.evaluation.metrics().items() if name in told},
        )
        for member in reversed(unique.values())
    )


def _standing(space: FrontComparison, label: str) -> Standing | None:
    return next((item for item in space.standings if item.label == label), None)


def _front_metrics(space: FrontComparison, label: str) -> dict[str, float]:
    standing = _standing(space, label)
    if standing is None:
        return {}
    best = (max if space.objectives[0].maximize else min)(standing.best)
    return front_metrics(
        space.objectives,
        best,
        hypervolume=standing.hypervolume,
        front_size=float(len(standing.front)),
    )


def _metrics(comparison: Comparison) -> dict[str, float]:
    space = comparison.headline
    found = {"compare/united hypervolume": space.united_hypervolume}
    for standing in space.standings:
        found[metric_name(f"compare/hypervolume {standing.label}")] = standing.hypervolume
        if space.united_hypervolume > 0:
            share = standing.hypervolume / space.united_hypervolume
            found[metric_name(f"compare/hypervolume share {standing.label}")] = share
    for pairing in space.pairings:
        names = f"{pairing.first} over {pairing.second}", f"{pairing.second} over {pairing.first}"
        for way, name in enumerate(names):
            found[metric_name(f"compare/coverage {name}")] = pairing.coverage[way]
            found[metric_name(f"compare/epsilon {name}")] = pairing.epsilon[way]
    return found


def _note(comparison: Comparison) -> str:
    lines = [f"**{headline(comparison)}**", ""]
    for heading, sentences in sections(comparison):
        lines += [f"### {heading}", "", *(f"- {sentence}" for sentence in sentences), ""]
    text = "\n".join(lines)
    if len(text) <= MAX_NOTE:
        return text
    whole_lines = text[:MAX_NOTE].rsplit("\n", 1)[0]
    return f"{whole_lines}\n\n(more in comparison.md)"


def _table(comparison: Comparison) -> dict[str, list[str | float | None]]:
    """Every front member of the headline's space: who, which design, what it reaches."""
    space = comparison.headline
    members = [member for standing in space.standings for member in standing.front]
    knees = {id(member) for standing in space.standings for member in standing.knees}
    table: dict[str, list[str | float | None]] = {
        "contender": [member.label for member in members],
        "sweep": [member.sweep_id for member in members],
        "trial": [float(member.evaluation.number) for member in members],
    }
    for objective in space.objectives:
        unit = unit_of(objective.metric)
        table[unit.label] = [
            round(shown(objective.metric, member.evaluation.metrics()[objective.metric]), unit.decimals)
            for member in members
        ]
    table["knee"] = ["knee" if id(member) in knees else "" for member in members]
    table["design"] = [
        " ".join(f"{axis.split('.')[-1]}={value}" for axis, value in member.evaluation.point.items())
        for member in members
    ]
    return table
