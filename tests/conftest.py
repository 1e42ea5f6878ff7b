"""What all tests share: no network, no keys, deterministic property tests, and one small case.

Tests may talk to servers they started themselves on this machine, and to nothing else. Only the model seam is faked
(`peregrm.models.scripted`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import socket_allow_hosts

from browser import look_at
from peregrm.records import Case, Evidence, Memory, Persona, Trait

settings.register_profile(
    "peregrm",
    deadline=None,  # no test depends on how fast the machine is
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("peregrm")

OWN_HOSTS = ["127.0.0.1", "localhost", "::1"]


def pytest_configure() -> None:
    """Take every API key out of the environment before any test, fixture or child process can see one, and let Ctrl-C be heard.

    A shell that starts a job in the background has it ignore Ctrl-C, and so would every command that a test starts and interrupts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.upper().endswith("_API_KEY")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def _own_machine_only() -> None:
    """Refuse connections to other machines; the plugin lifts this after each test."""
    socket_allow_hosts(OWN_HOSTS, allow_unix_socket=True)


@pytest.fixture
def in_browser(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Look at a page in a real headless browser; skips where there is none."""
    return lambda text: look_at(text, tmp_path)


@pytest.fixture(scope="session")
def make_memory() -> Callable[..., Memory]:
    """Build a memory from what matters to the test."""

    def make(value: str = "has a brother called Tom", **fields: object) -> Memory:
        usual = {
            "user_id": "ada",
            "label": "Social_Relationships/Family",
            "type": "direct",
            "evidence": (Evidence(session_id="s1", turn=0, quote="my brother Tom"),),
            "method": "test",
        }
        return Memory.model_validate({**usual, "value": value, **fields})

    return make


@pytest.fixture(scope="session")
def case(make_memory: Callable[..., Memory]) -> Case:
    """One case of the user `ada` with two kept memories."""
    tom = make_memory()
    blunt = make_memory("prefers blunt answers", label="Preferences/Interaction_Preferences", evidence=())
    persona = Persona(
        user_id="ada",
        history_id="his-0",
        profile="A nurse who hides worry behind jokes.",
        traits=(Trait(text="Wants to be told straight.", memory_ids=(blunt.id,)),),
        is_deep=True,
        gate_reason="family and manner are known",
        method="test",
    )
    return Case(
        user_id="ada",
        language="en",
        category="emotional_support",
        persona=persona,
        memories=(tom, blunt),
        relevant_memory_ids=(tom.id,),
        situation="Tom has cancelled their dinner again.",
        query="he's done it again. am I daft to be cross?",
    )
