"""Workers: what they tell arrives, a dead one costs one task, and none outlives Ctrl-C or a killed parent."""

import importlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.study.outputs import Progress
from lib.study.processes import Died, in_processes, stoppable

# Spawned processes find it by name, which they would not find this file by.
TASKS = """
import os, signal, time
from pathlib import Path

def work(task, tell):
    tell((task, os.environ["OMP_NUM_THREADS"]))
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "leave":
        os._exit(3)

def sleep(task, tell):
    Path(task).write_text(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    (tmp_path / "tasks_of_tests.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("tasks_of_tests")


def test_a_dead_worker_costs_its_own_task_and_the_environment_is_as_before(tasks):
    before = dict(os.environ)
    events = list(in_processes(tasks.work, ["a", "die", "b", "leave", "c"], 2, one_thread=True))
    assert dict(os.environ) == before
    told = {task: [x for t, x in events if t == task] for task in ("a", "die", "b", "leave", "c")}
    for task in "abc":
        assert told[task] == [(task, "1"), None]
    assert isinstance(told["die"][-1], Died)
    assert "signal 9; out of memory?" in str(told["die"][-1])
    assert str(told["leave"][-1]) == "its process ended with status 3"


def test_what_a_stopped_command_says_is_a_line_of_its_own(monkeypatch):
    out = io.StringIO()  # no terminal, where Progress drops what bars leave
    monkeypatch.setattr(sys, "stderr", Progress(out))

    def interrupted():
        raise KeyboardInterrupt

    assert stoppable(interrupted) == 130
    assert out.getvalue() == "stopped; the same command goes on from here\n"
    assert stoppable(lambda: os.kill(os.getpid(), signal.SIGTERM) or 0) == 143
    assert out.getvalue().count("\n") == 2


def until(holds, seconds=60) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(holds())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_an_interrupted_or_killed_run(tasks, tmp_path, number):
    code = (
        "from lib.study.processes import in_processes; from tasks_of_tests import sleep\n"
        f"list(in_processes(sleep, [{str(tmp_path / 'pid')!r}], 1, True))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL) as run:
        assert until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        run.send_signal(number)
        run.wait(20)
    assert until(lambda: not alive(pid))
