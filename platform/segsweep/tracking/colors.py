"""Run colours of the MLflow UI: one per method, told apart by colour-blind readers, pale when dominated."""

from __future__ import annotations

BASELINE = "#111111"  # published figures on the same data and size: nobody measured them here

# Okabe and Ito's colours without yellow and black
METHODS = {
    "eseg": "#0072B2",
    "senformer": "#D55E00",
    "hfgd": "#009E73",
    "maskformer": "#CC79A7",
    "cts": "#E69F00",
    "deeplab": "#56B4E9",
}
_OTHER = ("#7A5195", "#6B7A3A", "#8C564B", "#4E6E81")  # for methods that are added later
_STEPS = (0.0, -0.4, 0.35, -0.6)  # of the first, second, ... sweep of one method: darker, lighter, darkest


def method_color(method: str, earlier: int = 0) -> str:
    """The colour of a sweep of a method: a shade of the method's own.

    Args:
        method: Key of ``METHODS``; any other name gets a colour that depends on its letters only.
        earlier: How many sweeps of the same method the experiment had before.
    """
    base = METHODS.get(method) or _OTHER[sum(method.encode()) % len(_OTHER)]
    return shade(base, _STEPS[earlier % len(_STEPS)])


def pale(color: str) -> str:
    """The colour of what is not on the front."""
    return shade(color, 0.72)


def shade(color: str, share: float) -> str:
    """The colour mixed with white (``share`` > 0) or black (``share`` < 0)."""
    target = 255 if share > 0 else 0
    channels = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(channel + (target - channel) * abs(share)):02X}" for channel in channels)
