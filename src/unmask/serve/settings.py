"""What the server allows, and to whom."""

import dataclasses
import ipaddress
from pathlib import Path

from unmask.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `unmask serve` is told.

    slots: rows of a model that are moved at once; queue: rows that may wait beside them. timeout: seconds of a request.
    max_n: samples of a request, all its prompts together. max_steps: denoising steps of a request. max_length: tokens
    of a sample, given ones included, also where the model could write more. body: bytes of a request. votes: the file
    that keeps votes, None for none. api_key: what clients have to know, None for nothing.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    votes: Path | None = None
    slots: int = 16
    queue: int = 64
    timeout: float = 120.0
    max_n: int = 16
    max_steps: int = 1024
    max_length: int = 2048
    body: int = 1 << 20

    def __post_init__(self) -> None:
        for name in ("slots", "max_n", "max_steps", "max_length", "body"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", "it is at least 1")
        if self.queue < 0 or not self.timeout > 0 or not 0 <= self.port < 65536:
            raise ConfigError(
                f"queue {self.queue}, timeout {self.timeout}, port {self.port}",
                "queue is at least 0, timeout above 0, port from 0 to 65535",
            )
        if self.max_n > self.slots + self.queue:
            raise ConfigError(
                f"max_n {self.max_n} with room for {self.slots + self.queue} samples (slots and queue)",
                "such a request would never be taken: raise the queue, or lower max_n",
            )
        if self.api_key is not None and not self.api_key.strip():
            raise ConfigError("an empty API key", "give one that cannot be guessed, or none")
        if self.api_key is None and not is_loopback(self.host):
            raise ConfigError(
                f"host {self.host} without an API key: whoever reaches this machine could use it",
                "set UNMASK_API_KEY (or --api-key), or serve on 127.0.0.1",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
