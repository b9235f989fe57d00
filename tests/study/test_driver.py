"""The driver goes on where it stopped, names what failed, and leaves no half file under a final name."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import nbformat
import pytest

from lib.data.files import read_json, write_json
from lib.study import driver
from lib.study.__main__ import main
from lib.study.config import StudyError
from lib.study.driver import Outcome, list_notebooks, pick, run_study
from lib.study.runs import REPOSITORY

PARAMETERS = 'name = ""\nprofile = ""\ndata = ""\nseed = -1\nruns_dir = ""'


def write_notebook(path, *cells):
    first = nbformat.v4.new_code_cell(PARAMETERS)
    first.metadata["tags"] = ["parameters"]
    cells = [first, *(nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture
def notebooks(tmp_path):
    """Three notebooks; the second fails until a file called `flag` lies beside them."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder / "00_first.ipynb", 'print(name, profile, seed)\nopen("count", "a").write("x")')
    write_notebook(
        folder / "01_second.ipynb", "1 + 1", 'from pathlib import Path\nassert Path("flag").exists(), "no flag"'
    )
    write_notebook(folder / "02_third.ipynb", "print('end')")
    write_notebook(folder / "notes.ipynb", "1 / 0")  # not numbered: not part of the study
    return folder


@pytest.fixture
def dry(monkeypatch):
    """No kernels: run_notebook only notes what it was asked to run."""
    ran = []

    def note(study, source, parameters, quiet=False):
        ran.append(source.stem)
        return Outcome(source.stem, "finished", 0.1)

    monkeypatch.setattr(driver, "run_notebook", note)
    return ran


def silent(line):
    pass


def outputs(path):
    cells = nbformat.read(path, 4).cells
    return "".join(o.get("text", "") + o.get("evalue", "") for c in cells if c.cell_type == "code" for o in c.outputs)


def test_a_failure_stops_the_study_and_the_next_call_goes_on(empty, notebooks):
    said = []
    first = run_study(empty, notebooks=notebooks, say=said.append)
    assert [(o.notebook, o.status) for o in first] == [("00_first", "finished"), ("01_second", "failed")]
    assert first[1].cell == 4  # the injected parameters are a cell of their own
    assert first[1].message == "AssertionError: no flag"
    assert "FAILED in cell [4]" in said[1]
    assert said[1].endswith("AssertionError: no flag")
    kept = empty.root / "notebooks"
    assert sorted(p.name for p in kept.iterdir()) == ["00_first.ipynb", "01_second.ipynb"]
    assert outputs(kept / "00_first.ipynb").startswith("empty tiny 0")
    assert "no flag" in outputs(kept / "01_second.ipynb")
    status = read_json(empty.root / "status.json")
    assert status["01_second"]["status"] == "failed"
    assert (status["01_second"]["cell"], status["01_second"]["message"]) == (4, "AssertionError: no flag")

    (notebooks / "flag").touch()
    second = run_study(empty, notebooks=notebooks, say=said.append)
    assert [o.status for o in second] == ["skipped", "finished", "finished"]
    assert (notebooks / "count").read_text() == "x"  # the first one did not run twice
    assert {entry["status"] for entry in read_json(empty.root / "status.json").values()} == {"finished"}
    assert all(not c.outputs for c in nbformat.read(notebooks / "00_first.ipynb", 4).cells)  # the source stays clean


