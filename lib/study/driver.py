"""Run the notebooks headlessly with papermill, one after the other, and go on where the last call stopped."""

from __future__ import annotations

import ast
import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager

from lib.data.files import read_json, write_json, write_text
from lib.study.config import STAGES, TIMELINE, StudyError, epoch_labels
from lib.study.outputs import Progress, tidy, undrawn, warnings_of
from lib.study.runs import REMEMBERED, REPOSITORY, Study, now, remember

NOTEBOOKS = REPOSITORY / "notebooks"
ASIDE = ".old_{}"  # a trained stage while --force trains it anew
READ_BY_NONE = ("00", "03", "12", "13", "15")  # notebooks whose results no later one reads; for 12 and 13 see READS
_PICKS, _RUNS = ("selection.json",), ("experiments/results.csv",)
READS = {"10": _PICKS, "11": _PICKS, "12": _RUNS, "13": _RUNS}  # files of the study that change between runs
WRITES = ("10", "12", "13", "15")  # and who writes them itself
STAGE_OF_NOTEBOOK = {stage.notebook: stage.name for stage in TIMELINE}


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended: "finished", "skipped" or "failed"; a failure names the cell and the message."""

    notebook: str
    status: str
    seconds: float = 0.0
    cell: int | None = None
    message: str = ""


class Kernels(AsyncKernelManager):
    """Kernels that have answered papermill's last question before they are stopped.

    It asks for the kernel's name and stops it at the answer, with an interrupt first, which the kernel, if still at
    that question, would report as an error.
    """

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        await asyncio.sleep(0.3)
        await super().shutdown_kernel(now=now, restart=restart)


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


def parameters_of(notebook: Path) -> dict:
    """What the notebook's `parameters` cell sets: name → value."""
    tagged = (c for c in read_json(notebook)["cells"] if "parameters" in c["metadata"].get("tags", []))
    lines = [line for cell in tagged for line in ast.parse("".join(cell["source"])).body]
    return {line.targets[0].id: ast.literal_eval(line.value) for line in lines if isinstance(line, ast.Assign)}


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


def warned(study: Study, notebooks: list[Path]) -> dict[str, tuple[str, ...]]:
    """Those of the notebooks whose executed copies hold warnings or lack pictures, each with its lines.

    See `warnings_of` and `undrawn`.
    """
    copies = [study.root / "notebooks" / path.name for path in notebooks]
    read = {copy.stem: nbformat.read(copy, nbformat.NO_CONVERT) for copy in copies if copy.exists()}
    found = {name: warnings_of(notebook) + undrawn(notebook) for name, notebook in read.items()}
    return {name: lines for name, lines in found.items() if lines}


def digests(source: Path) -> tuple[str, str]:
    """A notebook's digest and, for studies of before, that of its whole file.

    The digest is of what its cells say: opening it in JupyterLab, or running it there, changes the file but not this.
    """
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in read_json(source)["cells"]]
    return tuple(hashlib.sha256(data).hexdigest()[:16] for data in (json.dumps(cells).encode(), source.read_bytes()))


def files_read(study: Study, source: Path) -> dict[str, str]:
    """Digests of the files of `READS` as they are now, "" for one that is not there."""
    paths = {name: study.root / name for name in READS.get(source.stem[:2], ())}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""
        for name, path in paths.items()
    }


def changed_since(study: Study, source: Path, before: dict) -> list[str]:
    """Names of the files of `READS` that are not as the finished notebook read them.

    before: its entry of status.json; one without digests, as written formerly, goes by the time of the file.
    """
    present = files_read(study, source)
    if "reads" in before:
        return [name for name in present if present[name] != before["reads"].get(name, "")]
    end = datetime.fromisoformat(before["end"]).timestamp() + 1  # it is told in whole seconds
    return [name for name in present if present[name] and (study.root / name).stat().st_mtime > end]


