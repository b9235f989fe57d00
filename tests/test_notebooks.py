"""Every notebook's source keeps the contract: stripped, one cell of plain parameters, its headings, its links, and
names that exist. (That they run is what `python -m lib.study` shows.)"""

import ast
import importlib
import json
import re
import subprocess

import nbformat
import pytest

from lib.study.driver import list_notebooks
from lib.study.links import links
from lib.study.runs import REPOSITORY

NOTEBOOKS = list_notebooks()
PARAMETERS = {"name": "smoke", "profile": "smoke", "data": "faceworld", "seed": 0, "runs_dir": ""}
TRAINING = {"device": "auto", "epochs": 0, "batch_size": 0}
HEADINGS = ("# {number} · ", "**The question.**", "**Run time.**", "**Reads**", "**Writes**",
            "What you should see", "Takeaways")  # fmt: skip

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind=None):
    every = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in every if kind in (None, cell["cell_type"])]


def text(cell):
    return "".join(cell["source"])


def code(path):
    """The notebook's Python as one tree; a cell that does not parse names itself."""
    bodies = []
    for k, cell in enumerate(cells(path, "code")):
        source = "\n".join(line for line in text(cell).splitlines() if not line.lstrip().startswith(("%", "!")))
        try:
            bodies += ast.parse(source).body
        except SyntaxError as error:
            pytest.fail(f"{path.name}, code cell {k}: {error}")
    return ast.Module(bodies, [])


def test_sources_are_stripped(path):
    for k, cell in enumerate(cells(path, "code")):
        assert not cell["outputs"], f"cell {k} has outputs: run `nbstripout {path}`"
        assert cell["execution_count"] is None, f"cell {k} was executed: run `nbstripout {path}`"


def test_cells_are_short_and_none_is_empty(path):
    lengths = [len(text(cell).splitlines()) for cell in cells(path, "code")]
    assert min(lengths) > 0
    assert sorted(lengths)[len(lengths) // 2] <= 8
    assert all(text(cell).strip() for cell in cells(path))


def test_exactly_one_cell_of_plain_parameters(path):
    tagged = [cell for cell in cells(path, "code") if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    body = ast.parse(text(tagged[0])).body
    assert all(isinstance(line, ast.Assign) and len(line.targets) == 1 for line in body)
    values = {line.targets[0].id: ast.literal_eval(line.value) for line in body}
    assert all(isinstance(value, str | int | float | bool) for value in values.values())
    assert list(values)[: len(PARAMETERS)] == list(PARAMETERS)
    assert {key: values[key] for key in PARAMETERS} == PARAMETERS
    if "04" <= path.stem[:2] <= "09":
        assert {key: values.get(key) for key in TRAINING} == TRAINING
    first = next(k for k, cell in enumerate(cells(path, "code")) if cell is tagged[0] or cell == tagged[0])
    assert first == 0, "parameters come before any other code, or an injected value would come too late"


def test_the_headings_are_there_in_order(path):
    prose, at = "\n".join(text(cell) for cell in cells(path, "markdown")), -1
    assert prose.startswith(f"# {path.stem[:2]} · ")
    for heading in HEADINGS:
        wanted = heading.format(number=path.stem[:2])
        found = prose.find(wanted, at + 1)
        assert found > at, f"{wanted!r} is missing or comes too early"
        at = found
    assert "§" in prose, "the paper's section is named"


def test_the_links_lead_to_the_notebooks_before_and_after(path):
    """As `make format` writes them (lib.study.links)."""
    assert text(cells(path)[-1]) == links(NOTEBOOKS, NOTEBOOKS.index(path))
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", "\n".join(text(cell) for cell in cells(path, "markdown"))):
        assert target.startswith(("https://", "http://")) or (path.parent / target).exists(), f"{target} leads nowhere"
        assert "/" not in target or "//" in target, f"{target}: from an executed copy it would lead elsewhere"


def test_what_it_takes_from_lib_exists(path):
    known = {}  # local name → module of lib
    for node in ast.walk(code(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "lib":
                    importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lib":
            module = importlib.import_module(node.module)
            for alias in node.names:
                found = getattr(module, alias.name, None) or _submodule(node.module, alias.name)
                assert found is not None, f"{node.module} has no {alias.name}"
                if getattr(found, "__file__", None):
                    known[alias.asname or alias.name] = found
    for node in ast.walk(code(path)):  # module.name, where the module came from lib
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            assert hasattr(known[node.value.id], node.attr), f"{node.value.id} has no {node.attr}"


def _submodule(package, name):
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError:
        return None


def test_it_uses_no_name_that_nothing_defines(path):
    import builtins

    tree = code(path)
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    stored |= {a.asname or a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)
               for a in n.names}  # fmt: skip
    stored |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    stored |= {n.name for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.name}
    stored |= {
        a.arg
        for n in ast.walk(tree)
        if isinstance(n, ast.arguments)
        for a in (*n.args, *n.kwonlyargs, *filter(None, [n.vararg, n.kwarg]))
    }
    loaded = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    assert loaded <= stored | set(dir(builtins)) | {"display", "get_ipython"}


def test_it_orchestrates_and_defines_no_class(path):
    tree = code(path)
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in ("chdir", "putenv")]


def test_it_is_in_the_readmes_table(path):
    readme = REPOSITORY / "README.md"
    listed = readme.read_text(encoding="utf-8") if readme.exists() else path.stem
    assert path.stem in listed


def test_git_strips_it_on_the_way_in(path):
    done = subprocess.run(
        ["git", "check-attr", "filter", "--", str(path)], cwd=REPOSITORY, capture_output=True, text=True
    )
    if done.returncode == 0:
        assert done.stdout.strip().endswith("filter: nbstripout")
    assert "*.ipynb filter=nbstripout" in (REPOSITORY / ".gitattributes").read_text()


def test_the_filter_changes_nothing_in_a_committed_notebook(path):
    """What git stores is what nbstripout gives: opening and saving a notebook leaves no difference."""
    from nbstripout import strip_output

    source = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(source, as_version=nbformat.NO_CONVERT)
    strip_output(notebook, keep_output=False, keep_count=False, keep_id=True)
    assert nbformat.writes(notebook).rstrip("\n") == source.rstrip("\n")
