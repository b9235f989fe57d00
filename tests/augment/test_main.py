"""The command as a user types it, in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.augment import Options, augment_folder
from lib.augment.__main__ import main
from lib.augment.journal import NAME

ROOT = Path(__file__).parents[2]


def start(*arguments: object) -> subprocess.Popen:
    """`python -m lib.augment …`, as a user would start it, in a process group of its own."""
    command = [sys.executable, "-m", "lib.augment", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::DeprecationWarning:lib"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    def heed_ctrl_c() -> None:  # a shell's background job ignores it, and so would its children
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, start_new_session=True, preexec_fn=heed_ctrl_c, **pipes
    )


def files(folder: Path, *suffixes: str) -> dict[str, bytes]:
    """Every file under the folder by its relative path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and (path.suffix in suffixes or not suffixes))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def pixels(path: Path) -> np.ndarray:
    """A PNG as an array."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def recorded(out: Path) -> list[str]:
    """Sources of the pictures that the journal has as done."""
    text = (out / NAME).read_text() if (out / NAME).exists() else ""
    lines = [line for line in text.split("\n")[:-1] if '"kind":"picture"' in line]
    return [json.loads(line)["source"] for line in lines]


def wait_until(true, seconds: float = 90.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


@pytest.fixture(scope="module")
def many(portrait, tmp_path_factory) -> Path:
    """Twenty-four pictures: enough to be stopped in the middle."""
    root = tmp_path_factory.mktemp("many")
    for k in range(24):
        Image.fromarray(portrait(150 + k)).save(root / f"{k:02}.bmp")
    return root


@pytest.fixture(scope="module")
def whole(many, tmp_path_factory) -> Path:
    """What an uninterrupted run in this process makes of them."""
    out = tmp_path_factory.mktemp("whole") / "out"
    augment_folder(many, out, Options(rule_only=True, workers=0, progress=False))
    return out


def test_mistakes_end_in_one_line_and_status_2(faces, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.safetensors").write_bytes(b"none")
    out = tmp_path / "out"
    for call, words in {
        (faces, out): "no released model",
        (tmp_path / "none", out, "--rule-only"): "no such folder",
        (tmp_path / "empty", out, "--rule-only"): "no pictures found",
        (faces, faces / "out", "--rule-only"): "inside IN",
        (faces, out, "--rule-only", "--workers", -1): "--workers",
        (faces, out, "--checkpoint", tmp_path / "no.safetensors"): "no.safetensors",
        (faces, out, "--checkpoint", tmp_path): "net_G_AB.safetensors: no such",
    }.items():
        assert main([str(part) for part in call]) == 2
        told = capsys.readouterr()
        assert words in told.err
        assert len(told.err.splitlines()) == 1
        assert not told.out
    assert not out.exists()
    assert not (faces / "out").exists()


def test_a_process_ends_in_one_line_too(tmp_path):
    (tmp_path / "wall").mkdir()
    Image.new("RGB", (90, 90)).save(tmp_path / "wall" / "wall.png")
    (tmp_path / "wall" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    for arguments, status, words in (
        (("--rule-only", "--checkpoint", "x"), 2, "exclude each other"),
        (("--rule-only", "--quiet", "--workers", 0), 1, "no face was masked (no face 1, unreadable 1)"),
    ):
        process = start(tmp_path / "wall", tmp_path / "out", *arguments)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == status, stderr
        assert words in stderr
        assert len(stderr.splitlines()) == 1, stderr
        assert not stdout
    assert len((tmp_path / "out" / "failures.csv").read_text().splitlines()) == 3


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphaned processes in /proc")
def test_a_killed_run_of_two_workers_is_finished_by_the_next_to_the_same_bytes(many, whole, tmp_path, capsys):
    def children(parent: int) -> list[int]:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                found += [int(stat.parent.name)] * (int(stat.read_text().rpartition(")")[2].split()[1]) == parent)
            except OSError:
                continue
        return found

    out = tmp_path / "out"
    process = start(many, out, "--rule-only", "--workers", 2)
    assert wait_until(lambda: len(recorded(out)) >= 3 or process.poll() is not None)
    workers = children(process.pid)
    assert len(workers) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=90)
    assert wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers)), "orphans"

    done = recorded(out)
    assert 3 <= len(done) < 24
    for path in out.rglob("*.png"):
        pixels(path)  # whole, or Pillow complains
    kept = {source: (out / "images" / source).with_suffix(".png").stat().st_mtime_ns for source in done}
    with (out / NAME).open("ab") as file:
        file.write(b'{"kind":"pict')  # as a power cut would leave it
    (out / "images" / f".{done[0][:2]}.png.0123abcd.tmp").write_bytes(b"half a picture")
    assert main([str(many), str(out), "--rule-only", "--workers", "0"]) == 0
    told = capsys.readouterr()
    assert "24 found, 24 masked" in told.out
    assert f"this run   {24 - len(done)} pictures" in told.out
    assert "24/24" in told.err, "the progress bar"
    assert {s: (out / "images" / s).with_suffix(".png").stat().st_mtime_ns for s in done} == kept, "not done again"
    assert files(out, ".png") == files(whole, ".png")
    assert not list(out.rglob("*.tmp"))


def test_ctrl_c_ends_in_one_line_with_the_tables_written(many, tmp_path):
    out = tmp_path / "out"
    process = start(many, out, "--rule-only", "--workers", 1, "--quiet")
    assert wait_until(lambda: len(recorded(out)) >= 2 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "give the same command again" in stderr
    assert len(stderr.splitlines()) == 1, stderr
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert len((out / "manifest.csv").read_text().splitlines()) == 1 + len(recorded(out))


def test_a_checkpoint_from_the_command_line(faces, checkpoint, tmp_path, capsys):
    shutil.copytree(faces / "deep", tmp_path / "in")
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--checkpoint", str(checkpoint), "--workers", "0", "--quiet"]
    assert main(call) == 0
    assert "3 found, 3 masked" in capsys.readouterr().out
    options = json.loads((tmp_path / "out" / "run.json").read_text())["options"]
    assert options["size"] == 64
    assert main([*call, "--margin", "0.1"]) == 2
    assert "--margin was 0.02, now 0.1" in capsys.readouterr().err
    assert main([*call, "--margin", "0.1", "--force"]) == 0


def test_without_a_choice_the_default_released_model_is_used_and_told(faces, models, tmp_path, capsys):
    shutil.copytree(faces / "deep", tmp_path / "in")
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--workers", "0", "--quiet"]
    assert main(call) == 0
    digest = json.loads((models / "tiny" / "model.json").read_text())["sha256"]
    line = f"model      tiny, the released model used by default, sha256 {digest[:12]}…, faces at 64 px"
    assert line in capsys.readouterr().out.splitlines()
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["fingerprint"]["checkpoint"], run["fingerprint"]["checkpoint_sha256"]) == ("tiny", digest)
    first = files(tmp_path / "out", ".png")

    assert main([*call, "--checkpoint", "tiny"]) == 0, "the same run, named"
    told = capsys.readouterr().out
    assert "this run   0 pictures" in told
    assert f"model      tiny, sha256 {digest[:12]}" in told
    assert main([*call, "--checkpoint", "other"]) == 2
    assert "(--checkpoint was tiny, now other)" in capsys.readouterr().err
    assert main([*call, "--rule-only"]) == 2
    assert "(it was --checkpoint tiny, now --rule-only)" in capsys.readouterr().err
    assert main([*call, "--rule-only", "--force"]) == 0
    assert "model      none, masks drawn by rule" in capsys.readouterr().out
    assert files(tmp_path / "out", ".png") != first
    assert main([*call, "--checkpoint", str(models / "other"), "--force"]) == 0
    capsys.readouterr()
    assert files(tmp_path / "out", ".png") == first, "the same weights in one part"


def test_a_damaged_released_model_ends_in_one_line(faces, models, tmp_path, monkeypatch, capsys):
    shutil.copytree(models, tmp_path / "models")
    monkeypatch.setattr("lib.gan.released.WEIGHTS", tmp_path / "models")
    part = next((tmp_path / "models" / "tiny").glob("part-00002-*"))
    part.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert main([str(faces), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert part.name in told
    assert "git lfs pull" in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_recognition_set_with_pairs_and_the_same_again(faces, tmp_path, capsys):
    for k, source in enumerate(("one.png", "deep/two.png"), 1):
        (tmp_path / "in" / "Ann").mkdir(parents=True, exist_ok=True)
        shutil.copy(faces / source, tmp_path / "in" / "Ann" / f"Ann_{k:04}.png")
    (tmp_path / "pairs.txt").write_text("Ann 1 2\n")
    quiet = ["--workers", "0", "--quiet", "--pairs", str(tmp_path / "pairs.txt")]
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--rule-only", "--per-image", "2", "--originals", *quiet]
    assert main(call) == 0
    told = capsys.readouterr().out
    assert "3 found, 3 masked, 6 masks in all variants" in told
    assert "pairs      unmasked-masked 1, masked-masked 1" in told
    assert "pairs_unmasked_masked.txt" not in told
    names = {f"images/Ann/Ann_{v}00{n}.png" for v in (0, 1, 2) for n in (1, 2)}
    first = files(tmp_path / "out", ".png")
    assert {name for name in first if name.startswith("images")} == names
    assert (tmp_path / "out" / "pairs" / "pairs_unmasked_masked.txt").read_text() == "Ann\t1\t1002\n"
    plain = [str(tmp_path / "in"), str(tmp_path / "plain"), "--rule-only", *quiet]
    assert main(plain) == 0
    assert "note       pairs_unmasked_masked.txt is not written: it needs" in capsys.readouterr().out
    assert not (tmp_path / "plain" / "pairs" / "pairs_unmasked_masked.txt").exists()
    manifest = str(tmp_path / "out" / "manifest.csv")
    assert main([str(tmp_path / "in"), str(tmp_path / "again"), "--replay", manifest, *quiet]) == 0
    assert files(tmp_path / "again", ".png", ".txt") == files(tmp_path / "out", ".png", ".txt")


def test_labelled_scenes(labelled, tmp_path, capsys):
    call = [str(labelled / "images"), str(tmp_path / "out"), "--labels", str(labelled), "--rule-only", "--write", "voc"]
    assert main([*call, "--workers", "0", "--quiet"]) == 0
    told = capsys.readouterr().out
    assert "faces      6 labelled, 3 found, 3 masked" in told
    assert "already masked 1, no landmarks 1, too small 1" in told
    assert (tmp_path / "out" / "labels" / "voc" / "Annotations" / "b" / "one.xml").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "already masked" in page
    assert main([*call, "--per-image", "2"]) == 2
    assert "--per-image was 1, now 2" in capsys.readouterr().err


def test_labels_that_are_left_out_are_missed(labelled, tmp_path, capsys):
    call = [str(labelled / "images"), str(tmp_path / "out"), "--rule-only", "--workers", "0", "--quiet"]
    assert main([*call, "--labels", str(labelled), "--limit", "1"]) == 0
    before = files(tmp_path / "out")
    assert main(call) == 2
    assert "(--labels was given, now not given)" in capsys.readouterr().err
    assert files(tmp_path / "out") == before


def test_pictures_that_left_in_are_told_and_pruned(faces, tmp_path, capsys):
    shutil.copytree(faces, tmp_path / "in")
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--rule-only", "--workers", "0", "--quiet"]
    assert main(call) == 0
    assert "no longer in IN" not in capsys.readouterr().out
    shutil.rmtree(tmp_path / "in" / "deep")
    assert main(call) == 0
    note = "2 pictures are no longer in IN; what was made of them is still in OUT: --prune removes it"
    assert f"note       {note}\n" in capsys.readouterr().out
    assert note in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "images" / "deep" / "two.png").exists()
    assert main([*call, "--prune"]) == 0
    assert "pictures   1, with a face 1" in capsys.readouterr().out
    assert list(files(tmp_path / "out", ".png")) == ["images/one.png", "regions/one.png"]
    assert "deep" not in (tmp_path / "out" / "manifest.csv").read_text()


def test_what_is_passed_over_or_no_picture_is_told(faces, tmp_path, capsys):
    (tmp_path / "in" / ".trash").mkdir(parents=True)
    shutil.copy(faces / "one.png", tmp_path / "in" / ".trash")
    shutil.copy(faces / "one.png", tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--rule-only", "--workers", "0", "--quiet"]
    assert main(call) == 0
    assert "note       1 hidden folder with pictures in IN passed over (.trash, …)\n" in capsys.readouterr().out
    assert "pipe.png,-1,unreadable,is not a file" in (tmp_path / "out" / "failures.csv").read_text()
    assert main([*call, "--force", "--share", "0"]) == 1
    assert "no face was masked (--share 0 chose none of 1, unreadable 1)" in capsys.readouterr().err


def test_absurd_boxes_cost_themselves_alone(labelled, tmp_path, capsys):
    shutil.copytree(labelled, tmp_path / "set")
    path = tmp_path / "set" / "annotations" / "instances.json"
    content = json.loads(path.read_text())
    for k, box in enumerate(([1e19, 1, 2, 3], [298, 58, 1e30, 156])):
        content["annotations"].append({"id": 90 + k, "image_id": 1, "category_id": 1, "bbox": box})
    path.write_text(json.dumps(content))
    call = [str(tmp_path / "set" / "images"), str(tmp_path / "out"), "--labels", str(tmp_path / "set"), "--rule-only"]
    assert main([*call, "--workers", "0", "--quiet"]) == 0
    assert "unusable box 2" in capsys.readouterr().out
    failed = (tmp_path / "out" / "failures.csv").read_text()
    assert failed.count("unusable box,box out of range") == 2


def test_help_tells_what_a_reader_must_know(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for words in (
        "PNG, because",
        "exit status",
        "0 = untouched",
        "failures.csv",
        "--rule-only",
        "--checkpoint",
        "released model",
        "NAME[#COLOUR[@SHARE]][/TEXTURE[@SHARE]][=WEIGHT], …",
        "--per-image 2 --originals --pairs pairs.txt",
        "--labels VOC --share 0.5 --write coco",
        "--replay masked/manifest.parquet",
    ):
        assert words in " ".join(text.split())
