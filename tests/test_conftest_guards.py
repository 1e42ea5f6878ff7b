"""The guards of the test suite itself: a test that could reach out or spend money must not be possible."""

from __future__ import annotations

import os
import socket

import pytest
from pytest_socket import SocketConnectBlockedError


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_other_machines_cannot_be_reached() -> None:
    with pytest.raises(SocketConnectBlockedError), socket.socket() as client:
        client.connect(("192.0.2.1", 80))


def test_this_machine_can_be_reached() -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        assert client.getpeername() == server.getsockname()


def test_no_api_key_is_left_in_the_environment() -> None:
    assert not [name for name in os.environ if name.endswith("_API_KEY")]
