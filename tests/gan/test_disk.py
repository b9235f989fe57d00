"""Room on the disk: told before a stage, and clear words and an intact run where it ends."""

import os
import subprocess

import pytest

from lib.gan import TrainError, list_checkpoints, read_meta, train
from lib.gan import checkpoints as module
from lib.gan.checkpoints import TRAINER, check_room, size_estimate
from lib.gan.disk import DiskError, free_bytes, human, writing


def size_on_disk(folder) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run_files):
    """keep(cfg, data) → files of an uninterrupted run, trained once for the module."""
    cache = {}

    def keep(cfg, data) -> dict:
        if cfg not in cache:
            run = tmp_path_factory.mktemp("whole")
            train(cfg, data, run, progress=False)
            cache[cfg] = run_files(run)
        return cache[cfg]

    return keep


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, 3 MB: a run of `tiny` takes 2.6."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)]
    try:
        refused = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if refused.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {refused.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def assert_intact(run_dir, first_words: str, error: str) -> None:
    """The message says what went wrong where, and what was there before is there, and nothing else."""
    assert error.startswith("stage5: step ")
    assert first_words in error
    assert error.endswith(f"last good checkpoint: {run_dir / 'checkpoints' / 'epoch_0299'}")
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["epoch_0299"]
    read_meta(run_dir / "checkpoints" / "epoch_0299", with_trainer=True)
    assert not [path for path in run_dir.rglob("*") if ".tmp" in path.name]


@pytest.mark.parametrize(
    ("left_kB", "place"),
    [(0, "samples/epoch_0313.png"), (100, "checkpoints/epoch_0313"), (400, "checkpoints/epoch_0313")],
)
def test_a_full_disk_stops_with_clear_words_and_then_goes_on(
    tiny, toy_data, small_disk, whole, run_files, left_kB, place
):
    """Full at the sample strip, amid the weights, amid the trainer's state."""
    run_dir, filler = small_disk / "run", small_disk / "filler"

    def fill(label, row):
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free_bytes(small_disk) - 1000 * left_kB)

    with pytest.raises(TrainError) as stopped:
        train(tiny(), toy_data, run_dir, progress=False, on_epoch=fill)
    assert_intact(run_dir, f"step 6 (epoch 313): {run_dir / place}: No space left on device (needs", str(stopped.value))
    assert "free); make room and run again; last" in str(stopped.value)

    filler.unlink()
    train(tiny(), toy_data, run_dir, progress=False)
    assert run_files(run_dir) == whole(tiny(), toy_data)


@pytest.mark.parametrize(
    ("limit", "place"),
    [
        (10, "metrics.csv"),
        (3_000, "samples/epoch_0313.png"),
        (50_000, "checkpoints/epoch_0313"),
        (300_000, "checkpoints/epoch_0313"),
    ],
)
def test_a_limit_on_files_does_so_too(tiny, toy_data, tmp_path, whole, run_files, limit, place):
    """As a quota would: met amid a row, the strip, the weights and the trainer's state."""
    resource = pytest.importorskip("resource", reason="no limits on files on this system")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def shrink(label, row):
        more = (tmp_path / "metrics.csv").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (more + limit, before[1]))

    try:
        with pytest.raises(TrainError) as stopped:
            train(tiny(), toy_data, tmp_path, progress=False, on_epoch=shrink)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_intact(tmp_path, f"(epoch 313): {tmp_path / place}: File too large (needs", str(stopped.value))

    train(tiny(), toy_data, tmp_path, progress=False)
    assert run_files(tmp_path) == whole(tiny(), toy_data)


