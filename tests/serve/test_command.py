"""`unmask serve` says what is wrong before it serves."""

import socket
import sys
from unittest import mock

import torch
from tests.cli.call import call

from unmask.nn.compiled import is_compiled
from unmask.nn.quantized import is_quantized
from unmask.serve import server


def test_a_public_address_wants_a_key(monkeypatch):
    monkeypatch.delenv("UNMASK_API_KEY", raising=False)
    done = call("serve", "--host", "0.0.0.0")
    assert done.code == 2 and "without an API key" in done.err and "UNMASK_API_KEY" in done.err


def test_models_that_cannot_be_told_apart_are_refused(small_models):
    done = call("serve", small_models / "sedd", small_models / "sedd")
    assert done.code == 2 and "two models are called sedd" in done.err


def test_an_address_in_use_is_said(small_models):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = call("serve", small_models / "sedd", "--port", taken.getsockname()[1])
    assert done.code == 2 and "cannot be listened on" in done.err and "--port" in done.err


def test_models_are_served_in_the_numbers_that_are_asked_for(small_models, monkeypatch):
    seen = []
    monkeypatch.setattr(server, "serve", lambda models, settings, access_log: seen.append(models))
    assert call("serve", small_models / "ar", "--quantize", "int8", "--compile", "--dtype", "bfloat16").code == 0
    net = seen[0]["ar"].net
    assert is_quantized(net) and is_compiled(net) and net.vocab_embed.embedding.dtype == torch.bfloat16
    assert call("serve", small_models / "ar").code == 0 and not is_quantized(seen[1]["ar"].net)


def test_without_the_extra_it_says_what_to_install():
    gone = {name: None for name in sys.modules if name.startswith("unmask.serve")} | {"uvicorn": None}
    with mock.patch.dict(sys.modules, gone | {"unmask.serve.server": None}):
        done = call("serve")
    assert done.code == 2 and "unmask[serve]" in done.err
