"""Run the app: bind, say where, and on SIGTERM or SIGINT finish what is under way before leaving."""

import os
import socket
import sys
import time
from collections.abc import Mapping
from types import FrameType

import uvicorn

from unmask.errors import ConfigError
from unmask.model import LanguageModel
from unmask.serve.app import build
from unmask.serve.service import Service
from unmask.serve.settings import Settings


class Draining(uvicorn.Server):
    """A server that goes on answering while it drains: new requests are refused with 503, not with a closed port."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service, self._until = service, float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second leaves at once."""
        if self._service.closing:
            self.should_exit = self.force_exit = True
            return
        self._service.closing = True
        self._until = time.monotonic() + self._service.settings.timeout
        os.write(2, b"finishing what is under way; once more to stop at once\n")  # print is not for signal handlers

    async def on_tick(self, counter: int) -> bool:
        """Whether to leave."""
        if self._service.closing and (not self._service.busy or time.monotonic() > self._until):
            self.should_exit = True
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. ConfigError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise ConfigError(f"{host}:{port} cannot be listened on: {error.strerror}", "give another --port") from None


def serve(models: Mapping[str, LanguageModel], settings: Settings, *, access_log: bool = False) -> None:
    """Serve the models until a signal. ConfigError where the address cannot be had."""
    listening = bind(settings.host, settings.port)
    app = build(models, settings)
    config = uvicorn.Config(
        app, log_level="info" if access_log else "warning", access_log=access_log, server_header=False, lifespan="on",
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {', '.join(models)} at http://{shown}:{port}", file=sys.stderr, flush=True)
    Draining(config, app.state.service).run(sockets=[listening])
