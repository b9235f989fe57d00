"""The comparison's page is for this machine alone, and says what is missing before anything is served."""

import re
import socket
import urllib.error
import urllib.request

import nbformat
import pytest

from lib.study import serve
from lib.study.config import StudyError
from tests.study import live


def test_nothing_to_compare_is_said_in_one_line(empty, tmp_path, capsys):
    runs = ["--runs-dir", str(empty.root.parent)]
    assert serve.main(["--name", "nowhere", *runs]) == 2
    assert "no study there; found: empty" in capsys.readouterr().err
    with pytest.raises(StudyError, match="notebooks 04 to 09"):
        serve.serve(empty)


@pytest.mark.parametrize("option", ["--host=0.0.0.0", "--ip=0.0.0.0", "--Voila.ip=0.0.0.0"])
def test_no_other_address_can_be_asked_for(option, capsys):
    with pytest.raises(SystemExit):
        serve.main([option])
    assert "unrecognized arguments" in capsys.readouterr().err


def test_a_taken_port_gives_way_to_a_free_one():
    wanted = live.free_port()
    assert serve.free_port(wanted) == wanted
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", wanted))
        taken.listen()
        other = serve.free_port(wanted)
    assert other != wanted
    assert other > 0


def test_the_page_is_a_notebook_for_this_study(trained, tmp_path):
    path = serve.write_page(trained, tmp_path)
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code"]
    compile(notebook.cells[1].source, "cell", "exec")
    assert repr(trained.name) in notebook.cells[1].source
    assert repr(str(trained.root.parent)) in notebook.cells[1].source


def test_a_configuration_file_of_voila_does_not_open_it_to_others(trained, tmp_path):
    """Served on 127.0.0.1 whatever it says; and under another name, as a page from elsewhere could give it, refused."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "voila.json").write_text('{"Voila": {"ip": "0.0.0.0", "open_browser": true}}')
    port = live.free_port()
    program = f"{live.introduce(trained.profile)}; import sys; from lib.study.serve import main; sys.exit(main())"
    options = ["--no-browser", f"--name={trained.name}", f"--runs-dir={trained.root.parent}", f"--port={port}"]
    variables = live.environment(tmp_path, trained.profile) | {"TMPDIR": str(tmp_path)}
    with live.served(["-c", program, *options], port, tmp_path, variables) as address:
        with socket.socket() as probe:  # another name of this machine, which 0.0.0.0 would answer to
            assert probe.connect_ex(("127.0.0.2", port)) != 0
        request = urllib.request.Request(address + "/", headers={"Host": f"rebound.example:{port}"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=30)
        kernel = re.search(r'"kernelId": "([-0-9a-f]+)"', urllib.request.urlopen(address, timeout=60).read().decode())[
            1
        ]
        closing = f"{address}/voila/api/shutdown/{kernel}"  # as the page tells it when it is closed
        foreign = urllib.request.Request(closing, b"_xsrf=", headers={"Origin": "http://elsewhere.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=30)
        own = urllib.request.Request(closing, b"_xsrf=", headers={"Origin": address})
        assert urllib.request.urlopen(own, timeout=30).status == 204
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/api/kernels/{kernel}", timeout=30)
        assert "encryption" not in (tmp_path / "server.log").read_text()
        assert f"http://127.0.0.1:{port}/" in (tmp_path / "server.log").read_text()
        assert len(list(tmp_path.glob("compare_*"))) == 1
    assert not list(tmp_path.glob("compare_*")), "the page's folder goes with the server"
