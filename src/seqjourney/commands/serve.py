"""`serve`: a trained network → an HTTP service of live scores, in one process or several."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqjourney.cli import say, shown
from seqjourney.config import parse, served_config
from seqjourney.errors import ConfigError
from seqjourney.events.ledger import require_current
from seqjourney.files import read_json

_WORKER = "seqjourney.serving.service.app:from_environment"
_SILENT_SECONDS = 20  # until a worker is replaced; on a busy machine it starts slowly
_LOOPBACK = ("127.", "::1", "localhost")


def serve(options: Mapping[str, Any]) -> None:
    """Serve until interrupted.

    Args:
        options: the keys of `configs/serve.yaml`.

    Raises:
        ConfigError: a key is wrong, the extra is not installed, or the port is taken.
        DataError: there is no such run, or it should have been retrained by now.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import redis  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            f"the service needs {error.name}, which is not installed. Run: "
            "pip install -c constraints.txt -e '.[serve]'"
        ) from None
    from seqjourney.serving.service.settings import TOKEN_VARIABLE, WORKER_VARIABLE, ServeConfig

    token = options.get("token")
    if token is None and TOKEN_VARIABLE in os.environ:
        token = os.environ[TOKEN_VARIABLE].strip()
        if not token:
            raise ConfigError(f"{TOKEN_VARIABLE} is empty; give it a value, or unset it.")
    words = {**options, "token": None if token is None else str(token)}
    config = parse(ServeConfig, words, "configuration")
    # Here alone: a worker that starts again later must come back, to erase who asks for it.
    if config.overdue == "refuse":
        require_current(config.folder)
    app: Any = _WORKER
    if config.workers == 1:
        from seqjourney.serving.service.app import create_app

        app = create_app(config)
        app.state.card = model_card_of(config.run)
    else:
        from seqjourney.serving.stream import Stream

        Stream(config.run, overdue=config.overdue)  # one message, not one of every worker
    listening = _listen(config.host, config.port)
    port = listening.getsockname()[1]
    say(
        f"Serving {shown(config.run)} on http://{config.host}:{port}, {_described(config)}",
        f"Requests are described at http://{config.host}:{port}/docs; Ctrl-C stops it.",
    )
    if config.token is None and not config.host.startswith(_LOOPBACK):
        say(f"Whoever reaches {config.host} may use it: set {TOKEN_VARIABLE} to ask for a token.")
    settings = uvicorn.Config(
        app,
        factory=app == _WORKER,
        workers=config.workers,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_worker_healthcheck=_SILENT_SECONDS,
    )
    if config.workers == 1:
        uvicorn.Server(settings).run(sockets=[listening])
        return
    from uvicorn.supervisors import Multiprocess

    with tempfile.TemporaryDirectory(prefix="seqjourney-metrics-") as counts:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
        config = config.model_copy(update={"card": model_card_of(config.run)})
        os.environ[WORKER_VARIABLE] = config.model_dump_json()
        Multiprocess(settings, sockets=[listening]).run()


def model_card_of(run: Path) -> str:
    """Return the model card of a run or an exported file."""
    from seqjourney.commands.export import metrics_of_test
    from seqjourney.sequences.tokenizer import Tokenizer
    from seqjourney.serving.backends import open_program
    from seqjourney.serving.export import model_card

    if run.is_file():
        return open_program(run)[1]["model_card.md"]
    about, task = read_json(run / "run.json"), read_json(run / "task.json")
    config = served_config(about["config"], str(run / "run.json"))
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    return model_card(config, about, about, task, metrics_of_test(run, config), tokenizer)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. Choose another "
            "host=... or port=..."
        ) from None


def _described(config: Any) -> str:
    if config.in_memory:
        return f"customers in memory, {config.most_in_memory:,} at most"
    return f"customers in Redis, {config.workers} worker{'s' * (config.workers > 1)}"
