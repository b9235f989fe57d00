"""Run the notebooks headlessly with papermill, one after the other, and go on where the last call stopped."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib.data.files import read_json, write_json
from lib.study.config import TIMELINE, StudyError
from lib.study.runs import REPOSITORY, Study, now

NOTEBOOKS = REPOSITORY / "notebooks"
READ_BY_NONE = ("00", "03")  # notebooks whose results no later one reads
STAGE_OF_NOTEBOOK = {stage.notebook: stage.name for stage in TIMELINE}


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended: "finished", "skipped" or "failed"; a failure names the cell and the message."""

    notebook: str
    status: str
    seconds: float = 0.0
    cell: int | None = None
    message: str = ""


def list_notebooks(folder: Path = NOTEBOOKS) -> list[Path]:
    """The numbered notebooks in reading order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def pick(notebooks: list[Path], only: list[str] | None = None, start: str | None = None) -> list[Path]:
    """The notebooks that `--only 03 05` and `--from 04` leave.

    A notebook is named by its number ("3", "03") or by the beginning of its file name ("05_stage1").

    Raises StudyError for a name that fits none, listing what there is.
    """

    def find(text: str) -> Path:
        key = text.zfill(2) if text.isdigit() else text
        for path in notebooks:
            if path.stem == key or path.stem.split("_")[0] == key or path.stem.startswith(key + "_"):
                return path
        raise StudyError(f"no notebook is called {text!r}; there are: {', '.join(p.stem for p in notebooks)}")

    chosen = notebooks
    if only:
        wanted = {find(text) for text in only}
        chosen = [path for path in chosen if path in wanted]
    if start:
        first = find(start)
        chosen = [path for path in chosen if path >= first]
    if notebooks and not chosen:
        raise StudyError(f"nothing to run: --only {' '.join(only or [])} leaves no notebook from {start} on")
    return chosen


def parameters_of(notebook: Path) -> set[str]:
    """Names that the notebook's `parameters` cell sets."""
    tagged = (c for c in read_json(notebook)["cells"] if "parameters" in c["metadata"].get("tags", []))
    lines = [line for cell in tagged for line in ast.parse("".join(cell["source"])).body]
    return {line.targets[0].id for line in lines if isinstance(line, ast.Assign)}


@contextmanager
def locked(study: Study):
    """Hold the study for this process. Raises StudyError when another one works in it."""
    study.root.mkdir(parents=True, exist_ok=True)
    with (study.root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StudyError(f"{study.root}: another run works in this study; wait for it or stop it") from None
        yield


def newer_before(status: dict, source: Path, every: list[Path]) -> str | None:
    """An earlier notebook that ran after this one had finished, so that its results no longer rest on that run's."""
    for path in every[: every.index(source)]:
        again = status.get(path.stem, {}).get("start", "")
        if path.stem[:2] not in READ_BY_NONE and again > status[source.stem]["end"]:
            return path.stem
    return None


def read_status(study: Study) -> dict:
    """status.json of the study: one entry per notebook that was started."""
    path = study.root / "status.json"
    return read_json(path) if path.exists() else {}


def run_notebook(study: Study, source: Path, parameters: dict, quiet: bool = False) -> Outcome:
    """Execute one notebook; its executed copy ends in `runs/<study>/notebooks/` whether it succeeds or fails.

    While it runs, the copy carries a hidden temporary name, so that a killed run leaves none under the final one.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    target = study.root / "notebooks" / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    running = target.with_name(f".running.{source.name}")
    started = time.monotonic()
    outcome = None
    try:
        papermill.execute_notebook(
            str(source),
            str(running),
            parameters=parameters,
            kernel_name="python3",
            progress_bar=sys.stderr.isatty() and not quiet,
            log_output=False,
            cwd=str(source.parent),
            start_timeout=180,
            extra_arguments=["--log-level=40"],  # ipykernel greets every start with a warning about TCP
        )
        outcome = Outcome(source.stem, "finished", time.monotonic() - started)
    except PapermillExecutionError as error:
        message = f"{error.ename}: {error.evalue}"
        outcome = Outcome(source.stem, "failed", time.monotonic() - started, error.exec_count, message)
    except Exception as error:  # the kernel died or never started: papermill has several types for it
        message = f"{type(error).__name__}: {error}"
        outcome = Outcome(source.stem, "failed", time.monotonic() - started, None, message)
    if running.exists():
        os.replace(running, target)
    return outcome


def run_study(
    study: Study,
    only: list[str] | None = None,
    start: str | None = None,
    force: bool = False,
    parameters: dict | None = None,
    notebooks: Path = NOTEBOOKS,
    say=print,
) -> list[Outcome]:
    """Run the chosen notebooks in order and stop at the first that fails.

    Finished ones are skipped unless `force`, which also trains a training notebook's stage anew. An interrupted stage
    resumes from its last checkpoint, because the trainer does. `status.json` is rewritten after every notebook.

    Args:
        parameters: extra values for the `parameters` cell, beside name, profile, data and seed; a notebook gets those
            that its cell has.
        say: where the one line per notebook goes.
    """
    parameters = parameters or {}
    with locked(study):
        every = list_notebooks(notebooks)
        if not every:
            raise StudyError(f"{notebooks}: no notebooks there; run from a checkout of the repository")
        chosen, status, outcomes = pick(every, only, start), read_status(study), []
        given = {"name": study.name, "profile": study.profile.name, "data": study.data, "seed": study.seed}
        given |= {"runs_dir": str(study.root.parent)}
        for number, source in enumerate(chosen, 1):
            head = f"[{number:2d}/{len(chosen)}] {source.stem:<28}"
            before = status.get(source.stem, {})
            digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
            if before.get("status") == "finished" and not force:
                note = (
                    "" if before.get("source") == digest else "; the notebook has changed since: --force runs it again"
                )
                if newer := newer_before(status, source, every):
                    note = f"; {newer} has run since: --from {source.stem[:2]} --force makes this anew"
                say(f"{head} skipped (finished {before['end']}{note})")
                outcomes.append(Outcome(source.stem, "skipped"))
                continue
            if force and (stage := STAGE_OF_NOTEBOOK.get(source.stem)):
                shutil.rmtree(study.stage_dir(stage), ignore_errors=True)  # else the trainer would find it finished
            status[source.stem] = {"status": "running", "start": now(), "source": digest}
            write_json(study.root / "status.json", status)
            extra = {key: parameters[key] for key in parameters.keys() & parameters_of(source)}
            outcome = run_notebook(study, source, given | extra)
            status[source.stem] |= {"status": outcome.status, "end": now(), "seconds": round(outcome.seconds, 1)}
            if outcome.status == "failed":
                status[source.stem] |= {"cell": outcome.cell, "message": outcome.message}
            write_json(study.root / "status.json", status)
            outcomes.append(outcome)
            if outcome.status == "failed":
                where = f" in cell [{outcome.cell}]" if outcome.cell is not None else ""
                say(f"{head} FAILED{where} after {outcome.seconds:.0f} s: {outcome.message}")
                break
            say(f"{head} {outcome.seconds:6.1f} s")
        return outcomes
