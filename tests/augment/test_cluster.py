"""Workers of Dask: the same bytes whoever does it, lost workers, pictures that kill, what is told about a cluster."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dask
import pandas as pd
import psutil
import pytest
import torch
from distributed import Client, Nanny, Scheduler, SpecCluster, Status
from PIL import Image

from lib.augment import AugmentError, Options, augment_folder
from lib.augment.journal import NAME, Journal
from lib.augment.places import describe, difference
from lib.warp.landmarks import read_landmarks, write_landmarks

ROOT = Path(__file__).parents[2]
HERE = Options(rule_only=True, workers=0, progress=False)
FILES = int(os.environ.get("AUGMENT_TEST_FILES", 160))  # of the run whose workers are killed
DEADLY = """
def dask_setup(worker):
    import os, signal
    from lib.augment import steps
    real = steps.read_image
    def read_image(path):
        if path.name.startswith("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path)
    steps.read_image = read_image
"""


def pngs(out: Path) -> dict[str, bytes]:
    """Every file that is a picture, or that nobody should have left."""
    return {
        p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.suffix in (".png", ".tmp")
    }


@pytest.fixture(scope="module")
def elsewhere():
    """A cluster as a user would start it: two workers for step one, one for step two."""
    one = {"nthreads": 1, "preload": [DEADLY], "host": "127.0.0.1", "memory_limit": 0, "silence_logs": 50}
    workers = {k: {"cls": Nanny, "options": one} for k in range(2)}
    two = {**one, "resources": {"STEP2": 1}, "env": {"OMP_NUM_THREADS": str(torch.get_num_threads())}}
    workers["two"] = {"cls": Nanny, "options": two}
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        SpecCluster(workers, scheduler, silence_logs=50) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def there(elsewhere):
    return Options(rule_only=True, scheduler=elsewhere.scheduler_address, progress=False)


@pytest.fixture(scope="module")
def many(portrait, tmp_path_factory):
    """(IN with `FILES` pictures, what becomes of them in this process, options)."""
    root = tmp_path_factory.mktemp("many")
    (root / "in").mkdir()
    Image.fromarray(portrait(120)).save(root / "in" / "0000.png")
    augment_folder(root / "in", root / "look", HERE)
    points = read_landmarks(root / "look" / "landmarks.csv")
    names = [f"{k:04}.png" for k in range(FILES)]
    for name in names[1:]:
        os.link(root / "in" / "0000.png", root / "in" / name)
    table = pd.concat([points.assign(image=name) for name in names])
    write_landmarks(root / "points.csv", table)
    options = replace(HERE, landmarks=root / "points.csv")
    started = time.perf_counter()
    augment_folder(root / "in", root / "out", options)
    print(f"{FILES} files in this process: {time.perf_counter() - started:.1f} s")
    return root / "in", pngs(root / "out"), options


def test_a_cluster_gives_the_same_bytes(faces, there, checkpoint, tmp_path):
    for name, step in {"rule": {}, "two": {"rule_only": False, "checkpoint": checkpoint, "batch_size": 3}}.items():
        augment_folder(faces, tmp_path / name, replace(HERE, **step))
        summary = augment_folder(faces, tmp_path / f"{name} there", replace(there, **step))
        assert (summary.faces_masked, summary.failures) == (4, {})
        assert pngs(tmp_path / name) == pngs(tmp_path / f"{name} there")


@contextmanager
def killing(cluster: SpecCluster, every: float, most: int):
    """Kill a worker at random again and again, at most so often; gives the list of those killed."""
    killed, over, chance = [], threading.Event(), random.Random(0)

    def kill():
        while len(killed) < most and not over.wait(every):
            processes = [nanny.process for nanny in list(cluster.workers.values())]
            running = {p.pid for p in processes if p is not None and p.status == Status.running}
            alive = sorted(running - {None, *killed})
            if alive:
                killed.append(chance.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_killed_workers_cost_nothing(many, there, elsewhere, tmp_path):
    in_dir, expected, options = many
    every = float(os.environ.get("AUGMENT_TEST_KILL_SECONDS", 0.5))
    with killing(elsewhere, every, FILES // 50) as dead:
        summary = augment_folder(in_dir, tmp_path / "out", replace(there, landmarks=options.landmarks))
    print(f"{len(dead)} workers killed, {summary.seconds:.1f} s")
    assert dead
    assert (summary.pictures_masked, summary.failures) == (FILES, {})
    assert pngs(tmp_path / "out") == expected
    assert augment_folder(in_dir, tmp_path / "out", options).done_now == 0


def test_a_picture_that_kills_its_workers_is_given_up_alone(faces, portrait, there, elsewhere, tmp_path, checkpoint):
    shutil.copytree(faces, tmp_path / "in")
    Image.fromarray(portrait(99)).save(tmp_path / "in" / "deadly.png")
    augment_folder(faces, tmp_path / "expected", replace(HERE, rule_only=False, checkpoint=checkpoint))
    elsewhere.scheduler.allowed_failures = 0  # two deaths instead of four
    try:
        options = replace(there, rule_only=False, checkpoint=checkpoint)
        summary = augment_folder(tmp_path / "in", tmp_path / "out", options)
    finally:
        elsewhere.scheduler.allowed_failures = 1
    assert (summary.pictures_masked, summary.failures) == (3, {"crash": 1})
    assert pngs(tmp_path / "out") == pngs(tmp_path / "expected")
    table = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert table["file"].tolist() == ["deadly.png"]
    assert "died" in table["reason"][0]


def test_an_output_that_cannot_be_written_ends_the_run_in_one_line(faces, there, tmp_path):
    augment_folder(faces, tmp_path / "out", replace(there, limit=1))
    (tmp_path / "out" / "images" / "one.png" / "in the way").mkdir(parents=True)
    with pytest.raises(AugmentError, match="cannot be written"):
        augment_folder(faces, tmp_path / "out", there)


def test_who_does_step_two(faces, elsewhere, there, checkpoint, tmp_path):
    """The worker that offers it, and only there the network is loaded."""
    options = replace(there, rule_only=False, checkpoint=checkpoint)
    with Client(elsewhere.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(3, timeout=60)  # a test before may have killed one, which comes back
    augment_folder(faces, tmp_path / "out", options)

    def loaded():
        from lib.augment.translate import load_translator

        return load_translator.cache_info().currsize

    with Client(elsewhere.scheduler_address, set_as_default=False) as client:
        found = client.run(loaded)
        names = {address: told["name"] for address, told in client.scheduler_info(n_workers=-1)["workers"].items()}
    assert {names[address] for address, count in found.items() if count} == {"two"}


def test_a_scheduler_that_does_not_answer_is_told_at_once(faces, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.augment.cluster.PATIENCE", 1)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(AugmentError, match=f"{address}: no connection") as caught:
            augment_folder(faces, tmp_path / "out", Options(rule_only=True, scheduler=address, progress=False))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"scheduler": "host:8786"}, "expected an address such as tcp://"),
        ({"scheduler": "tcp://host:8786", "workers": 2}, "give one of them"),
    ],
)
def test_addresses_that_cannot_be_meant(wrong, told):
    with pytest.raises(AugmentError, match=told):
        Options(rule_only=True, **wrong).checked()


def test_what_a_worker_does_not_see_is_told(faces, tmp_path):
    options = HERE.checked()
    out = tmp_path / "out"
    augment_folder(faces, out, replace(HERE, limit=1))
    told = describe(faces, out, options, "one.png")
    assert difference(told, faces, out, options, "one.png") == ""
    shutil.copytree(faces, tmp_path / "in")
    assert difference(told, tmp_path / "in", out, options, "one.png").startswith(f"{faces / 'one.png'}: None there")
    assert "cannot be read" in difference(told, faces, out, replace(options, landmarks="gone.csv"), "one.png")
    assert difference({**told, "numpy": "1.0"}, faces, out, options, "one.png").startswith("numpy: 2")
    with Journal(tmp_path / "other", {"seed": 1}):
        pass
    shutil.copy(tmp_path / "other" / NAME, out / NAME)
    assert NAME in difference(told, faces, out, options, "one.png")


def workers_of(pid: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]


def until(true, seconds: float = 90) -> None:
    """Wait, for a machine may be busy."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_leaves_no_processes_and_goes_on(many, tmp_path, how):
    in_dir, expected, options = many
    command = [sys.executable, "-m", "lib.augment", in_dir, tmp_path / "out", "--rule-only", "--workers", "2"]
    command += ["--landmarks", options.landmarks, "--limit", "60"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT)
    journal = tmp_path / "out" / NAME
    until(lambda: journal.exists() and journal.read_bytes().count(b'"kind":"picture"') >= 3)
    workers = workers_of(run.pid)
    assert len(workers) == 2
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # as a terminal does: the workers get it too
    else:
        run.kill()
    _, said = run.communicate(timeout=60)
    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in workers), 20)
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+/status", said)
    if how == signal.SIGINT:
        assert run.returncode == 130
        assert "Traceback" not in said
        assert "distributed" not in said
        assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"
    before = journal.read_bytes().count(b'"kind":"picture"')
    assert augment_folder(in_dir, tmp_path / "out", replace(options, limit=60)).done_now == 60 - before
    assert pngs(tmp_path / "out") == {name: expected[name] for name in expected if name[-8:-4] < "0060"}


