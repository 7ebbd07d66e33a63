from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from marginalia.annotation.server import server_process
from marginalia.annotation.server.server_control import accounts, add_annotators, down, exposure_warning, status, up
from marginalia.annotation.server.server_home import CREDENTIALS, DATABASE
from marginalia.annotation.server.server_process import is_served, server_python, url_of
from marginalia.schemas.errors import InputError, ServiceError
from tests.annotation.server.rest import LABELS, connect, create_dataset, respond
from tests.argilla_fixture import free_port


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home for this module, whose server its tests start, stop and kill. Its name has characters that break a URL."""
    folder = tmp_path_factory.mktemp("control") / "a home?50%&ü"
    yield folder
    down(folder)


def kill(home: Path) -> None:
    server = status(home)
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    while is_served(home):
        time.sleep(0.01)


def test_up_starts_a_server_that_up_again_returns(home: Path) -> None:
    port = free_port()
    server = up(home, port=port)
    assert (server.url, server.version) == (f"http://127.0.0.1:{port}", "2.8.0")
    assert up(home) == server
    assert status(home) == server


def test_down_stops_it_and_down_again_is_fine(home: Path) -> None:
    server = up(home, port=free_port())
    assert down(home) is True
    assert status(home) is None
    assert down(home) is False
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_every_confirmed_answer_survives_kill_9(home: Path) -> None:
    server = up(home, port=free_port())
    annotator = add_annotators(home, ["ann"], "team")[0]
    confirmed: list[str] = []
    with connect(server.url, accounts(home)[0]) as owner, connect(server.url, annotator) as ann:
        dataset = create_dataset(owner, "team", [f"text {number}" for number in range(400)])
        killer = threading.Timer(0.7, kill, [home])
        killer.start()
        with pytest.raises(httpx.TransportError):
            for record in dataset.records:
                confirmed.append(respond(ann, record, [LABELS[1]])["record_id"])
        killer.join()
    assert status(home) is None
    server = up(home, port=free_port())
    with connect(server.url, accounts(home)[0]) as owner:
        page = {"include": "responses", "limit": 400}
        records = owner.get(f"/datasets/{dataset.id}/records", params=page).json()["items"]
    kept = {record["id"] for record in records for response in record["responses"] if response["values"]}
    assert 0 < len(confirmed) < 400
    assert kept >= set(confirmed)


def test_a_server_file_whose_process_id_belongs_to_another_process_is_replaced(home: Path) -> None:
    """The other process is alive, so that only the lock shows the difference."""
    up(home, port=free_port())
    kill(home)
    stale = json.loads((home / "server.json").read_bytes())
    (home / "server.json").write_text(json.dumps({**stale, "pid": os.getpid()}))
    (home / "serving.lock").write_text(str(os.getpid()))
    assert status(home) is None
    assert down(home) is False
    (home / "server.json").write_text(json.dumps({**stale, "pid": os.getpid()}))
    server = up(home, port=free_port())
    assert server.pid != os.getpid()
    assert json.loads((home / "server.json").read_bytes())["pid"] == server.pid


def test_a_server_that_does_not_react_is_killed(home: Path) -> None:
    server = up(home, port=free_port())
    os.kill(server.pid, signal.SIGSTOP)
    assert down(home, grace=0.3) is True
    assert not is_served(home)


def test_two_processes_that_start_at_once_get_the_same_server(home: Path) -> None:
    code = (
        "import sys, pathlib; from marginalia.annotation.server import server_control;"
        "print(server_control.up(pathlib.Path(sys.argv[1])))"
    )
    down(home)
    starting = [subprocess.Popen([sys.executable, "-c", code, home], stdout=subprocess.PIPE) for _ in range(2)]
    first, second = (process.communicate(timeout=60)[0] for process in starting)
    assert first == second != b""


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            up(tmp_path / "home", port=port)
    assert not is_served(tmp_path / "home")


def test_a_host_that_is_not_this_machines_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1"):
        up(tmp_path / "home", host="192.0.2.1")


def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path) -> None:
    """It fails because the given Python is that of an environment without the server."""
    with pytest.raises(ServiceError, match=r"(?s)ended while it was starting.*No module named"):
        up(tmp_path / "home", port=free_port(), python=Path(sys.executable))
    assert status(tmp_path / "home") is None


def test_a_database_without_credentials_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"")
    with pytest.raises(InputError, match=r"credentials\.json: missing"):
        up(tmp_path)
    assert not (tmp_path / CREDENTIALS).exists()


def test_a_folder_with_other_files_does_not_become_a_home(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    tmp_path.chmod(0o755)
    with pytest.raises(InputError, match="not an Argilla home"):
        up(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_home_that_cannot_be_created_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Not a directory"):
        up(tmp_path / "file" / "home")


def test_a_missing_server_environment_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARGINALIA_ARGILLA_PYTHON", str(tmp_path / "python"))
    with pytest.raises(ServiceError) as caught:
        up(tmp_path / "home")
    assert str(caught.value) == (
        f"the environment of the Argilla server is not installed: no Python at {tmp_path / 'python'} (make argilla-env)"
    )


def test_an_installed_package_looks_for_the_server_environment_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MARGINALIA_ARGILLA_PYTHON", raising=False)
    monkeypatch.delenv("MARGINALIA_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(server_process, "CHECKOUT", None)
    folder = tmp_path / ".cache/marginalia/argilla-env"
    with pytest.raises(ServiceError) as caught:
        server_python(None)
    assert str(caught.value) == (
        f"the environment of the Argilla server is not installed: no Python at {folder}/bin/python "
        f"({sys.executable} -m venv {folder} && {folder}/bin/pip install --requirement {server_process.REQUIREMENTS})"
    )
    assert "argilla-server==" in server_process.REQUIREMENTS.read_text()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    assert server_python(None) == folder / "bin/python"
    monkeypatch.setenv("MARGINALIA_CACHE", str(tmp_path / "elsewhere"))
    assert server_process.environment_folder() == tmp_path / "elsewhere/argilla-env"


def test_a_checkout_has_the_server_environment_in_its_own_folder() -> None:
    assert server_process.environment_folder() == Path(__file__).parents[3] / ".venv-argilla"


def test_a_copy_of_the_package_without_the_repository_is_not_a_checkout(tmp_path: Path) -> None:
    """As pip installs it: the folders, and no pyproject.toml."""
    root = Path(__file__).parents[3]
    for name in ("annotation", "schemas"):
        shutil.copytree(root / name, tmp_path / "marginalia" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "marginalia/__init__.py", tmp_path / "marginalia/__init__.py")
    code = "from marginalia.annotation.server import server_process as p; print(p.CHECKOUT, p.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert printed.stdout == f"None {tmp_path}/marginalia/annotation/server/server_process.py\n", printed.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_host_is_no_exposure(host: str) -> None:
    assert exposure_warning(host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "annotation.example.com"])
def test_any_other_host_has_a_warning(host: str) -> None:
    assert f"listen on {host}" in str(exposure_warning(host))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fe80::1", "http://[fe80::1]:80"),
        ("192.168.1.5", "http://192.168.1.5:80"),
    ],
)
def test_url_of_a_host(host: str, url: str) -> None:
    assert url_of(host, 80) == url
