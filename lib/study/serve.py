"""`python -m lib.study.serve --name NAME`: the checkpoint comparison of a study as a page of its own, by Voilà.

The page is for this machine alone: it is served on 127.0.0.1, answers to no other name, and fetches nothing from
elsewhere. It is made from a notebook of two cells that lives as long as the server.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from tornado.web import HTTPError
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler

from lib.study.config import STAGES, StudyError
from lib.study.driver import has_weights
from lib.study.runs import RUNS, Study, find_study

HOST = "127.0.0.1"
PORT = 8866  # Voilà's own
# Voilà's page takes a font of icons from elsewhere, which nothing here uses: every line that links there is left out.
_TEMPLATE = """{% extends 'voila/templates/lab/index.html.j2' %}
{% block notebook_css %}{% for line in super().splitlines() if not ('<link' in line and 'https://' in line) %}{{ line }}
{% endfor %}{% endblock %}
"""


class Kernel(ServerKernelManager):
    """A page's kernel, which does not greet every start with a warning about TCP."""

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return super().format_kernel_cmd([*(extra_arguments or []), "--log-level=40"])


class Closed(VoilaShutdownKernelHandler):
    """Ends the kernel of a page that is closed.

    The page says so with the token of a cookie that Voilà never sets, so its own handler refuses. Here it is enough
    that no other origin asks; and the kernel's name, which is asked for, is known to its page alone.
    """

    def check_xsrf_cookie(self) -> None:
        if not self.check_origin():
            raise HTTPError(403, "another origin")


class Server(Voila):
    """Voilà for one notebook on this machine, with a page that needs no network."""

    name = "voila"  # where Voilà looks itself up

    def setup_template_dirs(self) -> None:
        super().setup_template_dirs()
        self.template_paths = [self.root_dir, *self.template_paths]

    def init_settings(self) -> dict:
        # Otherwise a page from elsewhere could make its own name point to this machine and talk to the kernel.
        return super().init_settings() | {"allow_remote_access": False, "local_hostnames": ["localhost"]}

    def init_handlers(self) -> list:
        return [(r"/voila/api/shutdown/(.*)", Closed), *super().init_handlers()]


def write_page(study: Study, folder: Path) -> Path:
    """Write the page's notebook and its template into a folder; gives the notebook."""
    runs = study.root.parent
    title = f"# Checkpoints of {study.name}\n\nMove the sliders; a pick is kept in `{study.root / 'selection.json'}`."
    code = f"from lib.study.widgets import compare\n\ncompare({study.name!r}, runs_dir={str(runs)!r})"
    cells = [nbformat.v4.new_markdown_cell(title), nbformat.v4.new_code_cell(code)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    notebook.metadata["title"] = f"Checkpoints of {study.name}"
    nbformat.write(notebook, folder / "compare.ipynb")
    (folder / "index.html.j2").write_text(_TEMPLATE)
    return folder / "compare.ipynb"


def free_port(wanted: int) -> int:
    """The wanted port of this machine, or another where that is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server: one just left counts as free
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise StudyError(f"no free port on {HOST}")


def serve(study: Study, port: int = PORT, browser: bool = True) -> None:
    """Serve the comparison of a study until it is interrupted.

    Raises StudyError where the study has no checkpoint to compare.
    """
    if not any(has_weights(study, stage) for stage in STAGES):
        raise StudyError(f"{study.root}: no checkpoint to compare; run the stages (notebooks 04 to 09) first")
    port = free_port(port)
    print(f"the checkpoints of {study.name}: http://{HOST}:{port}/ (Ctrl-C ends it)", flush=True)
    with tempfile.TemporaryDirectory(prefix="compare_") as folder:
        options = {
            "Voila.ip": HOST,  # whatever a configuration file of Voilà says
            "Voila.port": port,
            "Voila.port_retries": 0,
            "Voila.root_dir": folder,
            "Voila.open_browser": browser,
            "Voila.log_level": "ERROR",
            "MultiKernelManager.kernel_manager_class": "lib.study.serve.Kernel",
            # A browser that died told nothing: its kernel ends when no page has been there for that many seconds.
            "MappingKernelManager.cull_idle_timeout": 600,
            "MappingKernelManager.cull_interval": 60,
            "VoilaConfiguration.show_tracebacks": True,
            "VoilaConfiguration.allow_template_override": "NO",
        }
        arguments = [str(write_page(study, Path(folder))), *(f"--{key}={value}" for key, value in options.items())]
        Server.launch_instance(arguments)


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0 when it was interrupted, 2 with one line where nothing can be served."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.serve", description=__doc__)
    parser.add_argument("--name", default="smoke", help="the study (default: smoke)")
    parser.add_argument("--runs-dir", default=RUNS, help="folder of all studies (default: runs/ of the repository)")
    parser.add_argument("--port", type=int, default=PORT, help=f"wanted port; a free one if taken (default: {PORT})")
    parser.add_argument("--no-browser", action="store_true", help="only say the address")
    args = parser.parse_args(argv)
    try:
        serve(find_study(args.name, args.runs_dir), args.port, not args.no_browser)
    except (StudyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
