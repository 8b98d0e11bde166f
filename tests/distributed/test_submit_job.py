"""Jobs on a real head with token authentication: submitted, followed, cut off, stopped, refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from cli_process import Ran, run_segsweep
from job_files import write_tiny_sweep
from ray_head import RayHead, running_head
from typer.testing import CliRunner

from segsweep.cli import app
from segsweep.distributed.job_client import ClusterJob, JobClient, cluster_token
from segsweep.distributed.job_logs import LogFollower
from segsweep.errors import EnvironmentProblem, InvalidInput
from segsweep.jobs.submit import STOP
from segsweep.jobs.top import cluster_use, sweep_state
from segsweep.jobs.working_dir import collect, write_archive

ROOT = Path(__file__).parents[2]
SECRET = "planted-4f1d-never-to-be-seen"
ELSEWHERE = """\
kind: prepare
name: elsewhere
data: {source: camvid, root: /nowhere}
"""
COUNTING = """\
import time

for number in range(48):
    print(f"line {number}", flush=True)
    time.sleep(0.25)
"""
PATIENT = """\
import time

from segsweep.termination import end_in_order_on_sigterm

end_in_order_on_sigterm()
try:
    print("waiting", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("ended in order", flush=True)
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    extra = {"SEGSWEEP_TEST_SECRET": SECRET, "MLFLOW_TRACKING_PASSWORD": SECRET}
    with running_head(tmp_path_factory.mktemp("head"), extra=extra) as head:
        yield head


@pytest.fixture(autouse=True)
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user of the cluster has: the token's file, and no authentication mode."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(request.getfixturevalue("head").token))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose code differs from what is installed, with job files and scripts."""
    project = tmp_path_factory.mktemp("project")
    leave_out = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT / "platform", project / "platform", ignore=leave_out)
    first_line = "from __future__ import annotations\n"
    cli = project / "platform" / "segsweep" / "cli.py"
    cli.write_text(cli.read_text().replace(first_line, f'{first_line}print("the code of the checkout")\n', 1))
    (project / "jobs").mkdir()
    shutil.copy(ROOT / "jobs" / "run.py", project / "jobs")
    write_tiny_sweep(project / "jobs", ("name: tiny", "name: small"), ("trials: 3", "trials: 2"))
    (project / "jobs" / "elsewhere.yaml").write_text(ELSEWHERE)
    (project / "counting.py").write_text(COUNTING)
    (project / "patient.py").write_text(PATIENT)
    return project


