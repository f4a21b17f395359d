"""`scripts/serve.py` opens what it was asked to, or says in one message what to mend."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from service_clients import TestClient, make_overdue

from seqjourney.commands.serve import serve
from seqjourney.errors import ConfigError, DataError

RunOf = Callable[[str], Path]


def test_one_worker_serves_the_run_with_its_card_and_the_token_of_the_environment(
    run_of: RunOf, compose: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    served: list[Any] = []

    def run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        served.append(server.config.app)
        port = sockets[0].getsockname()[1]
        sockets[0].close()
        assert (
            f"http://127.0.0.1:{port}, customers in memory, 100,000 at most"
            in capsys.readouterr().out
        )

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setenv("SEQJOURNEY_TOKEN", "s3cret")
    serve(compose("serve", f"run={run_of('gru')}", "port=0"))
    with TestClient(served[0]) as client:
        assert client.get("/model").status_code == 401
        card = client.get("/model", headers={"Authorization": "Bearer s3cret"}).json()["card"]
    assert card.startswith("# small / gru")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["workers=2"], "workers=2 would each know a part"),
        (["states=redis://localhost:6379/0", "workers=2", "run=nowhere"], "nowhere does not exist"),
        (["run=nowhere"], "nowhere does not exist"),
        (["host=256.0.0.1"], "cannot listen on 256.0.0.1"),
    ],
)
def test_what_cannot_be_served_is_one_message(
    words: list[str], message: str, run_of: RunOf, compose: Any
):
    with pytest.raises((ConfigError, DataError), match=message):
        serve(compose("serve", f"run={run_of('gru')}", *words))


@pytest.mark.parametrize("words", [[], ["workers=2", "states=redis://localhost:6379/0"]])
def test_a_model_that_should_have_been_retrained_is_not_started(
    words: list[str], run_of: RunOf, compose: Any, tmp_path: Path
):
    folder = shutil.copytree(run_of("gru"), tmp_path / "run")
    make_overdue(folder)
    with pytest.raises(DataError, match="had to be retrained by 2020-02-01"):
        serve(compose("serve", f"run={folder}", *words))


def test_a_port_that_is_taken_and_an_empty_token_are_refused(
    run_of: RunOf, compose: Any, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1, port {port}"):
            serve(compose("serve", f"run={run_of('gru')}", f"port={port}"))
    monkeypatch.setenv("SEQJOURNEY_TOKEN", " ")
    with pytest.raises(ConfigError, match="SEQJOURNEY_TOKEN is empty"):
        serve(compose("serve", f"run={run_of('gru')}"))
