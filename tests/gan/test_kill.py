"""A stage killed by SIGKILL at many moments and started again each time ends as if it had never been stopped.

Run as a script, this file is the process that starts the attempts, watches and kills them. It loads torch once and
forks every attempt: real processes, without two seconds of imports each.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.gan import TrainConfig, TrainData, checkpoints, list_checkpoints, method_cyclegan, train, trainer
from lib.gan.records import CsvLog

# Where an attempt tells that it is there, and waits for a word.
MARKS = (
    *("start", "cutting tables", "step", "half a row", "before picture", "half a file", "before meta"),
    *("before renaming in", "renamed in", "renamed out", "trainer state gone", "half removed"),
)
TIMES = {"step": 2, "half a row": 3, "before picture": 2, "half a file": 3}  # killed there the n-th time, or the first
ANYWHERE = 12  # kills at a random time after a random mark, beside those


def attempt(cfg: TrainConfig, data: TrainData, run_dir: Path, told: int, word: int) -> None:
    """In a process of its own: train, but tell each mark through `told` and go on when a word comes."""

    def here(mark: str) -> None:
        os.write(told, f"{mark}\n".encode())
        os.read(word, 1)

    def halved(path: Path, mark: str, half: int) -> None:
        rest = path.read_bytes()[half:]
        os.truncate(path, half)
        here(mark)
        with path.open("ab") as file:
            file.write(rest)

    real_step, real_append = method_cyclegan.train_step, CsvLog.append
    real_save, real_json = checkpoints.save_file, checkpoints.write_json
    real_replace, real_rmtree, real_unlink = os.replace, shutil.rmtree, Path.unlink

    def step(*args, **more):
        here("step")
        return real_step(*args, **more)

    def save(tensors, path, **more):
        real_save(tensors, path, **more)
        halved(path, "half a file", path.stat().st_size // 2)

    def write_json(path, value):
        here("before meta")
        return real_json(path, value)

    def append(log, row):
        before = log.path.stat().st_size if log.path.exists() else 0
        real_append(log, row)
        halved(log.path, "half a row", (before + log.path.stat().st_size) // 2)

    def replace(source, target):
        before = {".png": "before picture", ".csv": "cutting tables", "": "before renaming in"}
        name = Path(target).name
        if name.endswith((".png", ".csv")) or name.startswith("epoch_"):
            here(before[Path(target).suffix])
        real_replace(source, target)
        if Path(target).is_dir():
            here("renamed in" if name.startswith("epoch_") else "renamed out")

    def rmtree(folder, **more):
        files = sorted(Path(folder).glob("*"))
        if files:
            real_unlink(files[0])
            here("half removed")
        real_rmtree(folder, **more)

    def unlink(path, **more):
        there = path.exists()
        real_unlink(path, **more)
        if there and path.name == checkpoints.TRAINER:
            here("trainer state gone")

    method_cyclegan.train_step, checkpoints.save_file = step, save
    checkpoints.write_json, CsvLog.append = write_json, append
    os.replace, shutil.rmtree, Path.unlink = replace, rmtree, unlink
    # A kill must never leave a checkpoint that looks damaged.
    warnings.filterwarnings("error", message="checkpoint refused")
    here("start")
    train(cfg, data, run_dir, progress=False)


def start(*args) -> tuple[int, int, int]:
    """Fork an attempt: its process id, the end to read its marks from, the end to send it on with."""
    told, word = os.pipe(), os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(told[0])
            os.close(word[1])
            attempt(*args, told[1], word[0])
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(told[1])
    os.close(word[0])
    return process, told[0], word[1]


def run_with_kills(
    cfg: TrainConfig, data: TrainData, run_dir: Path, rng: np.random.Generator, plan: list
) -> list[dict]:
    """Attempts until one comes to the stage's end; each is killed at the plan's next mark, which is then struck off.

    Gives what each kill left (see `left_behind`).
    """
    kills = []
    while True:
        target = plan[-1] if plan else "nowhere"
        countdown = int(rng.integers(1, 40)) if target == "anywhere" else TIMES.get(target, 1)
        process, told, word = start(cfg, data, run_dir)
        with os.fdopen(told) as marks:
            for mark in map(str.strip, marks):
                countdown -= target in (mark, "anywhere")
                if countdown > 0 or target == "anywhere":
                    os.write(word, b".")
                if countdown <= 0:
                    time.sleep(rng.uniform(0, 0.05) if target == "anywhere" else 0)
                    os.kill(process, signal.SIGKILL)
                    break
        os.close(word)
        status = os.waitpid(process, 0)[1]
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit(f"an attempt failed after these kills: {kills}")
        if os.WIFEXITED(status):
            return kills
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills.append({"at": plan.pop(), **left_behind(run_dir)})


def left_behind(run_dir: Path) -> dict:
    """unfinished: names of temporary folders; step: of the newest checkpoint; row: step of the last whole row."""
    root = run_dir / "checkpoints"
    folders = list_checkpoints(root)
    rows = (run_dir / "metrics.csv").read_text().split("\n")[1:-1] if (run_dir / "metrics.csv").exists() else []
    return {
        "unfinished": sorted(path.name for path in root.glob(".tmp_*")),
        "step": json.loads((folders[-1] / "meta.json").read_text())["step"] if folders else 0,
        "row": int(rows[-1].split(",")[1]) if rows else 0,
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    cfg = TrainConfig.from_dict(json.loads((folder / "cfg.json").read_text()))
    with np.load(folder / "data.npz", allow_pickle=False) as arrays:
        data = TrainData(**arrays)
    trainer.build(cfg)  # the first optimiser imports for two seconds: here, not in every attempt
    rng, kills, runs = np.random.default_rng(1), [], 0
    plan = [*rng.permutation([*MARKS[1:], *["anywhere"] * ANYWHERE]).tolist(), "start"]  # from its end
    while plan and runs < 10:
        kills += run_with_kills(cfg, data, folder / f"killed_{runs}", rng, plan)
        runs += 1
    print(json.dumps(kills))


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded torch: safe on Linux only")
def test_killed_anywhere_and_started_again_nothing_differs(tiny, toy_data, tmp_path, run_files):
    small = {"ngf": 2, "ndf": 2, "n_blocks": 1, "batch_size": 1, "steps_per_epoch": 2, "tick_steps": 1}
    cfg = tiny(epochs=(1, 2, 3, 4, 5), keep_epochs=(2,), **small)
    arrays = {name: value for name, value in vars(toy_data).items() if value is not None}
    np.savez(tmp_path / "data.npz", **arrays)
    (tmp_path / "cfg.json").write_text(json.dumps(cfg.to_dict()))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    kills = json.loads(ended.stdout)

    # The kills came where they were meant to, as what lay there afterwards tells too.
    assert sorted(kill["at"] for kill in kills) == sorted([*MARKS, *["anywhere"] * ANYWHERE])
    by_mark = {kill["at"]: kill for kill in kills}
    for mark in ("half a file", "before meta", "before renaming in"):  # a checkpoint half written
        assert any(name.count("_") == 3 for name in by_mark[mark]["unfinished"]), mark
    assert by_mark["renamed out"]["unfinished"]  # and half removed
    assert any(kill["row"] > kill["step"] and kill["row"] % 2 for kill in kills)  # amid an epoch of two steps
    assert any(kill["step"] == 0 for kill in kills)

    train(cfg, toy_data, tmp_path / "whole", progress=False)
    expected = run_files(tmp_path / "whole")
    assert len(expected) == 3 * 5 + 2 + 2 + 5 + 1  # weights and metas, trainer states, tables, pictures, the lock
    runs = sorted(tmp_path.glob("killed_*"))
    assert runs
    for run in runs:
        got = run_files(run)
        assert sorted(got) == sorted(expected)
        assert [name for name in got if got[name] != expected[name]] == []


if __name__ == "__main__":
    main(Path(sys.argv[1]))
