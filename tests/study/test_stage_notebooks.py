"""What notebooks 05 to 09 say of their run time agrees with the profiles, and their links lead somewhere."""

import re

import nbformat
import pytest

from lib.study.config import PROFILES, cost_rows
from lib.study.driver import STAGE_OF_NOTEBOOK, list_notebooks

STAGES = [path for path in list_notebooks() if "05" <= path.stem[:2] <= "09"]
SECONDS_A_STEP = 33.4  # of profile paper on two cores: LOG.md, README.md


@pytest.fixture(params=STAGES, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def prose(path):
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_the_run_time_counts_the_steps_of_every_profile(notebook):
    line = next(p for p in prose(notebook).split("\n\n") if p.startswith("**Run time.**"))
    told = {profile: int(n.replace(",", "")) for profile, n in re.findall(r"`(\w+)`: ([\d,]+)\ssteps", line)}
    rows = {name: cost_rows(profile) for name, profile in PROFILES.items() if name not in ("smoke", "tiny")}
    stage = STAGE_OF_NOTEBOOK[notebook.stem]
    steps = {name: next(row["steps"] for row in table if row["stage"] == stage) for name, table in rows.items()}
    assert told == steps
    hours = int(re.search(r"([\d,]+)\shours", line)[1].replace(",", ""))
    assert hours == round(steps["paper"] * SECONDS_A_STEP / 3600)


def test_links_to_other_notebooks_lead_to_files(notebook):
    links = re.findall(r"\]\(([^)]+)\)", prose(notebook))
    assert links
    assert [link for link in links if not (notebook.parent / link).is_file()] == []
