"""A recommendation in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator

from segsweep.jobs.comparability import speed_class, speed_words
from segsweep.jobs.recommendation import Candidate, Interval, Miss, Recommendation, RunnerUp, StepUp
from segsweep.records import AxisValue
from segsweep.tracking.units import shown

_COSTS = ("macs", "num_params", "images_per_second", "latency_ms_p50", "latency_ms_p90")
_FORMATS = {
    "miou": "mIoU {:.2f} %",
    "macs": "{:.3f} GMACs",
    "flops": "{:.3f} GFLOPs",
    "num_params": "{:.3f} M parameters",
    "images_per_second": "{:.1f} images/s",
    "latency_ms_p50": "p50 {:.2f} ms",
    "latency_ms_p90": "p90 {:.2f} ms",
    "latency_ms_p99": "p99 {:.2f} ms",
}
_WORDS = {"macs": "MACs", "flops": "FLOPs", "num_params": "parameters"}


def recommendation_text(answer: Recommendation) -> str:
    """Lines for a terminal: what to take, how sure that is, what comes second, what more cost would buy."""
    return "\n".join(_lines(answer))


def _lines(answer: Recommendation) -> Iterator[str]:
    if answer.chosen is None:
        yield from _nothing(answer)
    else:
        yield from _choice(answer, answer.chosen)
    for note in answer.notes:
        yield f"note        {note}"


def _nothing(answer: Recommendation) -> Iterator[str]:
    wanted = " and ".join(answer.conditions) or f"a value of {answer.objective}"
    yield f"nothing     none of {_count(answer.complete, 'complete trial')} meets {wanted}"
    for miss in answer.misses:
        yield f"nearest     {_name(miss.candidate)}: {_broken(miss)}"


def _broken(miss: Miss) -> str:
    return "; ".join(
        f"{text} fails: {', '.join(_quantity(name, value) for name, value in values.items())}"
        for text, values in miss.broken
    )


def _choice(answer: Recommendation, chosen: Candidate) -> Iterator[str]:
    yield f"take        {_name(chosen)}"
    yield f"            {_miou(chosen, answer)}"
    yield f"            {_costs(chosen)}"
    yield f"            {', '.join(f'{axis}={value}' for axis, value in chosen.evaluation.point.items())}"
    if answer.roles:
        yield f"            of all complete trials it is {', '.join(answer.roles)}"
    if answer.runner_up is not None:
        yield f"runner-up   {_runner_up(answer.runner_up)}"
    else:
        yield "runner-up   none: no other trial meets the conditions"
    yield f"one step up {_step(answer.step_up) if answer.step_up else answer.step_note}"
    wanted = " and ".join(answer.conditions) or "no condition"
    number = _count(answer.complete, "complete trial")
    yield f"asked       best {answer.objective}, {wanted}: met by {answer.satisfying} of {number}"
    if answer.registered is not None:
        model = answer.registered
        state = "registered" if model.is_new else "registered before"
        yield f"{'registry':12}{model.name} version {model.version} ({state}; {', '.join(model.aliases)})"
        yield f'            mlflow.pyfunc.load_model("{model.uri}")   {model.url}'


def _miou(chosen: Candidate, answer: Recommendation) -> str:
    text = f"mIoU {_percent(chosen.miou)}"
    if answer.interval is None:
        return f"{text}; no interval: {answer.interval_note}"
    text += f", {_interval(answer.interval)}"
    if answer.seeds is not None and answer.seeds is not answer.interval:
        text += f"; {_interval(answer.seeds)}"
    elif answer.interval.over == "images":
        text += "; another training seed is not in that"
    return text


def _interval(interval: Interval) -> str:
    over = {"images": "validation images", "seeds": "training seeds"}[interval.over]
    low, high = 100 * interval.low, 100 * interval.high
    return f"95 % interval {low:.2f} to {high:.2f} % over {interval.count} {over}"


def _runner_up(second: RunnerUp) -> str:
    text = f"{_name(second.candidate)}: mIoU {_percent(second.candidate.miou)}, {_costs(second.candidate)}"
    if second.interval is None or second.share_better is None:
        return text
    low, high = 100 * second.interval.low, 100 * second.interval.high
    verdict = "" if low > 0 or high < 0 else ": no clear difference"
    return (
        f"{text}; the choice has {100 * second.miou_difference:+.2f} points of mIoU ({low:+.2f} to "
        f"{high:+.2f} over the same images){verdict}"
    )


def _step(step: StepUp) -> str:
    candidate, metric = step.candidate, step.metric
    if metric == "images_per_second":
        price = f"1/{step.factor:.2f} of the images/s"
    else:
        price = f"{step.factor:.2f} x the {_WORDS.get(metric, metric)}"
    text = (
        f"{_name(candidate)}: {price} ({_quantity(metric, candidate.metrics[metric])}) "
        f"buys {100 * step.miou_gain:.2f} points of mIoU ({_percent(candidate.miou)})"
    )
    return text + (f"; it breaks {' and '.join(step.breaks)}" if step.breaks else "")


def _costs(candidate: Candidate) -> str:
    metrics = candidate.metrics
    parts = [_quantity(name, metrics[name]) for name in _COSTS if name in metrics]
    key = speed_class(candidate.evaluation)
    return ", ".join(parts) + (f" ({speed_words(key)})" if key else "")


def _quantity(name: str, value: AxisValue | None) -> str:
    """A value with its unit, for example ``"12.300 GMACs"``."""
    if value is None:
        return f"{name} not measured"
    short = name.removeprefix("cost.")
    if short not in _FORMATS or isinstance(value, bool | str):
        return f"{name} {value}"
    return _FORMATS[short].format(shown(short, value))


def _name(candidate: Candidate) -> str:
    source = f", {candidate.evaluation.source}" if candidate.evaluation.source.startswith("seed:") else ""
    return f"{candidate.trial_id} of {candidate.sweep.sweep_id} ({candidate.sweep.method}{source})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
