"""What a sweep has used so far: kept beside its journal by the driver, read by ``segsweep top``."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from segsweep.cost.energy import EnergyMeter
from segsweep.files import write_whole

BILL = "bill.json"
EVERY_S = 30.0
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What decides the cost of a sweep besides its time.

    Attributes:
        cpus_per_trial: CPUs that each running trial holds; ``gpus_per_trial`` likewise.
        machine: Host whose energy was read: that of the driver.
        cpu_joules: Of its processors while the sweep ran; ``None`` if they could not be read.
        gpu_joules: Of its GPUs likewise.
    """

    cpus_per_trial: float
    gpus_per_trial: float
    machine: str
    cpu_joules: float | None = None
    gpu_joules: float | None = None

    @property
    def kwh(self) -> float | None:
        """Energy of what could be read, in kWh."""
        read = [joules for joules in (self.cpu_joules, self.gpu_joules) if joules is not None]
        return sum(read) / JOULES_PER_KWH if read else None


def read_bill(folder: Path) -> Bill | None:
    """The bill of a sweep; ``None`` for sweeps that kept none."""
    try:
        return Bill(**json.loads((folder / BILL).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def kept_bill(folder: Path, *, cpus_per_trial: float, gpus_per_trial: float) -> Iterator[None]:
    """Keep the sweep's bill up to date while its trials run; a resumed one goes on adding."""
    meter, before, ended = EnergyMeter(), read_bill(folder), threading.Event()

    def write() -> None:
        cpu, gpu = meter.read()
        bill = Bill(
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            machine=socket.gethostname(),
            cpu_joules=_sum(before.cpu_joules if before else None, cpu),
            gpu_joules=_sum(before.gpu_joules if before else None, gpu),
        )
        with suppress(OSError):  # a full disk must not end a sweep over its bill
            write_whole(folder / BILL, json.dumps(asdict(bill), indent=1))

    def keep() -> None:
        while not ended.wait(EVERY_S):
            write()

    write()
    thread = threading.Thread(target=keep, name="segsweep-bill", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        write()


def _sum(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