def read_status(study: Study) -> dict:
    """status.json of the study: one entry per notebook that was started."""
    path = study.root / "status.json"
    return read_json(path) if path.exists() else {}


def set_aside(study: Study, stage: str) -> None:
    """Move a trained stage out of the trainer's sight, which would find it finished; `settle` brings it back."""
    folder, old = study.stage_dir(stage), study.root / ASIDE.format(stage)
    if old.exists():  # and what is in its place is half trained
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        os.replace(folder, old)


def settle(study: Study, stage: str, finished: bool = False) -> str:
    """Bring back the stage that was set aside where the new training left no checkpoint; drop it once that finished.

    finished: the notebook ran to its end. Returns what became of the old stage, in words; "" where there is none.
    """
    folder, old = study.stage_dir(stage), study.root / ASIDE.format(stage)
    if not old.exists():
        return ""
    if not finished and not has_weights(study, stage):
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(old, folder)
        return f"{stage}: the weights of before are back"
    if finished or trained_with(study, stage).get("status") == "finished":
        shutil.rmtree(old)
        return ""
    return f"{stage}: half trained anew; what was there before lies in {old} until that is finished"


def has_weights(study: Study, stage: str) -> bool:
    """Whether a stage has a checkpoint."""
    return any((study.stage_dir(stage) / "checkpoints").glob("epoch_*"))


def trained_with(study: Study, stage: str) -> dict:
    """Status and `REMEMBERED` settings of a stage, by its manifest; {} where there is none."""
    path = study.stage_dir(stage) / "manifest.json"
    if not path.exists():
        return {}
    manifest = read_json(path)
    config = manifest["config"]
    known = {"epochs": len(config["epochs"]), "batch_size": config["batch_size"]}
    return {"status": manifest["status"], **{key: known[key] for key in REMEMBERED}}


def check_settings(study: Study, stages: list[str], given: dict, force: bool) -> str:
    """Hold settings that were given against what the stages were trained with.

    Returns a line on finished stages that have others, "" where none has. Raises StudyError for a half-trained stage
    that has others, and for a number of passes that a stage cannot have.
    """
    given, kept = {key: given[key] for key in REMEMBERED if key in given}, []
    for stage in stages:
        if "epochs" in given:
            epoch_labels(STAGES[stage], given["epochs"])
        before = trained_with(study, stage)
        other = {key: before[key] for key in given if before and before[key] != given[key]}
        if not other or force:
            continue
        words = ", ".join(f"--{key.replace('_', '-')} {value}" for key, value in other.items())
        if before["status"] == "finished":
            kept.append(f"{stage} ({words})")
        elif has_weights(study, stage):
            raise StudyError(
                f"{stage} is half trained with {words}: give that to go on, or --force to train it from its start"
            )
    return f"finished stages stay as they were trained; --force trains them anew: {', '.join(kept)}" if kept else ""


