from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.dataset.output.chain import Chain, find_chain, list_users, read_chains
from peregrm.dataset.output.page import USERS_IN_FULL, page
from peregrm.dataset.output.show import chain_text, users_text
from peregrm.errors import InputError
from peregrm.records import History, Memory, Session, Turn
from peregrm.store import Workspace, write_records

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Reads a page and keeps its elements; raises where one is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1] != tag and self.open[-1] in {"p", "li"}:
            self.open.pop()
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def harmless(text: str) -> Page:
    found = Page(text)
    assert not {tag for tag, _ in found.tags} & {"script", "img", "iframe", "object", "embed", "form", "svg", "base"}
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("href", "#")).startswith("data:," if tag == "link" else "#")
        assert "src" not in attributes
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"])[1:] for tag, a in found.tags if tag == "a"}
    assert targets <= set(ids)
    return found


def test_page_holds_the_chain_and_hostile_texts_are_inert(build: Any) -> None:
    chains = read_chains(build.workspace, {build.cases[0].id: ("abuse",)})
    found = harmless(page(chains, "a <b> & title", with_list=True))
    words = "".join(found.texts)
    assert "<script>document.title" in words
    assert "a <b> & title" in words
    assert "flagged: abuse" in words
    for memory in build.memories:
        assert memory.value in words
        assert memory.id in words
    for case in build.cases:
        assert case.query in words
        assert case.situation in words
    assert [tag for tag, _ in found.tags].count("mark") >= 5
    assert "49" not in re.findall(r"onerror.{0,60}", words)[0]


def test_page_asks_nothing_of_anybody(build: Any) -> None:
    text = page(read_chains(build.workspace), "t", with_list=False)
    head = text[: text.index("</head>")]
    assert "default-src 'none'" in head
    assert "url(" not in head
    assert "@import" not in head
    assert "prefers-color-scheme: dark" in head
    assert "@media print" in head


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_inert_and_stands_on_the_page(value: str, said: str) -> None:
    quote = said[3:20]
    memory = Memory.model_validate(
        {"user_id": value, "label": said, "type": "direct", "value": value, "method": "x",
         "evidence": [{"session_id": said, "turn": 0, "quote": quote}]}
    )  # fmt: skip
    history = History(
        user_id=value, language="en", sessions=(Session(session_id=said, turns=(Turn(role="user", text=said),)),)
    )
    chain = Chain(user_id=value, history=history, memories=(memory,))
    harmless(page([chain], value, with_list=True))
    text = chain_text(chain, all_turns=True)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_long_lists_hold_no_chains() -> None:
    chains = [Chain(user_id=f"u{n}") for n in range(USERS_IN_FULL + 1)]
    text = page(chains, "t", with_list=True)
    assert "<details" not in text
    assert f"u{USERS_IN_FULL}" in text
    assert len(users_text(list_users(chains)).splitlines()) == USERS_IN_FULL + 2


def test_chain_is_narrowed_to_one_record(build: Any) -> None:
    chains = read_chains(build.workspace)
    case = build.cases[1]
    chain = find_chain(chains, case.id)
    assert [moment.case for moment in chain.moments] == [case]
    assert {memory.id for memory in chain.memories} == set(case.relevant_memory_ids)
    assert chain.persona is not None
    assert chain.persona.id == case.persona.id
    rejected = next(memory for memory in build.memories if memory.status == "rejected")
    alone = find_chain(chains, rejected.id[4:])
    assert (alone.memories, alone.moments) == ((rejected,), ())
    assert len(find_chain(chains, case.persona.id).moments) == 4
    whole = chain_text(find_chain(chains, "user-1"))
    assert "2 more turns" not in whole
    assert "REJECTED: a question: no" in whole
    assert "inspection" in whole
    assert "not kept" in whole


@pytest.mark.parametrize("prefix", ["", "user-", "nobody", "mem-"])
def test_prefixes_that_name_nothing_or_too_much(build: Any, prefix: str) -> None:
    with pytest.raises(InputError):
        find_chain(read_chains(build.workspace), prefix)


def test_a_whole_user_id_wins_over_a_longer_one(tmp_path: Path, make_build: Callable) -> None:
    chains = read_chains(make_build(tmp_path / "b", users=11).workspace)
    assert find_chain(chains, "user-1").user_id == "user-1"


def test_cases_alone_have_a_chain(build: Any, tmp_path: Path) -> None:
    write_records(tmp_path / "cases.jsonl", build.cases)
    chains = read_chains(Workspace(tmp_path))
    assert [chain.user_id for chain in chains] == [f"user-{n}" for n in range(5)]
    assert "turns: none on file" in chain_text(chains[0])
    harmless(page(chains, "t", with_list=True))


@pytest.mark.slow
def test_in_a_real_browser_nothing_runs_and_nothing_scrolls_sideways(build: Any, in_browser: Any) -> None:
    long = build.cases[0].model_copy(update={"query": "x" * 4000, "origin": "gold", "query_id": None})
    build.workspace.write("cases.jsonl", [*build.cases, long])
    text = page(read_chains(build.workspace), "the title", with_list=True)
    found = in_browser(text)
    assert found["title"] == "the title"
    assert found["details"] > 5
