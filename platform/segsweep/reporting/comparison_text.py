"""A comparison of sweeps in plain sentences, for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from segsweep.pareto.comparison_records import (
    Comparison,
    Contender,
    FrontComparison,
    Member,
    Pairing,
    Standing,
)
from segsweep.pareto.leads import Lead
from segsweep.pareto.statistics import SeedTest
from segsweep.records import Objective
from segsweep.tracking.units import shown, unit_of

SHOWN_RANGES = 8  # of budgets, per panel
_NOUNS = {
    "miou": "% mIoU",
    "macs": "GMACs",
    "flops": "GFLOPs",
    "num_params": "M parameters",
    "images_per_second": "images/s",
    "latency_ms_p50": "ms median latency",
    "latency_ms_p90": "ms p90 latency",
    "latency_ms_p99": "ms p99 latency",
}

Section = tuple[str, list[str]]


def comparison_text(comparison: Comparison) -> str:
    """Plain text: a heading and sentences per panel."""
    top = [title(comparison), f"  {headline(comparison)}"]
    parts = [*top, *(f"  {line}" for line in _who(comparison))]
    for heading, sentences in sections(comparison):
        parts += ["", heading, *(f"  {sentence}" for sentence in sentences)]
    return "\n".join(parts)


def comparison_markdown(comparison: Comparison) -> str:
    """The same as Markdown, with a list per panel."""
    parts = [
        f"# {title(comparison)}",
        "",
        f"**{headline(comparison)}**",
        "",
        *(f"- {line}" for line in _who(comparison)),
    ]
    for heading, sentences in sections(comparison):
        parts += ["", f"## {heading}", "", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(parts) + "\n"


def title(comparison: Comparison) -> str:
    """For example ``"senformer against hfgd"``."""
    return " against ".join(contender.label for contender in comparison.contenders)


def sections(comparison: Comparison) -> list[Section]:
    """Heading and sentences: one section per panel, one for all objectives together, one of cautions."""
    found = [(space_heading(space), space_sentences(space)) for space in comparison.spaces()]
    if comparison.notes:
        found.append(("Mind", list(comparison.notes)))
    return found


def _who(comparison: Comparison) -> list[str]:
    lines = [_contender(contender) for contender in comparison.contenders]
    return [*lines, "; ".join(f"{name} {value}" for name, value in comparison.conditions)]


def _contender(contender: Contender) -> str:
    runs = ", ".join(f"{run.sweep_id} (seed {run.seed})" for run in contender.runs)
    count = f"{len(contender.runs)} sweeps" if len(contender.runs) > 1 else "sweep"
    return f"{contender.label}: method {contender.method}, {count} {runs}"


def space_heading(space: FrontComparison) -> str:
    """For example ``"mIoU (%) against GMACs per image"``, with the device where there are several."""
    first, *others = (unit_of(objective.metric).label for objective in space.objectives)
    at = f" ({space.conditions})" if space.conditions else ""
    return f"{first} against {' and '.join(others)}{at}"


def space_sentences(space: FrontComparison) -> list[str]:
    """What is to be said of one space of objectives."""
    if not space.standings:
        return ["No complete trial has these objectives."]
    sentences = _leads(space) if len(space.standings) > 1 else []
    sentences.append(_volumes(space))
    if len(space.standings) > 1:
        sentences.append(_united(space))
    for pairing in space.pairings:
        sentences += _pairing(pairing, space)
    sentences += [_knee(standing, space.objectives) for standing in space.standings if standing.knees]
    if space.absent:
        sentences.append(f"{_listed(space.absent)}: no complete trial here.")
    return sentences


def _leads(space: FrontComparison) -> list[str]:
    told = [lead_sentence(lead, space) for lead in space.leads[:SHOWN_RANGES]]
    if len(space.leads) > SHOWN_RANGES:
        told.append(f"{len(space.leads) - SHOWN_RANGES} more ranges are in comparison.json.")
    shares = lead_shares(space)
    if len(space.leads) > 3 and shares:
        words = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
        told.insert(0, f"Ahead, as a share of the costs at which there is a choice: {words}.")
    return told


def lead_shares(space: FrontComparison) -> dict[str, float]:
    """Share of the costs (in decades) at which each contender leads, the largest first.

    Only costs at which two contenders have a design count, up to the last that changes anything.
    """
    widths: dict[str, float] = {}
    for lead in space.leads:
        if lead.smallest is None or lead.stop is None or min(lead.start, lead.stop) <= 0:
            continue
        name = "level" if lead.leader is None else space.standings[lead.leader].label
        widths[name] = widths.get(name, 0.0) + abs(math.log10(lead.stop / lead.start))
    total = sum(widths.values())
    ranked = sorted(widths.items(), key=lambda item: -item[1])
    return {name: width / total for name, width in ranked} if total > 0 else {}


def lead_sentence(lead: Lead, space: FrontComparison) -> str:
    """For example ``"From 20 to 60 GMACs senformer leads by 0.80 mIoU points."``."""
    first, cost = space.objectives
    where = _range(lead, cost)
    if lead.leader is None:
        return f"{where} the best are level."
    name = space.standings[lead.leader].label
    if lead.smallest is None or lead.largest is None:
        return f"{where} only {name} has a design."
    low, high = (_gap(first.metric, value) for value in (lead.smallest, lead.largest))
    by = high if low == high else f"{low.split()[0]} to {high}"
    return f"{where} {name} leads{'' if len(space.standings) == 2 else ' the next best'} by {by}."


def _range(lead: Lead, cost: Objective) -> str:
    noun = _NOUNS.get(cost.metric, unit_of(cost.metric).label)
    start = _number(cost.metric, lead.start)
    if lead.stop is None:
        return f"At {start} {noun} and slower" if cost.maximize else f"From {start} {noun} on"
    stop = _number(cost.metric, lead.stop)
    return f"From {start} down to {stop} {noun}" if cost.maximize else f"From {start} to {stop} {noun}"


def _number(metric: str, value: float) -> str:
    number = shown(metric, value)
    if metric == "miou":
        return f"{number:.2f}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def amount(metric: str, value: float) -> str:
    """A value with its unit, for example ``"20.3 GMACs"``."""
    return f"{_number(metric, value)} {_NOUNS.get(metric, unit_of(metric).label)}"


def _gap(metric: str, value: float) -> str:
    return f"{100 * value:.2f} mIoU points" if metric == "miou" else amount(metric, value)


def _volumes(space: FrontComparison) -> str:
    corner = ", ".join(amount(metric, value) for metric, value in space.reference.items())
    told = "; ".join(_volume(item, space.united_hypervolume) for item in space.standings)
    return f"Hypervolume up to {corner}, as a share of what all reach together: {told}."


def _volume(standing: Standing, united: float) -> str:
    def share(volume: float) -> str:
        return f"{100 * volume / united:.1f} %" if united > 0 else "0 %"

    text = f"{standing.label} {share(standing.hypervolume)} ({standing.hypervolume:.4g})"
    if len(standing.hypervolumes) > 1:
        low, high = share(min(standing.hypervolumes)), share(max(standing.hypervolumes))
        text += f", the median of {len(standing.hypervolumes)} sweeps from {low} to {high}"
    return text


def _united(space: FrontComparison) -> str:
    total = sum(item.on_united_front for item in space.standings)
    told = ", ".join(f"{item.label} {item.on_united_front}" for item in space.standings)
    return f"Of the {total} designs on the front of all together: {told}."


def _pairing(pairing: Pairing, space: FrontComparison) -> list[str]:
    a, b, first = pairing.first, pairing.second, space.objectives[0]
    covered = [f"{100 * share:.0f} %" for share in pairing.coverage]
    ratio = (
        "" if pairing.hypervolume_ratio is None else f"hypervolume ratio {pairing.hypervolume_ratio:.3f}, "
    )
    sentences = [
        f"{a} over {b}: {ratio}coverage {covered[0]} (back {covered[1]}); {_epsilon(pairing, 0)}; "
        f"{_epsilon(pairing, 1)}."
    ]
    for name, test, told in (
        ("hypervolume", pairing.hypervolume_test, _volume_share(space.united_hypervolume)),
        (f"best {_NOUNS.get(first.metric, first.metric)}", pairing.best_test, _better_by(first)),
    ):
        if test is not None:
            sentences.append(test_sentence(test, a, b, name=name, told=told))
    return sentences


def _epsilon(pairing: Pairing, way: int) -> str:
    name, other = (pairing.first, pairing.second)[:: 1 if way == 0 else -1]
    if pairing.epsilon[way] <= 0:
        return f"{name} reaches all of {other}'s front"
    factor = f", a factor of {pairing.factor[way]:.3g}" if pairing.factor is not None else ""
    share = f"{100 * pairing.epsilon[way]:.0f} % of the fronts' range"
    return f"to reach all of {other}'s front {name} lacks {share}{factor} (epsilon)"


def _volume_share(united: float) -> Callable[[float], str]:
    return lambda value: f"{100 * value / united:.2f} %" if united > 0 else f"{value:.4g}"


def _better_by(first: Objective) -> Callable[[float], str]:
    return lambda value: _gap(first.metric, value)


def test_sentence(test: SeedTest, first: str, second: str, *, name: str, told: Callable[[float], str]) -> str:
    """What the seeds say of a difference."""
    ahead, behind = (first, second) if test.difference >= 0 else (second, first)
    sign = 1 if test.difference >= 0 else -1
    interval = ""
    if test.interval is not None:
        low, high = sorted(sign * bound for bound in test.interval)
        interval = f" (95 % bootstrap interval from {told(low)} to {told(high)})"
    verdict = "more than chance explains" if test.is_significant else "chance explains it too"
    if test.smallest_p >= 0.05:
        verdict = f"so few seeds cannot decide: no p below {test.smallest_p:.2g} is possible"
    effect = test.effect if sign > 0 else 1 - test.effect
    return (
        f"Seeds: in {name} {ahead} is ahead of {behind} by {told(abs(test.difference))}{interval}; "
        f"{test.test} over {test.runs[0]} and {test.runs[1]} runs p = {test.p_value:.3g}, a run of {ahead} "
        f"is better with chance {effect:.2f}: {verdict}."
    )


def _knee(standing: Standing, objectives: Sequence[Objective]) -> str:
    if len(standing.front) < 3:
        count = "one design" if len(standing.front) == 1 else "two designs, so no knee"
        return f"Front of {standing.label}: {count}: {_members(standing.front, objectives)}."
    return f"Knee of {standing.label}: {_members(standing.knees, objectives)}."


def _members(members: Sequence[Member], objectives: Sequence[Objective]) -> str:
    return "; ".join(
        f"trial {member.evaluation.number} of {member.sweep_id} with "
        + ", ".join(amount(o.metric, member.evaluation.metrics()[o.metric]) for o in objectives)
        for member in members[:3]
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def headline(comparison: Comparison) -> str:
    """One sentence: who reaches most, and by how much."""
    space = comparison.headline
    if not space.standings:
        return "No complete trial has all objectives."
    order = np.argsort([-standing.hypervolume for standing in space.standings])
    best = space.standings[order[0]]
    if len(order) == 1:
        return f"{best.label} is the only one with complete trials here."
    if best.hypervolume == 0:
        corner = ", ".join(amount(metric, value) for metric, value in space.reference.items())
        return f"No one has any volume at the reference ({corner}): no front decides; move it further out."
    second = space.standings[order[1]]
    if second.hypervolume == 0:
        return f"{best.label} dominates most; {second.label} has no volume at the reference."
    more = 100 * (best.hypervolume / second.hypervolume - 1)
    where = "all objectives together" if comparison.joint else space_heading(space)
    return f"In {where} {best.label} dominates the largest volume, {more:.1f} % more than {second.label}."