def _ran_with(before: dict, source: Path, asked: dict) -> str:
    """What a finished notebook ran with where something else is asked of it now; "" where nothing else is.

    `REMEMBERED` settings are left to `check_settings`, which asks the stages themselves.
    """
    ran = parameters_of(source) | before.get("parameters", {})
    other = [key for key in asked if key in ran and key not in REMEMBERED and ran[key] != asked[key]]
    return ", ".join(f"{key} {ran[key]!r}" for key in sorted(other))


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
            stderr_file=None if quiet else Progress(sys.stderr),
            cwd=str(source.parent),
            start_timeout=180,
            kernel_manager_class=Kernels,
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
        write_text(target, nbformat.writes(tidy(nbformat.read(running, nbformat.NO_CONVERT))) + "\n")
        running.unlink()
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

    Finished ones are skipped unless `force`, which also trains a training notebook's stage anew; the old one comes back
    if that fails before its first checkpoint. An interrupted stage resumes from its last checkpoint, because the
    trainer does. A finished notebook runs again, without `force`, where somebody changed a file it reads (`READS`), a
    pick for one. `status.json` is rewritten after every notebook, and says "interrupted" after a KeyboardInterrupt.

    Args:
        parameters: extra values for the `parameters` cell, beside name, profile, data and seed; a notebook gets those
            that its cell has. The study remembers `epochs` and `batch_size` for later calls.
        say: where the one line per notebook goes.
    """
    parameters = parameters or {}
    with locked(study):
        every = list_notebooks(notebooks)
        if not every:
            raise StudyError(f"{notebooks}: no notebooks there; run from a checkout of the repository")
        chosen, status, outcomes = pick(every, only, start), read_status(study), []
        for line in [settle(study, stage.name) for stage in TIMELINE]:
            if line:
                say(line)
        stages = [STAGE_OF_NOTEBOOK[path.stem] for path in chosen if path.stem in STAGE_OF_NOTEBOOK]
        if line := check_settings(study, stages, parameters, force):
            say(line)
        study = remember(study, parameters)
        parameters = study.training | parameters
        given = {"name": study.name, "profile": study.profile.name, "data": study.data, "seed": study.seed}
        given |= {"runs_dir": str(study.root.parent)}
        for number, source in enumerate(chosen, 1):
            head = f"[{number:2d}/{len(chosen)}] {source.stem:<28}"
            before = status.get(source.stem, {})
            known, finished = digests(source), before.get("status") == "finished"
            other_files = changed_since(study, source, before) if finished and not force else []
            if other_files:
                say(f"{head} runs again: {', '.join(other_files)} has changed since it finished ({before['end']})")
            elif finished and not force:
                note = (
                    "" if before.get("source") in known else "; the notebook has changed since: --force runs it again"
                )
                if other := _ran_with(before, source, parameters):
                    note = f"; it ran with {other}: --force runs it again"
                if newer := newer_before(status, source, every):
                    note = f"; {newer} has run since: --from {source.stem[:2]} --force makes this anew"
                say(f"{head} skipped (finished {before['end']}{note})")
                outcomes.append(Outcome(source.stem, "skipped"))
                continue
            if force and (stage := STAGE_OF_NOTEBOOK.get(source.stem)):
                set_aside(study, stage)
            status[source.stem] = {"status": "running", "start": now(), "source": known[0]}
            if source.stem[:2] in READS:
                status[source.stem]["reads"] = files_read(study, source)
            write_json(study.root / "status.json", status)
            stage = STAGE_OF_NOTEBOOK.get(source.stem)
            own = trained_with(study, stage) if stage and has_weights(study, stage) else {}  # it goes on with its own
            values = parameters | {key: own[key] for key in REMEMBERED if key in own}
            extra = {key: values[key] for key in values.keys() & parameters_of(source).keys()}
            status[source.stem]["parameters"] = extra
            try:
                outcome = run_notebook(study, source, given | extra)
            except KeyboardInterrupt:
                status[source.stem] |= {"status": "interrupted", "end": now()}
                write_json(study.root / "status.json", status)
                raise
            if source.stem[:2] in WRITES:
                status[source.stem]["reads"] = files_read(study, source)
            status[source.stem] |= {"status": outcome.status, "end": now(), "seconds": round(outcome.seconds, 1)}
            if outcome.status == "failed":
                status[source.stem] |= {"cell": outcome.cell, "message": outcome.message}
            write_json(study.root / "status.json", status)
            outcomes.append(outcome)
            if outcome.status == "failed":
                where = f" in cell [{outcome.cell}]" if outcome.cell is not None else ""
                say(f"{head} FAILED{where} after {outcome.seconds:.0f} s: {outcome.message}")
            if stage and (line := settle(study, stage, outcome.status == "finished")):
                say(line)
            if outcome.status == "failed":
                break
            say(f"{head} {outcome.seconds:6.1f} s")
        return outcomes