@pytest.fixture(scope="module")
def archive(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "project.zip"
    write_archive(collect(project), path)
    return path


def _started(client: JobClient, command: str, *, archive: Path, job_id: str) -> str:
    return client.submit(command, archive=archive, env_vars=STOP, metadata={}, job_id=job_id)


def _wait(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def swept(head: RayHead, project: Path) -> Ran:
    """``segsweep submit`` of a sweep of two trials, followed to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_AUTH_MODE", raising=False)
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token))
        command = ("submit", "jobs/tiny_sweep.yaml", "--address", head.address)
        return run_segsweep(*command, folder=project, seconds=400)


def test_a_submitted_job_runs_on_the_cluster_and_ends_with_its_code(swept: Ran, head: RayHead) -> None:
    assert swept.code == 0, swept.out + swept.err
    assert "the code of the checkout" in swept.out  # not that of the cluster's installation
    assert len(re.findall(r"^ +\d (?:complete|stopped) .* GMACs", swept.out, re.MULTILINE)) == 2
    state = sweep_state("latest", out=head.storage / "segsweep-runs")  # not in Ray's copy of the project
    assert state.state == "finished" and sum(state.trials.values()) == 2
    assert state.cpu_hours == pytest.approx(state.trial_hours) and state.gpu_hours == 0


def test_the_size_of_what_goes_along_is_told_and_the_job_is_named(swept: Ran, project: Path) -> None:
    assert re.search(rf"{project}: \d\d\d files, \d\.\d MB", swept.err)
    assert re.search(r"submitted small-\d{8}-\d{6}-\d{3} to http://127\.0\.0\.1:\d+", swept.err)


def _in_process(*arguments: str, head: RayHead) -> Ran:
    """A command without the start of a process."""
    result = CliRunner().invoke(app, [*arguments, "--address", head.address])
    return Ran(code=result.exit_code, out=result.stdout, err=result.stderr)


def test_status_lists_the_job_and_describes_it(swept: Ran, head: RayHead) -> None:
    listed = _in_process("status", "--json", head=head).document()
    (job,) = [item for item in listed["jobs"] if item["job_id"].startswith("small-")]
    assert (job["status"], job["metadata"]["segsweep.kind"]) == ("succeeded", "sweep")
    one = _in_process("status", job["job_id"], head=head)
    assert "succeeded" in one.out and "segsweep.cli run jobs/tiny_sweep.yaml" in one.out


def test_logs_shows_what_the_job_printed(swept: Ran, head: RayHead) -> None:
    job_id = re.findall(r"submitted (\S+) to", swept.err)[0]
    ran = _in_process("logs", job_id, head=head)
    assert ran.code == 0
    assert ran.out == swept.out


def test_rays_own_command_line_works_and_a_job_that_fails_ends_with_its_own_code(
    head: RayHead, archive: Path
) -> None:
    command = "python jobs/run.py jobs/elsewhere.yaml"  # as of `ray job submit -- python jobs/run.py ...`
    _started(JobClient(head.address), command, archive=archive, job_id="by-ray")
    ran = _in_process("logs", "by-ray", "--follow", head=head)
    assert ran.code == 2, ran.out
    assert "/nowhere" in ran.out and "Traceback" not in ran.out
    job = _in_process("status", "by-ray", "--json", head=head).document()
    assert (job["status"], job["exit_code"]) == ("failed", 2)


class Proxy:
    """A line between a client and the head that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._frozen: set[socket.socket] = set()
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """Listen, after a cut on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection and take no new one."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def freeze(self) -> None:
        """Leave the present connections open, but let nothing through them any more."""
        self._frozen.update(end for pair in self._pairs for end in pair)

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source not in self._frozen:
                    sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_lost_connection_loses_no_line_and_repeats_none(head: RayHead, archive: Path) -> None:
    _started(JobClient(head.address), "python counting.py", archive=archive, job_id="counting")
    proxy = Proxy(int(head.address.rsplit(":", 1)[1]))
    client = JobClient(f"http://127.0.0.1:{proxy.port}")
    pieces: list[str] = []
    said: list[str] = []
    ended: list[ClusterJob] = []
    follower = LogFollower(client, "counting", write=pieces.append, say=said.append)
    thread = threading.Thread(target=lambda: ended.append(follower.follow(silence_s=3)), daemon=True)
    thread.start()
    _wait(lambda: "line 3\n" in "".join(pieces))
    proxy.cut()
    _wait(lambda: any("connection lost" in line for line in said))
    proxy.mend()
    _wait(lambda: any("connected again" in line for line in said))
    proxy.freeze()
    thread.join(120)
    proxy.cut()
    lines = [line for line in "".join(pieces).splitlines() if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(48)]
    assert [job.status for job in ended] == ["succeeded"]
    assert sum("connection lost" in line for line in said) == 1


def test_stop_ends_a_job_in_order(head: RayHead, archive: Path) -> None:
    client = JobClient(head.address)
    _started(client, "python patient.py", archive=archive, job_id="patient")
    _wait(lambda: "waiting\n" in client.logs("patient"))
    assert "is asked to end" in _in_process("stop", "patient", head=head).out
    followed = _in_process("logs", "patient", "--follow", head=head)
    assert followed.code == 130
    assert followed.out.endswith("waiting\nended in order\n")
    assert client.job("patient").status == "stopped"
    assert "had ended already" in _in_process("stop", "patient", head=head).out


def test_the_cluster_answers_nobody_without_the_token(
    head: RayHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert requests.get(f"{head.address}/api/jobs/", timeout=20).status_code == 401
    wrong = {"Authorization": "Bearer " + "0" * 64}
    assert requests.get(f"{head.address}/api/jobs/", headers=wrong, timeout=20).status_code == 403

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(EnvironmentProblem, match=r"asks for a token and found none; copy ~/\.ray/auth_token"):
        JobClient(head.address)
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "wrong"))
    (tmp_path / "wrong").write_text("0" * 64)
    with pytest.raises(EnvironmentProblem, match="refuses the token of this machine"):
        JobClient(head.address)


def test_the_dashboard_listens_on_this_machine_only(head: RayHead) -> None:
    port = int(head.address.rsplit(":", 1)[1])
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    others = [address for address in addresses if not address.startswith("127.")]
    for address in others:
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):
            pass
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        pass


def test_an_unknown_job_is_told_with_those_that_there_are(swept: Ran, head: RayHead) -> None:
    with pytest.raises(InvalidInput, match=r"job nonsense: .* has no such job; it knows .*small-"):
        JobClient(head.address).job("nonsense")


def test_an_explicit_address_wins_over_the_environment(
    head: RayHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert JobClient(head.address.removeprefix("http://")).address == head.address
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:9"
    with pytest.raises(EnvironmentProblem, match=r"nothing answers at http://127\.0\.0\.1:9;"):
        JobClient()


def test_top_tells_what_the_cluster_holds(swept: Ran, head: RayHead) -> None:
    _wait(lambda: cluster_use(head.address).nodes > 0)
    use = cluster_use(head.address)
    assert use.dashboard == head.address
    assert use.resources["CPU"][1] == 2
    assert use.jobs["succeeded"] >= 1


def test_no_secret_of_the_environment_and_no_token_is_in_any_record(swept: Ran, head: RayHead) -> None:
    """Runs last: everything above has been recorded."""
    client = JobClient(head.address)
    recorded = json.dumps([job.to_json() for job in client.jobs()])
    recorded += "".join(client.logs(job.job_id) for job in client.jobs())
    recorded += swept.out + swept.err
    logs = [path for path in head.folder.rglob("*") if path.suffix in {".log", ".out", ".err", ".json"}]
    results = list(head.storage.rglob("*"))
    assert len(logs) > 10 and {"mlflow.db", "job.json", "journal.jsonl"} <= {path.name for path in results}
    for secret in (SECRET.encode(), head.token.read_bytes()):
        assert secret not in recorded.encode()
        files = [path for path in [*logs, *results] if path.is_file()]
        assert [path for path in files if secret in path.read_bytes()] == []


def test_sigterm_is_ctrl_c() -> None:
    from segsweep.termination import end_in_order_on_sigterm

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        end_in_order_on_sigterm()
        for handler in (signal.default_int_handler, signal.SIG_IGN):
            signal.signal(signal.SIGINT, handler)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_the_token_is_taken_from_where_ray_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    assert cluster_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of the home folder\n")
    assert cluster_token() == "of the home folder"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the variable")
    assert cluster_token() == "of the variable"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert cluster_token() is None