def test_workers_of_this_machine_do_both_steps(faces, checkpoint, tmp_path, capfd):
    """The same bytes as without, quietly; nothing of Dask stays."""
    both = Options(checkpoint=checkpoint, batch_size=3, workers=0, progress=False, dashboard=False)
    augment_folder(faces, tmp_path / "expected", both)
    before, others = dict(os.environ), workers_of(os.getpid())
    capfd.readouterr()
    summary = augment_folder(faces, tmp_path / "out", replace(both, workers=1))
    assert (summary.faces_masked, summary.failures) == (4, {})
    assert pngs(tmp_path / "out") == pngs(tmp_path / "expected")
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before
    assert set(workers_of(os.getpid())) <= set(others)


def test_workers_that_die_while_they_start_are_started_again(faces, tmp_path, monkeypatch):
    died = tmp_path / "died"
    deadly = f"import os\nif not os.path.exists({str(died)!r}):\n open({str(died)!r}, 'w')\n os.kill(os.getpid(), 9)"
    monkeypatch.setattr("lib.augment.cluster.NO_INTERRUPT", deadly)
    options = replace(HERE, workers=1, dashboard=False, limit=1)
    assert augment_folder(faces, tmp_path / "out", options).faces_masked == 1
    assert died.exists()


def test_workers_that_always_die_are_told_in_one_line(faces, tmp_path, monkeypatch):
    def dies(**_):
        raise RuntimeError("Nanny failed\nto start.")

    monkeypatch.setattr("lib.augment.cluster.LocalCluster", dies)
    with pytest.raises(AugmentError, match=r"3 times over \(Nanny failed to start\.\).*--workers 0"):
        augment_folder(faces, tmp_path / "out", replace(HERE, workers=1))