def test_a_killed_run_leaves_no_half_file_under_a_final_name(empty, notebooks):
    write_notebook(notebooks / "00_first.ipynb", "print('started', flush=True)", "import time; time.sleep(30)")
    program = (
        "from lib.study.config import PROFILES; from tests.study.conftest import TINY; PROFILES['tiny'] = TINY\n"
        "from pathlib import Path; from lib.study.runs import find_study; from lib.study.driver import run_study\n"
        f"run_study(find_study('empty', {str(empty.root.parent)!r}), notebooks=Path({str(notebooks)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, start_new_session=True)
    running = empty.root / "notebooks" / ".running.00_first.ipynb"
    for _ in range(300):
        if running.exists() and "started" in running.read_text():
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [p.name for p in running.parent.iterdir() if not p.name.startswith(".")] == []
    assert read_json(empty.root / "status.json")["00_first"]["status"] == "running"
    write_notebook(notebooks / "00_first.ipynb", "print('whole')")
    assert [o.status for o in run_study(empty, only=["0"], notebooks=notebooks, say=silent)] == ["finished"]
    assert "whole" in outputs(empty.root / "notebooks" / "00_first.ipynb")
    assert not running.exists()


def test_finished_notebooks_are_skipped_unless_forced(empty, notebooks, dry):
    run_study(empty, notebooks=notebooks, say=silent)
    run_study(empty, notebooks=notebooks, say=silent)
    assert dry == ["00_first", "01_second", "02_third"]
    run_study(empty, only=["1"], force=True, notebooks=notebooks, say=silent)
    assert dry[3:] == ["01_second"]


def test_a_changed_notebook_is_pointed_out(empty, notebooks, dry):
    run_study(empty, notebooks=notebooks, say=silent)
    write_notebook(notebooks / "02_third.ipynb", "print('other')")
    said = []
    run_study(empty, notebooks=notebooks, say=said.append)
    assert "the notebook has changed since" in said[2]
    assert "changed" not in said[0]


def test_a_notebook_that_was_only_opened_and_run_has_not_changed(empty, notebooks, dry):
    path, said = notebooks / "02_third.ipynb", []
    before, formerly = driver.digests(path)
    run_study(empty, notebooks=notebooks, say=silent)
    status = read_json(empty.root / "status.json")
    assert status["02_third"]["source"] == before
    opened = nbformat.read(path, 4)
    opened.cells[1].outputs = [nbformat.v4.new_output("stream", text="end")]
    opened.cells[1].execution_count, opened.metadata["widgets"] = 3, {}
    nbformat.write(opened, path)
    run_study(empty, notebooks=notebooks, say=said.append)
    assert not any("changed" in line for line in said)
    write_json(empty.root / "status.json", status | {"01_second": status["01_second"] | {"source": formerly}})
    status["02_third"]["source"] = driver.digests(path)[1]  # as studies of before have it
    write_json(empty.root / "status.json", status)
    run_study(empty, notebooks=notebooks, say=said.append)
    assert not any("changed" in line for line in said)


def test_another_pick_lets_the_figures_run_again_without_force(empty, notebooks, dry):
    write_notebook(notebooks / "10_comparison.ipynb", "1")
    write_notebook(notebooks / "11_figures.ipynb", "1")
    pick_of, said = empty.root / "selection.json", []
    run_study(empty, notebooks=notebooks, say=silent)
    run_study(empty, notebooks=notebooks, say=silent)
    assert dry == ["00_first", "01_second", "02_third", "10_comparison", "11_figures"]
    write_json(pick_of, {"picks": [298, 476]})
    run_study(empty, only=["11"], notebooks=notebooks, say=said.append)
    assert dry[5:] == ["11_figures"]
    assert "11_figures" in said[0]
    assert "runs again: selection.json has changed since it finished" in said[0]
    os.utime(pick_of, (4e9, 4e9))  # touched, but the same
    run_study(empty, only=["11"], notebooks=notebooks, say=silent)
    assert dry[6:] == []
    run_study(empty, notebooks=notebooks, say=silent)
    assert dry[6:] == ["10_comparison"]


def test_a_pick_is_seen_in_a_study_of_before_and_by_the_notebook_that_wrote_it(empty, notebooks, monkeypatch):
    write_notebook(notebooks / "10_comparison.ipynb", "1")
    path, ran = empty.root / "selection.json", []

    def picks(study, source, parameters, quiet=False):
        ran.append(source.stem)
        write_json(path, {"picks": [1, 2]})
        return Outcome(source.stem, "finished", 0.1)

    monkeypatch.setattr(driver, "run_notebook", picks)
    for _ in range(2):
        run_study(empty, only=["10"], notebooks=notebooks, say=silent)
    assert ran == ["10_comparison"], "its own pick does not make it run again"
    status = read_json(empty.root / "status.json")
    del status["10_comparison"]["reads"]
    write_json(empty.root / "status.json", status)
    run_study(empty, only=["10"], notebooks=notebooks, say=silent)
    assert len(ran) == 1
    os.utime(path, (4e9, 4e9))
    run_study(empty, only=["10"], notebooks=notebooks, say=silent)
    assert len(ran) == 2


def test_force_trains_a_stage_anew(empty, notebooks, dry):
    write_notebook(notebooks / "05_stage1.ipynb", "1")
    for stage in ("stage1", "stage2"):
        (empty.stage_dir(stage)).mkdir()
    run_study(empty, only=["05"], force=True, notebooks=notebooks, say=silent)
    assert not empty.stage_dir("stage1").exists()
    assert empty.stage_dir("stage2").exists()


@pytest.mark.parametrize(
    ("only", "start", "expected"),
    [
        (["0", "02"], None, ["00_first", "02_third"]),
        (["01_second"], None, ["01_second"]),
        (None, "1", ["01_second", "02_third"]),
        (["00", "02"], "01", ["02_third"]),
    ],
)
def test_only_and_from(empty, notebooks, dry, only, start, expected):
    run_study(empty, only=only, start=start, notebooks=notebooks, say=silent)
    assert dry == expected


def test_an_unknown_notebook_lists_those_there_are(notebooks):
    with pytest.raises(StudyError, match=r"'07'.*00_first, 01_second, 02_third"):
        pick(list_notebooks(notebooks), ["07"])


def test_a_folder_without_notebooks_is_refused(empty, tmp_path):
    with pytest.raises(StudyError, match="no notebooks there"):
        run_study(empty, notebooks=tmp_path / "nowhere", say=silent)


def test_the_command_tells_what_is_wrong_in_one_line(tmp_path, capsys):
    assert main(["--data", "folders", "--runs-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: data source 'folders' needs --a FOLDER --b FOLDER")
    assert main(["--only", "77", "--name", "x", "--runs-dir", str(tmp_path)]) == 2
    assert "no notebook is called '77'" in capsys.readouterr().err
    assert main(["--only", "03", "--from", "05", "--name", "x", "--runs-dir", str(tmp_path)]) == 2
    assert "nothing to run: --only 03 leaves no notebook from 05 on" in capsys.readouterr().err
    assert main(["--seed", "-1", "--name", "x", "--runs-dir", str(tmp_path)]) == 2
    assert "seed -1: must be 0 or more" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["--name", "x", "--runs-dir", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "a mistyped command leaves no study behind"


def test_a_notebook_older_than_what_it_reads_says_so(tmp_path, notebooks, dry, monkeypatch):
    from lib.study.runs import open_study

    study, lines = open_study("s", runs_dir=tmp_path / "runs"), []
    clock = iter(f"2026-01-01T00:00:{k:02d}+00:00" for k in range(60))
    monkeypatch.setattr(driver, "now", lambda: next(clock))
    run_study(study, notebooks=notebooks, say=silent)
    run_study(study, only=["01"], force=True, notebooks=notebooks, say=silent)
    run_study(study, notebooks=notebooks, say=lines.append)
    assert "01_second has run since: --from 02 --force" in lines[2]
    assert "since" not in lines[0] + lines[1]


def test_two_runs_in_one_study_are_refused(tmp_path, notebooks, dry):
    from lib.study.runs import open_study

    study = open_study("s", runs_dir=tmp_path / "runs")
    with driver.locked(study), pytest.raises(StudyError, match="another run works in this study"):
        run_study(study, notebooks=notebooks, say=silent)
    assert not dry
    run_study(study, notebooks=notebooks, say=silent)
    assert len(dry) == 3


def test_the_name_of_a_study_is_enough_to_go_on(tmp_path, dry, capsys):
    from lib.study.runs import open_study

    open_study("mine", "laptop", seed=3, runs_dir=tmp_path)
    assert main(["--name", "mine", "--only", "00", "--runs-dir", str(tmp_path)]) == 0
    assert "profile laptop, data faceworld, seed 3" in capsys.readouterr().out
    assert main(["--name", "mine", "--profile", "smoke", "--runs-dir", str(tmp_path)]) == 2
    assert "is a study with profile = 'laptop', not 'smoke'" in capsys.readouterr().err


def test_pictures_are_in_the_executed_notebook_whatever_backend_the_box_prefers(tmp_path, monkeypatch):
    from lib.study.runs import open_study

    monkeypatch.setenv("MPLBACKEND", "agg")
    (tmp_path / "notebooks").mkdir()
    write_notebook(
        tmp_path / "notebooks" / "00_picture.ipynb",
        """
        import numpy as np
        from lib.study.display import grid, use_style
        use_style()
        grid([np.zeros((4, 4, 3), np.uint8)])
        """,
    )
    study = open_study("s", runs_dir=tmp_path / "runs")
    assert run_study(study, notebooks=tmp_path / "notebooks", say=silent)[0].status == "finished"
    executed = nbformat.read(study.root / "notebooks" / "00_picture.ipynb", as_version=4)
    pictures = [out for cell in executed.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) == 1, "shown, and shown once"


def test_settings_reach_the_notebooks_that_have_such_a_parameter(empty, notebooks, monkeypatch):
    given = {}

    def note(study, source, parameters, quiet=False):
        given[source.stem] = parameters
        return Outcome(source.stem, "finished")

    monkeypatch.setattr(driver, "run_notebook", note)
    path = notebooks / "02_third.ipynb"
    source = nbformat.read(path, 4)
    source.cells[0].source += '\ndevices = 1  # processes\ncompile = "auto"'
    nbformat.write(source, path)
    assert driver.parameters_of(path).keys() == {"name", "profile", "data", "seed", "runs_dir", "devices", "compile"}
    assert driver.parameters_of(path)["devices"] == 1
    run_study(empty, parameters={"devices": 2, "compile": "off", "epochs": 3}, notebooks=notebooks, say=silent)
    assert set(given["00_first"]) == {"name", "profile", "data", "seed", "runs_dir"}
    assert given["02_third"] == given["00_first"] | {"devices": 2, "compile": "off"}
    told = []
    run_study(empty, parameters={"devices": 3, "compile": "off"}, notebooks=notebooks, say=told.append)
    assert [line.endswith("; it ran with devices 2: --force runs it again)") for line in told] == [False, False, True]


def test_the_command_passes_on_what_was_given_and_nothing_else(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(driver, "run_study", lambda study, *rest, say: asked.append(rest[-1]) or [])
    runs = ["--runs-dir", str(tmp_path)]
    assert main(["--name", "x", *runs]) == 0
    options = ["--devices", "2", "--compile", "on", "--device", "cpu", "--epochs", "3", "--batch-size", "4"]
    assert main(["--name", "x", *runs, *options]) == 0
    assert asked == [{}, {"devices": 2, "compile": "on", "device": "cpu", "epochs": 3, "batch_size": 4}]
    capsys.readouterr()
    assert main(["--name", "y", *runs, "--batch-size", "0"]) == 2
    assert capsys.readouterr().err == "error: --batch-size 0: must be 1 or more\n"
    assert main(["--name", "y", *runs, "--epochs", "2"]) == 2
    assert "stage 5 needs 3" in capsys.readouterr().err
    assert not (tmp_path / "y").exists()


def test_photographs_reach_notebook_15_whole_and_nothing_else_runs_with_them(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(driver, "run_study", lambda study, *rest, say: asked.append(rest[-1]) or [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "pairs.txt").touch()
    runs = ["--name", "x", "--runs-dir", str(tmp_path / "runs")]
    assert main([*runs, "--only", "15", "--mafa-test", "set", "--mfr2", "set", "pairs.txt"]) == 0
    named = {"mafa": "set", "mfr2": "set", "mfr2_pairs": "pairs.txt"}
    assert asked == [{key: str(tmp_path / path) for key, path in named.items()}]
    notebook = next(path for path in list_notebooks() if path.stem.startswith("15"))
    assert {*named, "mlfw", "mlfw_pairs"} <= driver.parameters_of(notebook).keys()
    capsys.readouterr()
    assert main([*runs, "--only", "15", "--mlfw", "set", "elsewhere.txt"]) == 2
    assert "'elsewhere.txt': named by --mlfw but not there" in capsys.readouterr().err
    assert main([*runs, "--only", "14", "--mfr2", "set", "pairs.txt"]) == 2
    assert "--mfr2 is for notebook 15" in capsys.readouterr().err


def test_every_training_notebook_takes_the_commands_settings():
    for path in pick(list_notebooks(), start="04"):
        if path.stem in driver.STAGE_OF_NOTEBOOK:
            expected = {"device", "devices", "compile", "epochs", "batch_size", "seed"}
            assert expected <= driver.parameters_of(path).keys(), path.stem


def half_made(study, stage, status="finished", epochs=2, batch_size=4, weights=True):
    folder = study.stage_dir(stage)
    config = {"epochs": list(range(epochs)), "batch_size": batch_size}
    write_json(folder / "manifest.json", {"status": status, "config": config})
    if weights:
        (folder / "checkpoints" / "epoch_0060").mkdir(parents=True)
    return folder


@pytest.fixture
def stage1(empty, tmp_path):
    """A folder with the notebook of stage 1 alone, whose stage the study `empty` has trained."""
    folder = tmp_path / "one"
    folder.mkdir()
    write_notebook(folder / "05_stage1.ipynb", "1")
    (half_made(empty, "stage1") / "old").touch()
    return folder


def fake(monkeypatch, status, act=lambda study: None):
    seen = []

    def run(study, source, parameters, quiet=False):
        seen.append(parameters)
        act(study)
        return Outcome(source.stem, status, 0.1, 4, "no such device")

    monkeypatch.setattr(driver, "run_notebook", run)
    return seen


def test_force_that_fails_at_once_gives_the_old_stage_back(empty, stage1, monkeypatch):
    said = []
    fake(monkeypatch, "failed", lambda study: half_made(study, "stage1", "failed: …", weights=False))
    run_study(empty, force=True, notebooks=stage1, say=said.append)
    assert (empty.stage_dir("stage1") / "old").exists()
    assert driver.trained_with(empty, "stage1")["status"] == "finished"
    assert said[-1] == "stage1: the weights of before are back"
    assert not list(empty.root.glob(".old_*"))


def test_force_that_fails_later_keeps_both_until_the_new_stage_is_finished(empty, stage1, monkeypatch):
    fake(monkeypatch, "failed", lambda study: half_made(study, "stage1", "failed: …"))
    said = []
    run_study(empty, force=True, notebooks=stage1, say=said.append)
    assert not (empty.stage_dir("stage1") / "old").exists()
    assert (empty.root / ".old_stage1" / "old").exists()
    assert "half trained anew" in said[-1]
    fake(monkeypatch, "finished")
    run_study(empty, notebooks=stage1, say=silent)
    assert not list(empty.root.glob(".old_*"))
    assert empty.stage_dir("stage1").exists()


@pytest.mark.parametrize("trains_anew", [False, True])
def test_a_kill_loses_neither_the_old_stage_nor_the_new_one(empty, stage1, monkeypatch, trains_anew):
    def kill(study):
        if trains_anew:
            half_made(study, "stage1")
        raise KeyboardInterrupt

    fake(monkeypatch, "", kill)
    with pytest.raises(KeyboardInterrupt):
        run_study(empty, force=True, notebooks=stage1, say=silent)
    fake(monkeypatch, "finished")
    run_study(empty, notebooks=stage1, say=silent)
    assert (empty.stage_dir("stage1") / "old").exists() != trains_anew
    assert driver.has_weights(empty, "stage1")
    assert not list(empty.root.glob(".old_*"))


def test_the_study_remembers_what_changes_results(tmp_path, empty, monkeypatch):
    from lib.study.runs import find_study

    folder = tmp_path / "one"
    folder.mkdir()
    write_notebook(folder / "05_stage1.ipynb", "epochs = batch_size = 0")
    nb = nbformat.read(folder / "05_stage1.ipynb", 4)
    nb.cells[0].source += '\nepochs = 0\nbatch_size = 0\ndevice = "auto"'
    nbformat.write(nb, folder / "05_stage1.ipynb")
    seen = fake(monkeypatch, "failed")
    run_study(empty, parameters={"epochs": 6, "device": "cpu"}, notebooks=folder, say=silent)
    again = find_study("empty", empty.root.parent)
    run_study(again, notebooks=folder, say=silent)
    assert [given.get("epochs") for given in seen] == [6, 6]
    assert [given.get("device") for given in seen] == ["cpu", None]
    run_study(again, parameters={"epochs": 5, "batch_size": 2}, notebooks=folder, say=silent)
    assert (seen[2]["epochs"], seen[2]["batch_size"]) == (5, 2)
    assert find_study("empty", empty.root.parent).training == {"epochs": 5, "batch_size": 2}
    with pytest.raises(StudyError, match="stage1 can have 1 to 60 passes, not 61"):
        run_study(again, parameters={"epochs": 61}, notebooks=folder, say=silent)
    half_made(empty, "stage1", "failed: …", epochs=5)
    with pytest.raises(StudyError, match="stage1 is half trained with --epochs 5: give that"):
        run_study(again, parameters={"epochs": 4}, notebooks=folder, say=silent)
    assert find_study("empty", empty.root.parent).training == {"epochs": 5, "batch_size": 2}
    run_study(again, notebooks=folder, say=silent)
    assert (seen[3]["epochs"], seen[3]["batch_size"]) == (5, 4), "a stage goes on with its own"


def test_other_settings_for_a_finished_stage_are_not_passed_over_in_silence(empty, stage1, monkeypatch):
    fake(monkeypatch, "finished")
    said = []
    run_study(empty, parameters={"epochs": 2, "batch_size": 4}, notebooks=stage1, say=said.append)
    assert not any("stay as they were" in line for line in said)
    run_study(empty, parameters={"epochs": 3}, notebooks=stage1, say=said.append)
    assert "finished stages stay as they were trained; --force trains them anew: stage1 (--epochs 2)" in said


def test_bars_are_gone_from_the_executed_copy_and_a_warning_is_named(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(
        folder / "00_first.ipynb",
        "from tqdm import tqdm\nfor _ in tqdm(range(3), 'set A'): pass",
        "import warnings\nwarnings.warn('too few')",
    )
    write_notebook(folder / "01_second.ipynb", "print('quiet')")
    monkeypatch.setattr("lib.study.driver.list_notebooks", lambda *_: list_notebooks(folder))
    runs = ["--name", "s", "--runs-dir", str(tmp_path)]
    assert main(runs) == 0
    said = capsys.readouterr()
    assert re.search(r"^00_first warned in cell \[4\]: .*UserWarning: too few$", said.out, flags=re.M)
    assert "01_second warned" not in said.out
    assert "UserWarning: too few" in said.err, "whoever watches sees it at once"
    cells = nbformat.read(tmp_path / "s" / "notebooks" / "00_first.ipynb", 4).cells
    assert cells[2].outputs == []
    assert [output.name for output in cells[3].outputs] == ["stderr"]
    assert main([*runs, "--strict"]) == 1, "also where nothing was left to run"
    assert main([*runs, "--strict", "--only", "01"]) == 0


def test_a_picture_that_did_not_come_fails_a_strict_run(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder / "00_first.ipynb", "import matplotlib.pyplot as plt\nplt.show()")
    monkeypatch.setattr("lib.study.driver.list_notebooks", lambda *_: list_notebooks(folder))
    runs = ["--name", "s", "--runs-dir", str(tmp_path)]
    assert main([*runs, "--strict"]) == 1
    assert "ends with plt.show(), which drew no picture" in capsys.readouterr().out
    assert main(runs) == 0


def test_a_kernel_is_not_interrupted_in_its_last_answer(empty, notebooks, capfd):
    """Here the answer takes a moment longer than its message, as it does on a busy machine."""
    write_notebook(
        notebooks / "00_first.ipynb",
        """
        import time
        handlers = get_ipython().kernel.shell_handlers
        answer = handlers["kernel_info_request"]

        async def slow(*message):
            await answer(*message)
            time.sleep(0.15)

        handlers["kernel_info_request"] = slow
        """,
    )
    assert run_study(empty, only=["0"], notebooks=notebooks, say=silent)[0].status == "finished"
    assert "KeyboardInterrupt" not in capfd.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
def test_a_stopped_run_says_so_notes_it_and_leaves_no_kernel(tmp_path, notebooks, number, code):
    write_notebook(
        notebooks / "00_first.ipynb",
        "import os, time; open('pid', 'w').write(str(os.getpid())); open('ready', 'w').close(); time.sleep(60)",
    )
    program = (
        "import sys; from pathlib import Path; from lib.study import driver; from lib.study.__main__ import main\n"
        f"every = driver.list_notebooks(Path({str(notebooks)!r}))\n"
        "driver.list_notebooks = lambda *_: every\n"
        f"sys.exit(main(['--name', 's', '--runs-dir', {str(tmp_path)!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(600):
            if (notebooks / "ready").exists():
                break
            time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert said.splitlines()[-1] == "stopped; the same command goes on from here"
    entry = read_json(tmp_path / "s" / "status.json")["00_first"]
    assert entry["status"] == "interrupted"
    assert entry["end"] >= entry["start"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((notebooks / "pid").read_text()), 0)
