"""What a stranger relies on: one place for pins, clean style, no large files, no paths of one machine."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, version

import pytest

from lib.study.runs import REPOSITORY

LARGEST = 16 * 2**20  # bytes
OURS = {"lib"}
PACKAGE_OF = {"dlib": ["dlib-bin"]}  # its metadata names only the inner module
BINARY = {".png", ".pdf", ".jpg", ".safetensors", ".parquet"}


def tracked():
    """The files that git keeps, or outside a checkout those that are no caches."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode == 0 and done.stdout:
        return [path for name in done.stdout.split("\0") if name and (path := REPOSITORY / name).is_file()]
    skipped = {".venv", ".git", "runs", "__pycache__", ".pytest_cache", ".ruff_cache"}
    return [p for p in REPOSITORY.rglob("*") if p.is_file() and not skipped & set(p.relative_to(REPOSITORY).parts)]


def pins():
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned_to_one_version():
    for line in pins():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+]*", line), (
            f"requirements.txt: {line!r} is not name==version"
        )


def test_environment_yml_reads_the_same_pins():
    text = (REPOSITORY / "environment.yml").read_text()
    assert "-r requirements.txt" in text
    assert re.search(r"^\s*- -e \.$", text, flags=re.M)
    assert not [line for line in text.splitlines() if "==" in line]


def test_every_import_of_lib_is_pinned():
    pinned = {plain(line.split("==")[0]) for line in pins()}
    owners = packages_distributions() | PACKAGE_OF
    for path in sorted((REPOSITORY / "lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for top in {name.split(".")[0] for name in names} - OURS - set(sys.stdlib_module_names):
                assert {plain(name) for name in owners.get(top, [top])} & pinned, f"{path}: {top} is not pinned"


def test_what_is_installed_is_what_is_pinned():
    wrong = {
        line: version(line.split("==")[0]) for line in pins() if version(line.split("==")[0]) != line.split("==")[1]
    }
    assert not wrong, "run `make env`"


@pytest.mark.parametrize("command", [("check", "."), ("format", "--check", ".")], ids=["check", "format"])
def test_ruff_is_clean(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_no_tracked_file_is_large():
    assert [path for path in tracked() if path.stat().st_size > LARGEST] == []


def test_no_tracked_file_names_a_path_of_one_machine():
    pattern = re.compile(rb"(?<![\w.])/(?:home|Users|root|work|mnt|tmp)/[A-Za-z0-9_]|[A-Z]:\\\\Users")
    for path in tracked():
        if (
            path.suffix in {".png", ".pdf", ".jpg", ".safetensors", ".parquet"}
            or path == REPOSITORY / "tests" / "test_repository.py"
        ):
            continue
        found = pattern.search(path.read_bytes())
        assert not found, f"{path.relative_to(REPOSITORY)}: {found.group()!r}"


def test_runs_and_environment_are_not_tracked():
    names = {path.relative_to(REPOSITORY).as_posix() for path in tracked()}
    assert {name for name in names if name.startswith("runs/")} <= {"runs/README.md"}
    assert not [name for name in names if name.startswith(".venv/") or "__pycache__" in name]


def test_make_alone_lists_the_targets():
    done = subprocess.run(["make", "--no-print-directory"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.M).group(1).split()
    for target in set(targets):
        assert re.search(rf"^\s+make {target} ", done.stdout, flags=re.M), f"`make` does not list {target}"


def test_lib_is_thin_and_arrows_point_one_way():
    order = ("data", "warp", "gan", "augment", "study")
    allowed = {room: set(order[: k + 1]) for k, room in enumerate(order)} | {"gan": {"gan", "data"}}
    for path in sorted((REPOSITORY / "lib").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, f"{path} is over 400 lines"
        room = path.relative_to(REPOSITORY / "lib").parts[0]
        used = set(re.findall(r"^\s*(?:from|import) lib\.(\w+)", text, flags=re.M))
        assert room not in allowed or used <= allowed[room], f"{path}: {room} may not import {used - allowed[room]}"


def test_every_relative_link_of_the_documents_leads_somewhere():
    for document in ("README.md", "CONTRIBUTING.md", "LOG.md", "lib/data/README.md", "lib/warp/README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / document).read_text(encoding="utf-8")):
            if "://" not in target:
                assert (REPOSITORY / document).parent.joinpath(target).exists(), (
                    f"{document} points at {target}, which is not there"
                )


def test_make_env_sets_the_notebook_filter_up():
    """`make env` leaves .venv/.ready; then git must strip notebooks, keep their cell ids, and work without .venv."""
    makefile = (REPOSITORY / "Makefile").read_text()
    assert "nbstripout --keep-id" in makefile
    if not (REPOSITORY / ".venv" / ".ready").exists():
        pytest.skip("the environment was not built by `make env`")

    def value(key):
        done = subprocess.run(["git", "config", key], cwd=REPOSITORY, capture_output=True, text=True)
        return done.stdout.strip()

    if not value("core.repositoryformatversion"):
        pytest.skip("not a git checkout")
    assert value("filter.nbstripout.clean").endswith("-m nbstripout --keep-id")
    assert value("filter.nbstripout.required") == "false"