def test_a_place_that_cannot_be_written_is_named(tiny, toy_data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainError, match=r"file.run: Not a directory"):
        train(tiny(), toy_data, tmp_path / "file" / "run", progress=False)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upsampling": "resize", "ngf": 6, "ndf": 2, "n_blocks": 3, "sample_count": 1},
        {"epochs": (1, 2, 3, 4, 5), "keep_epochs": (2, 3), "pool_size": 5},
        {"epochs": (1,), "keep_epochs": (), "pool_size": 0},
        # Pools still filling: 2, 4 and 6 of 50 images; 8, 16 and 24; 26 and 50.
        {"epochs": (1, 2, 3), "keep_epochs": (), "pool_size": 50, "steps_per_epoch": 1},
        {"epochs": (1, 2, 3), "keep_epochs": (), "pool_size": 50, "steps_per_epoch": None, "batch_size": 8},
        {"epochs": (1, 2), "keep_epochs": (), "pool_size": 50, "steps_per_epoch": 13},
    ],
)
def test_the_size_told_before_is_the_size_in_the_end(tiny, toy_data, tmp_path, monkeypatch, changes):
    cfg, most, prune = tiny(**changes), [], module.prune

    def weigh_and_prune(*args):
        most.append(size_on_disk(tmp_path))
        prune(*args)

    monkeypatch.setattr(module, "prune", weigh_and_prune)
    told = size_estimate(cfg, toy_data)
    train(cfg, toy_data, tmp_path, progress=False)
    assert told["at_end"] == pytest.approx(size_on_disk(tmp_path), rel=0.02)
    assert told["at_most"] == pytest.approx(max(most), rel=0.02)
    newest = list_checkpoints(tmp_path / "checkpoints")[-1]
    assert told["trainer"] == pytest.approx((newest / TRAINER).stat().st_size, rel=0.02)
    assert told["weights"] == pytest.approx(sum(p.stat().st_size for p in newest.glob("net_*")), rel=0.03)
    assert told["samples"] == pytest.approx(size_on_disk(tmp_path / "samples"), rel=0.1)


def test_a_stage_of_the_papers_size(tiny, toy_data):
    """Counted by hand: 11.8 M and 2.8 M numbers a network, four bytes each; Adam keeps two more of each, and 2 · 50
    images of 256² lie in the pools."""
    cfg = tiny(ngf=64, ndf=64, n_blocks=9, size=256, pool_size=50, steps_per_epoch=25, sample_count=0)
    told = size_estimate(cfg, toy_data)
    assert told["weights"] == pytest.approx(2 * 4 * (11_822_949 + 2_764_737), rel=0.001)
    assert told["trainer"] == pytest.approx(2 * told["weights"] + 2 * 50 * 3 * 256 * 256 * 4, rel=0.001)
    assert told["at_end"] == 3 * told["weights"] + 2 * told["trainer"]


def test_the_size_is_shown_before_the_run(tiny, toy_data, tmp_path, capsys):
    train(tiny(), toy_data, tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("stage5: about 2.0 MB on disk at its end, 2.6 MB at most (weights 256")
    assert "written" not in out  # nothing is there yet


def test_too_little_room_is_refused_before_the_first_step(tiny, toy_data, tmp_path, monkeypatch):
    most = size_estimate(tiny(), toy_data)["at_most"]
    monkeypatch.setattr(module, "free_bytes", lambda path: most - 1)
    message = r"run: the stage takes up to 2\.6 MB on disk, but only 2\.6 MB are free: make room, "
    with pytest.raises(TrainError, match=message):
        train(tiny(), toy_data, tmp_path / "run", progress=False)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]

    # What is there already needs no more room.
    monkeypatch.setattr(module, "free_bytes", lambda path: most)
    train(tiny(), toy_data, tmp_path / "run", progress=False)
    there = size_on_disk(tmp_path / "run" / "checkpoints") + size_on_disk(tmp_path / "run" / "samples")
    monkeypatch.setattr(module, "free_bytes", lambda path: most - there)
    assert "), of it 2.0 MB already written; " in check_room(tiny(), toy_data, tmp_path / "run")
    monkeypatch.setattr(module, "free_bytes", lambda path: most - there - 1)
    with pytest.raises(DiskError):
        check_room(tiny(), toy_data, tmp_path / "run")


def test_other_errors_pass_through_as_they_are(tmp_path):
    with pytest.raises(ValueError, match="mine"), writing(tmp_path, needs=1):
        raise ValueError("mine")
    with pytest.raises(DiskError, match=r"somewhere: no number$"), writing(tmp_path / "somewhere", needs=1):
        raise OSError("no number")


@pytest.mark.parametrize(("count", "text"), [(0, "0.0 kB"), (1234, "1.2 kB"), (5e6, "5.0 MB"), (2.06e9, "2.1 GB")])
def test_sizes_for_people(count, text):
    assert human(count) == text
