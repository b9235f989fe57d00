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
    with pytest.raises(AugmentError, match=r"--seed was 0, now 5.*--force") as caught:
        Journal(out, {**PRINT, "seed": 5})
    assert "\n" not in str(caught.value)
    assert (out / "images" / "a.png").exists()


MORE = {"checkpoint": "tiny", "checkpoint_sha256": "aa", "margin": 0.1, "preset": "study"}
RULE = {"checkpoint": "rule-only", "checkpoint_sha256": "", "preset": "ours"}


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"labels": "aa"}, {}, "--labels was given, now not given"),
        ({}, {"replay": "aa"}, "--replay was not given, now given"),
        ({"labels": "aa"}, {"labels": "bb"}, "--labels tells of other faces now"),
        ({"replay": "aa", "preset": None}, {"preset": "ours"}, "--replay was given, now not given"),
        (RULE, MORE, "it was --rule-only, now --checkpoint tiny"),
        (MORE, RULE, "it was --checkpoint tiny, now --rule-only"),
        (MORE, {**MORE, "checkpoint": "other", "checkpoint_sha256": "bb"}, "--checkpoint was tiny, now other"),
        (MORE, {**MORE, "checkpoint_sha256": "bb"}, "--checkpoint has other weights now"),
        ({"min_face": None, "originals": True}, {"min_face": 9, "originals": False},
         "--min-face was not given, now 9, --originals was given, now not given"),
        ({"input": "/else"}, {}, "IN was /else, now /in"),
        ({"format": 0, "seed": 4}, {}, "written by another version of this tool, format 0, now 1"),
    ],
)  # fmt: skip
def test_what_changed_is_told_in_options_whichever_side_had_it(tmp_path, before, now, told):
    with Journal(tmp_path, {**PRINT, **before}):
        pass
    with pytest.raises(AugmentError) as caught:
        Journal(tmp_path, {**PRINT, **now})
    assert f"holds a run with other options ({told}); give" in str(caught.value)


def test_pictures_that_left_in_are_counted_and_pruned(out, in_dir):
    with Journal(out, PRINT) as journal:
        assert journal.keep_valid(in_dir, TASKS) == 0
        assert journal.keep_valid(in_dir, TASKS[1:]) == 1
        assert (out / "images" / "a.png").exists()
        assert journal.keep_valid(in_dir, TASKS[1:], prune=True) == 0
        assert sorted(journal.done) == ["b.jpg", "c.jpg"]
    assert sorted(path.name for path in (out / "images").iterdir()) == ["b.png", "c.png"]


@pytest.mark.parametrize("lost", [1, 99], ids=["first line", "all lines"])
def test_a_damaged_first_line_is_refused_and_force_removes_what_tables_list(out, in_dir, lost):
    lines = (out / NAME).read_bytes().splitlines(keepends=True)
    (out / NAME).write_bytes(b"".join([b"\xff" + line for line in lines[:lost]] + lines[lost:]))
    rows = "output,region,original\nimages/a.png,regions/a.png,\nimages/b.png,regions/b.png,\n../in/a.jpg,mine.txt,\n"
    (out / "manifest.csv").write_text(rows)
    (out / "pairs").mkdir()
    (out / "pairs" / "pairs.csv").write_text("x")
    (out / "labels" / "voc").mkdir(parents=True)
    (out / "labels" / "voc" / "a.xml").write_text("x")
    (out / "mine.txt").write_text("mine")
    with pytest.raises(AugmentError, match=r"\.journal\.jsonl: damaged, .* --force"):
        Journal(out, PRINT)
    assert (out / "images" / "a.png").exists()
    with reopened(out, in_dir, force=True) as journal:
        assert not journal.done
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert left == {NAME, "mine.txt"} | ({"images/c.png", "regions/c.png"} if lost > 1 else set())
    assert (in_dir / "a.jpg").exists()
    with reopened(out, in_dir):
        pass


def test_a_first_line_torn_by_a_power_cut_begins_anew(tmp_path):
    (tmp_path / NAME).write_bytes(b'{"kind":"ru')
    with Journal(tmp_path, PRINT):
        pass
    with Journal(tmp_path, PRINT):
        pass


def test_a_copy_without_its_hidden_journal_is_told_so(out, tmp_path):
    (out / "run.json").write_text("{}")
    (out / NAME).unlink()
    for force in (False, True):
        with pytest.raises(AugmentError, match=r"its \.journal\.jsonl is missing \(a copy without hidden files"):
            Journal(out, PRINT, force)
    assert (out / "images" / "a.png").exists()


def test_force_removes_what_the_journal_lists_and_nothing_else(out, in_dir):
    mine = [out / "mine.txt", out / "images" / "mine.png", out / "regions" / "deep" / "mine.png"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (out / "failures.csv").write_text("file,face,kind,reason\n")
    (out / "images" / "half.png").write_text("begun, not done")
    (out / "tensors").mkdir()
    (out / "tensors" / "half.safetensors").write_text("begun, not done")
    (out / "tensors" / ".half.safetensors.0123abcd.tmp").write_text("killed")
    with Journal(out, PRINT) as journal:
        journal.start(Task("half.jpg", "half.png"), out)
    with reopened(out, in_dir, fingerprint={**PRINT, "seed": 5}, force=True) as journal:
        assert not journal.done
    assert not (out / "tensors").exists()
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
