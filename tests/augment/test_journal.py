"""The journal: what survives a kill, what is removed and what never is."""

import json

import pytest

from lib.augment.journal import NAME, Journal
from lib.augment.options import AugmentError, Task
from lib.data.files import sha256

PRINT = {"format": 1, "input": "/in", "seed": 0}


def record(out, in_dir, source: str, failures=()) -> dict:
    """A record of a picture whose files are really there."""
    name = source.rsplit(".", 1)[0] + ".png"
    (in_dir / source).write_bytes(source.encode())
    paths = Task(source, name).outputs
    for path in paths:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(path.encode())
    files = {path: sha256(out / path) for path in paths}
    common = {"source": source, "name": name, "source_sha256": sha256(in_dir / source), "files": files}
    return {**common, "failures": list(failures), "faces": []}


@pytest.fixture
def in_dir(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path, in_dir):
    """A folder in which a.jpg, b.jpg and c.jpg were done."""
    out = tmp_path / "out"
    with Journal(out, PRINT) as journal:
        for source in ("a.jpg", "b.jpg", "c.jpg"):
            made = record(out, in_dir, source)
            journal.start(Task(source, source[0] + ".png"), in_dir)
            journal.add(made)
    return out


TASKS = [Task(f"{x}.jpg", f"{x}.png") for x in "abcd"]


def reopened(out, in_dir, tasks=TASKS, **options) -> Journal:
    journal = Journal(out, options.pop("fingerprint", PRINT), **options)
    journal.keep_valid(in_dir, tasks)
    return journal


def test_what_was_done_is_known_again(out, in_dir):
    with reopened(out, in_dir) as journal:
        assert sorted(journal.done) == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize("torn", [b'{"kind":"picture","source":"d.j', b"\xff\xfe", b'{"kind":"picture"}x'])
def test_a_torn_last_line_is_cut_off(out, in_dir, torn):
    whole = (out / NAME).read_bytes()
    (out / NAME).write_bytes(whole + torn)
    with reopened(out, in_dir) as journal:
        assert sorted(journal.done) == ["a.jpg", "b.jpg", "c.jpg"]
        journal.add(record(out, in_dir, "d.jpg"))
    assert (out / NAME).read_bytes().startswith(whole)
    assert all(json.loads(line) for line in (out / NAME).read_bytes().splitlines())


def test_a_damaged_line_in_the_middle_costs_its_picture_only(out, in_dir):
    lines = (out / NAME).read_bytes().splitlines(keepends=True)
    assert b'"a.jpg"' in lines[2]
    lines[2] = lines[2][:30] + b"\n"
    (out / NAME).write_bytes(b"".join(lines))
    with reopened(out, in_dir) as journal:
        assert sorted(journal.done) == ["b.jpg", "c.jpg"]


def test_changed_files_on_either_side_are_done_again(out, in_dir):
    (out / "images" / "a.png").write_bytes(b"somebody drew on it")
    (out / "regions" / "b.png").unlink()
    (in_dir / "c.jpg").write_bytes(b"another picture")
    with reopened(out, in_dir) as journal:
        assert not journal.done
    assert not (out / "regions" / "c.png").exists(), "what no longer belongs to a picture must not stay"


def test_errors_are_tried_again_and_misses_are_not(out, in_dir):
    with Journal(out, PRINT) as journal:
        journal.add(record(out, in_dir, "a.jpg", [{"face": -1, "kind": "error", "reason": "x"}]))
        journal.add(record(out, in_dir, "b.jpg", [{"face": -1, "kind": "no face", "reason": "x"}]))
    with reopened(out, in_dir) as journal:
        assert sorted(journal.done) == ["b.jpg", "c.jpg"]


def test_a_picture_that_left_in_keeps_its_outputs(out, in_dir):
    (in_dir / "a.jpg").unlink()
    with reopened(out, in_dir, TASKS[1:]) as journal:
        assert "a.jpg" in journal.done
    assert (out / "images" / "a.png").exists()


def test_a_new_output_name_replaces_the_old_file(out, in_dir):
    tasks = [Task("a.jpg", "a.jpg.png"), Task("a.png", "a.png.png"), *TASKS[1:]]
    with reopened(out, in_dir, tasks) as journal:
        assert "a.jpg" not in journal.done
    assert not (out / "images" / "a.png").exists()


def test_other_options_are_refused_and_named(out):
    with pytest.raises(AugmentError, match=r"seed was 0, now 5.*--force") as caught:
        Journal(out, {**PRINT, "seed": 5})
    assert "\n" not in str(caught.value)
    assert (out / "images" / "a.png").exists()


def test_force_removes_what_the_journal_lists_and_nothing_else(out, in_dir):
    mine = [out / "mine.txt", out / "images" / "mine.png", out / "regions" / "deep" / "mine.png"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (out / "failures.csv").write_text("file,face,kind,reason\n")
    (out / "images" / "half.png").write_text("begun, not done")
    with Journal(out, PRINT) as journal:
        journal.start(Task("half.jpg", "half.png"), out)
    with reopened(out, in_dir, fingerprint={**PRINT, "seed": 5}, force=True) as journal:
        assert not journal.done
    left = sorted(path for path in out.rglob("*") if path.is_file())
    assert left == sorted([*mine, out / NAME])
    with reopened(out, in_dir, fingerprint={**PRINT, "seed": 5}):
        pass


def test_a_journal_cannot_make_us_remove_a_file_elsewhere(out, in_dir, tmp_path):
    victims = [tmp_path / "victim.png", out / "victim.png", in_dir / "a.jpg"]
    for path in victims[:2]:
        path.write_text("x")
    bad = [
        "../victim.png",
        "images/../../victim.png",
        str(tmp_path / "victim.png"),
        "victim.png",
        "images/",
        "",
        "../in/a.jpg",
    ]
    with (out / NAME).open("a") as file:
        file.write(json.dumps({"kind": "start", "source": "x", "files": bad}) + "\n")
    (tmp_path / ".victim.png.0123abcd.tmp").write_text("x")
    victims.append(tmp_path / ".victim.png.0123abcd.tmp")
    reopened(out, in_dir, force=True).file.close()
    assert all(path.exists() for path in victims)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_somebody_else_is_refused(tmp_path, force):
    (tmp_path / "thesis.tex").write_text("five years")
    with pytest.raises(AugmentError, match="did not write"):
        Journal(tmp_path, PRINT, force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_second_run_in_the_same_folder_is_refused(out):
    pytest.importorskip("fcntl")
    with Journal(out, PRINT), pytest.raises(AugmentError, match="another run"):
        Journal(out, PRINT)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(AugmentError, match="cannot be written"):
        Journal(tmp_path / "file" / "out", PRINT)
