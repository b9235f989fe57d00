"""Workers: what they tell arrives, a dead one costs one task, and none outlives Ctrl-C or a killed parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.study.processes import ONE_THREAD, Died, in_processes


def work(task, tell):
    tell((task, [os.environ.get(name) for name in ONE_THREAD]))
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "leave":
        os._exit(3)


def sleep(task, tell):
    Path(task).write_text(str(os.getpid()))
    time.sleep(60)


def test_a_dead_worker_costs_its_own_task_and_the_environment_is_as_before():
    before = dict(os.environ)
    events = list(in_processes(work, ["a", "die", "b", "leave", "c"], 2, one_thread=True))
    assert dict(os.environ) == before
    told = {task: [x for t, x in events if t == task] for task in ("a", "die", "b", "leave", "c")}
    for task in "abc":
        assert told[task] == [(task, ["1"] * len(ONE_THREAD)), None]
    assert isinstance(told["die"][-1], Died)
    assert "signal 9; out of memory?" in str(told["die"][-1])
    assert str(told["leave"][-1]) == "its process ended with status 3"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_an_interrupted_or_killed_run(tmp_path, number):
    code = (
        "from lib.study.processes import in_processes; from tests.study.test_processes import sleep\n"
        f"list(in_processes(sleep, [{str(tmp_path / 'pid')!r}], 1, True))"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stderr=subprocess.DEVNULL) as run:
        for _ in range(600):
            if (tmp_path / "pid").is_file() and (pid := (tmp_path / "pid").read_text()):
                break
            time.sleep(0.05)
        assert alive(int(pid))
        run.send_signal(number)
        run.wait(20)
    for _ in range(100):
        if not alive(int(pid)):
            break
        time.sleep(0.05)
    assert not alive(int(pid))
