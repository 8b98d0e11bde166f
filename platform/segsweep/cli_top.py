"""What ``segsweep top`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segsweep.jobs.top import ClusterUse, SweepState


def print_sweep_state(state: SweepState) -> None:
    """Where a sweep stands, for people."""
    ended = ", ".join(f"{count} {status}" for status, count in state.trials.items())
    trained = sum(count for status, count in state.trials.items() if status != "infeasible")
    print(f"sweep       {state.sweep_id}: {state.state}")
    print(f"trials      {trained} of {state.budget} trained; {ended}")
    if state.best_miou is not None:
        print(f"front       {state.front_size} trials, best mIoU {100 * state.best_miou:.2f} %")
    for rung in state.rungs:
        print(f"rung        epoch {rung.epoch}: {rung.reached} reached it, {rung.stopped} stopped there")
    word = "running" if state.state == "running" else "waiting"
    for trial in state.running:
        miou = f"mIoU {100 * trial.miou:5.1f} %" if trial.miou is not None else "no validation yet"
        axes = " ".join(f"{name.split('.')[-1]}={value}" for name, value in trial.point.items())
        done = f"epoch {trial.epoch}/{trial.epochs}"
        print(f"{word:<11} {trial.number:>3}  {done}  {miou}  {_duration(trial.seconds)}  {axes}")
    if state.epochs_per_second is not None:
        print(f"speed       {state.epochs_per_second:.3g} epochs/s; {state.epochs} trained")
    if state.seconds_left is not None:
        print(f"left        about {_duration(state.seconds_left)}")
    print(f"bill        {_bill(state)}")
    print(f"energy      {f'{state.kwh:.3f} kWh: ' if state.kwh is not None else ''}{state.kwh_of}")


def print_cluster(use: ClusterUse | None) -> None:
    """What a cluster holds and uses, for people."""
    if use is None:
        print("cluster     none: Ray of a local sweep has no dashboard")
        return
    held = ", ".join(f"{used:g} of {there:g} {name}s" for name, (used, there) in use.resources.items())
    jobs = ", ".join(f"{count} {status}" for status, count in use.jobs.items()) or "none"
    print(f"cluster     {use.nodes} nodes, in use: {held or 'not reported yet'}")
    print(f"jobs        {jobs}")
    print(f"dashboard   {use.dashboard}")


def _bill(state: SweepState) -> str:
    parts = [f"trials ran {_duration(3600 * state.trial_hours)}"]
    if state.cpu_hours is not None:
        parts.append(f"{state.cpu_hours:.3g} CPU-hours")
    if state.gpu_hours is not None:
        parts.append(f"{state.gpu_hours:.3g} GPU-hours")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
