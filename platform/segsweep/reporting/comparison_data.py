"""A comparison of sweeps as one JSON document and as a CSV table of its fronts."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

from segsweep.pareto.comparison_records import Comparison, FrontComparison, Member, Pairing, Standing
from segsweep.pareto.statistics import SeedTest
from segsweep.reporting.comparison_text import lead_sentence, space_heading
from segsweep.reporting.tables import point_axes


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as JSON values, metrics in stored units."""
    return {
        "contenders": [
            {
                "label": item.label,
                "method": item.method,
                "sweeps": [{"sweep_id": run.sweep_id, "seed": run.seed} for run in item.runs],
            }
            for item in comparison.contenders
        ],
        "conditions": dict(comparison.conditions),
        "notes": list(comparison.notes),
        "panels": [_space(space) for space in comparison.panels],
        "joint": _space(comparison.joint) if comparison.joint else None,
    }


def fronts_csv(comparison: Comparison) -> str:
    """One row per trial on any front: who, where it stands, its metrics in stored units, its design."""
    members = _members(comparison)
    evaluations = [member.evaluation for member, _, _ in members.values()]
    axes = point_axes(evaluations)
    metrics = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics()))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["contender", "sweep_id", "trial_id", "number", "source", "front_of", "knee_of", *metrics]
        + [f"point.{axis}" for axis in axes]
    )
    for member, fronts, knees in members.values():
        item = member.evaluation
        writer.writerow(
            [member.label, member.sweep_id, item.trial_id, item.number, item.source]
            + ["; ".join(fronts), "; ".join(knees)]
            + [item.metrics().get(name, "") for name in metrics]
            + [item.point.get(axis, "") for axis in axes]
        )
    return out.getvalue()


_Row = tuple[Member, list[str], list[str]]


def _members(comparison: Comparison) -> dict[tuple[str, str], _Row]:
    rows: dict[tuple[str, str], _Row] = {}
    for space in comparison.spaces():
        for standing in space.standings:
            for member in standing.front:
                row = rows.setdefault((member.sweep_id, member.evaluation.trial_id), (member, [], []))
                row[1].append(space_heading(space))
                if member in standing.knees:
                    row[2].append(space_heading(space))
    return rows


def _space(space: FrontComparison) -> dict[str, Any]:
    return {
        "heading": space_heading(space),
        "objectives": [dataclasses.asdict(objective) for objective in space.objectives],
        "conditions": space.conditions,
        "reference": space.reference,
        "united_hypervolume": space.united_hypervolume,
        "standings": [_standing(item) for item in space.standings],
        "absent": list(space.absent),
        "pairings": [_pairing(item) for item in space.pairings],
        "leads": [
            {
                "from": lead.start,
                "to": lead.stop,
                "leader": None if lead.leader is None else space.standings[lead.leader].label,
                "smallest": lead.smallest,
                "largest": lead.largest,
                "sentence": lead_sentence(lead, space),
            }
            for lead in space.leads
        ],
    }


def _standing(item: Standing) -> dict[str, Any]:
    return {
        "label": item.label,
        "hypervolume": item.hypervolume,
        "hypervolumes": list(item.hypervolumes),
        "best": list(item.best),
        "on_united_front": item.on_united_front,
        "front": [_member(member) for member in item.front],
        "knees": [_member(member) for member in item.knees],
        "attainment": {
            "median": [list(corner) for corner in item.surface],
            "any_run": [list(corner) for corner in item.reached_once],
            "every_run": [list(corner) for corner in item.reached_always],
        },
    }


def _member(member: Member) -> dict[str, Any]:
    return {
        "sweep_id": member.sweep_id,
        "trial_id": member.evaluation.trial_id,
        "metrics": member.evaluation.metrics(),
        "point": member.evaluation.point.as_dict(),
    }


def _pairing(item: Pairing) -> dict[str, Any]:
    return {
        "first": item.first,
        "second": item.second,
        "hypervolume_ratio": item.hypervolume_ratio,
        "coverage": list(item.coverage),
        "epsilon_additive": list(item.epsilon),
        "epsilon_multiplicative": None if item.factor is None else list(item.factor),
        "hypervolume_test": _test(item.hypervolume_test),
        "best_test": _test(item.best_test),
    }


def _test(test: SeedTest | None) -> dict[str, Any] | None:
    return None if test is None else dataclasses.asdict(test)
