"""Electrical energy of this machine's processors and GPUs, where their counters can be read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MICRO, MILLI = 1e-6, 1e-3


class EnergyMeter:
    """Adds up what the counters count from its making on.

    RAPL counts the packages of Intel and AMD processors in microjoules and begins anew at a known value, NVML
    counts each GPU in millijoules. The kernel lets only root read RAPL by default. Whatever else the machine
    does is counted too; RAPL's zone of the whole platform (``psys``), which holds the packages again, is not.

    Args:
        powercap: Folder of the kernel's power capping interface.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = [zone for zone in sorted(powercap.glob("intel-rapl:?*")) if _is_package(zone)]
        self._packages = _rapl_counts(self._zones)
        self._gpus = _nvml_counts()
        self._cpu_joules = 0.0 if self._packages else None
        self._gpu_joules = 0.0 if self._gpus else None

    def read(self) -> tuple[float | None, float | None]:
        """Joules of the processors and of the GPUs until now; ``None`` where there is nothing to read.

        Call it at least every few minutes: a package's counter may begin anew only once in between.
        """
        if self._cpu_joules is not None:
            now = _rapl_counts(self._zones)
            for zone, (count, ceiling) in now.items():
                before = self._packages[zone][0] if zone in self._packages else count
                self._cpu_joules += MICRO * ((count - before) % (ceiling + 1))
            self._packages = now
        if self._gpu_joules is not None:
            counts = _nvml_counts()
            self._gpu_joules += MILLI * sum(
                max(0, counts[gpu] - self._gpus.get(gpu, counts[gpu])) for gpu in counts
            )
            self._gpus = counts
        return self._cpu_joules, self._gpu_joules


def _is_package(zone: Path) -> bool:
    """Whether a zone is a processor package, named like ``package-0-die-1``, and no part of one."""
    try:
        return zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package")
    except OSError:
        return False


def _rapl_counts(zones: list[Path]) -> dict[Path, tuple[int, int]]:
    """Microjoules and the largest count by package; those that cannot be read are left out."""
    counts = {}
    for zone in zones:
        with suppress(OSError, ValueError):
            ceiling = int((zone / "max_energy_range_uj").read_text())
            counts[zone] = int((zone / "energy_uj").read_text()), ceiling
    return counts


def _nvml_counts() -> dict[str, int]:
    """Millijoules by GPU since its driver was loaded; those that do not count are left out."""
    import pynvml

    counts = {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            with suppress(pynvml.NVMLError):
                gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
                counts[str(pynvml.nvmlDeviceGetUUID(gpu))] = int(
                    pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
                )
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return counts