SLOW = """
import sys
from lib.augment import cluster, pipeline
from lib.augment.__main__ import main
cluster.PATIENCE = 2
real = pipeline._records
pipeline._records = lambda todo, *rest: real(todo * 500, *rest)
sys.exit(main(sys.argv[1:]))
"""  # enough to do


@pytest.mark.slow
def test_a_scheduler_that_dies_is_told_in_one_line(faces, tmp_path):
    port = Path(tmp_path / "address")
    code = "import asyncio, sys, pathlib; from distributed import Scheduler, Nanny\n"
    code += "async def main():\n    async with Scheduler(host='127.0.0.1', port=0, dashboard=False) as s:\n"
    code += "        pathlib.Path(sys.argv[1]).write_text(s.address); await s.finished()\nasyncio.run(main())"
    scheduler = subprocess.Popen([sys.executable, "-c", code, port], cwd=ROOT)
    try:
        until(lambda: port.exists() and port.read_text())
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", port.read_text(), "--no-dashboard", "--no-nanny"]
        worker += [
            "--nthreads",
            "1",
            "--memory-limit",
            "0",
            "--local-directory",
            tmp_path / "worker",
            "--death-timeout",
            "5",
        ]
        worker = subprocess.Popen(
            worker, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        command = [
            sys.executable,
            "-c",
            SLOW,
            faces,
            tmp_path / "out",
            "--rule-only",
            "--quiet",
            "--scheduler",
            port.read_text(),
        ]
        run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        journal = tmp_path / "out" / NAME
        until(lambda: journal.exists() and b'"kind":"start"' in journal.read_bytes())
    finally:
        scheduler.kill()
        worker.kill()
    _, said = run.communicate(timeout=90)
    assert run.returncode == 2
    assert len(said.splitlines()) == 1, said
    assert "the scheduler is gone" in said


def test_without_workers_dask_is_not_even_loaded(faces, tmp_path):
    code = (
        "import sys; from lib.augment.__main__ import main; main(sys.argv[1:]); assert 'distributed' not in sys.modules"
    )
    command = [sys.executable, "-c", code, faces, tmp_path / "out", "--rule-only", "--workers", "0", "--limit", "1"]
    subprocess.run([*command, "--quiet"], check=True, cwd=ROOT)
