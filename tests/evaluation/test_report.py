"""The report shows everything the figures rest on, and whatever users or models wrote is shown as text, never interpreted."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from peregrm.errors import ArtifactError
from peregrm.evaluation.console import print_cases, print_summary
from peregrm.evaluation.report import case_views, format_estimate, format_value, judge_note, markdown
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.summary import Artifacts
from peregrm.records import Criteria, Drop, Failure
from summary_parts import summary_of

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</blockquote></td><h1>mine</h1>",
    "| a | b |\n|---|---|\n| c | d |",
    "# A heading\n\n- a list\n1. another",
    "```\ncode\n```\nafter",
    "~~~\nafter",
    "    indented code",
    "*bold* __bold__ `code` ~~gone~~",
    "[a link](javascript:alert(1)) ![image](http://127.0.0.1/x.png) <http://127.0.0.1/>",
    "title\n===\nother\n---",
    "&lt;b&gt; &amp; AT&T &copy;",
    "line one\r\nline two\u2028line three\x0cpage",
    "{{ summary.model }} {% for x in y %}",
    "back\\slash \\| \\*",
    "> quoted\n>> twice",
    "[ref]: http://127.0.0.1/\n\n[ref]",
]


class Page(HTMLParser):
    """The text and the tags of a rendered report."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.rows: list[int] = []
        self.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append(0)
        elif tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def words(text: str) -> str:
    return " ".join(text.split())


def test_everything_a_figure_rests_on_is_there(make_artifacts: Callable, a_case: Callable) -> None:
    rows = [
        (a_case("ada", 1), {"personalized": 0.8, "generic": 0.4}),
        (a_case("bea", 1, origin="generated"), {"personalized": None, "generic": 0.25}),
    ]
    artifacts = make_artifacts(rows)
    text = markdown(summary_of(artifacts), artifacts)
    page = Page(text).words
    for case in artifacts.cases:
        assert words(case.situation) in page
        assert words(case.query) in page
        assert case.id in page
    for criteria in artifacts.criteria:
        for _, items in criteria.items:
            for item in items:
                assert f"{item.text} ({item.weight} %)" in page
    for reply in artifacts.replies:
        assert words(reply.text) in page
    for judgement in artifacts.judgements:
        for name, reason in judgement.analysis:
            assert f"{name}: {words(reason)}" in page
    for reward in artifacts.rewards:
        assert f"{reward.policy} · total {format_value(reward.total)}" in page
    assert "Unscored: 2 of 2 judgements failed" in page
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_tables_name_n_users_and_coverage(make_artifacts: Callable, a_case: Callable) -> None:
    rows = [
        (a_case(user, n), {"personalized": 0.5 + n / 10, "generic": None}) for user in ("ada", "bea") for n in (1, 2)
    ]
    artifacts = make_artifacts(rows)
    text = markdown(summary_of(artifacts, known_order=["personalized", "generic"]), artifacts)
    assert (
        "| rank | policy | resonation | expression | reception | empathy | bystander | total | n | users | coverage |"
        in text
    )
    row = next(line for line in text.splitlines() if line.startswith("| 1 | personalized |"))
    assert row.endswith("| 4 | 2 | 1.00 |")
    row = next(line for line in text.splitlines() if line.startswith("| 2 | generic |"))
    assert row == "| 2 | generic | — | — | — | — | — | — | 0 | 0 | 0.00 |"
    assert "| personalized over generic | — | 0 | 0 | 0.00 |" in text


def test_report_depends_on_its_input_alone(make_artifacts: Callable, a_case: Callable) -> None:
    artifacts = make_artifacts([(a_case("ada", 1), {"generic": 0.5})])
    assert markdown(summary_of(artifacts), artifacts) == markdown(summary_of(artifacts), artifacts)


def test_failures_and_drops_are_listed(make_artifacts: Callable, a_case: Callable) -> None:
    case = a_case("ada", 1)
    failed = Failure(stage="criteria", kind="timeout", reason="no answer within 120 s")
    artifacts = make_artifacts([(case, {"generic": None})]).model_copy(
        update={
            "criteria": (Criteria(case_id=case.id, method="model", failure=failed),),
            "drops": (Drop(stage="queries", subject="sit-1", kind="length", reason="length: 2 tokens | too few"),),
        }
    )
    text = markdown(summary_of(artifacts), artifacts)
    page = Page(text)
    assert "No criteria: no answer within 120 s" in page.words
    assert "length: 2 tokens | too few" in page.words
    assert "criteria timeout 1 no answer within 120 s" in words(" ".join(page.text))


def plain_page(make_artifacts: Callable, a_case: Callable) -> Page:
    artifacts = hostile_artifacts(make_artifacts, a_case, "plain words")
    return Page(markdown(summary_of(artifacts, known_order=["plain words", "generic"]), artifacts))


def hostile_artifacts(make_artifacts: Callable, a_case: Callable, text: str) -> Artifacts:
    case = a_case(text.splitlines()[0][:40] or "ada", 1, situation=text, query=text)
    failure = Failure(stage="criteria", kind="timeout", reason=text)
    lost = a_case("bea", 1)
    rows: list[Any] = [(case, {text: 0.5, "generic": 0.4}), (lost, {text: None, "generic": None})]
    braces = text.replace("{", "{{").replace("}", "}}")
    artifacts = make_artifacts(rows, reply=braces, criterion=text, words=text)
    criteria = (artifacts.criteria[0], Criteria(case_id=lost.id, method="model", failure=failure))
    drop = Drop(stage="queries", subject="sit-1", kind="length", reason=text, text=text)
    return artifacts.model_copy(update={"criteria": criteria, "drops": (drop,)})


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_users_and_models_wrote_is_shown_as_text(text: str, make_artifacts: Callable, a_case: Callable) -> None:
    """Rendered, a report with markup in every field has the structure of the same report with plain words."""
    artifacts = hostile_artifacts(make_artifacts, a_case, text)
    source = markdown(summary_of(artifacts, known_order=[text, "generic"], model=text, judge=text), artifacts)
    page, plain = Page(source), plain_page(make_artifacts, a_case)
    assert set(page.tags) <= {*plain.tags, "br"}
    assert page.rows == plain.rows
    assert page.tags.count("blockquote") == plain.tags.count("blockquote")
    assert page.tags.count("h1") + page.tags.count("h2") + page.tags.count("h3") == sum(
        plain.tags.count(head) for head in ("h1", "h2", "h3")
    )
    assert page.tags.count("li") == plain.tags.count("li")
    assert page.words.count(words(text)) >= 8, "situation, query, replies, criteria, reasons and the failure"


@settings(max_examples=40)
@given(
    text=st.text(st.sampled_from("ab <>|`*_#-+=~[]()!&\\\n\t:1.\"'{}%é小"), min_size=1, max_size=40).filter(str.strip)
)
def test_any_text_is_shown_as_text(text: str, make_artifacts: Callable, a_case: Callable) -> None:
    artifacts = hostile_artifacts(make_artifacts, a_case, text)
    page = Page(markdown(summary_of(artifacts), artifacts))
    assert set(page.tags) <= {*plain_page(make_artifacts, a_case).tags, "br"}
    assert words(text) in page.words


def test_case_views_put_the_best_first_and_the_unscored_last(make_artifacts: Callable, a_case: Callable) -> None:
    artifacts = make_artifacts([(a_case("ada", 1), {"a": None, "b": 0.1, "c": 0.9, "d": 0.1, "e": 0.0})])
    (view,) = case_views(artifacts)
    assert [shown.reply.policy for shown in view.replies] == ["c", "b", "d", "e", "a"]
    assert [name for name, _ in view.replies[0].analysis] == ["resonation", "expression", "reception", "bystander"]
    assert view.replies[-1].analysis == ()


def test_case_without_criteria_record_is_an_error_that_names_it(make_artifacts: Callable, a_case: Callable) -> None:
    whole = make_artifacts([(a_case("ada", 1), {"generic": 0.5})])
    with pytest.raises(ArtifactError, match=whole.cases[0].id):
        case_views(whole.model_copy(update={"criteria": ()}))


def test_no_cases_still_make_a_report() -> None:
    artifacts = Artifacts(cases=(), criteria=(), replies=(), judgements=(), rewards=())
    text = markdown(summary_of(artifacts), artifacts)
    assert "0 users" in text
    assert "Case by case" in text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("width", [80, 200])
def test_terminal_shows_text_as_it_is(text: str, width: int, make_artifacts: Callable, a_case: Callable) -> None:
    marked = f"[red]{text}[/b]"
    artifacts = hostile_artifacts(make_artifacts, a_case, marked)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_cases(console, case_views(artifacts))
    print_summary(console, summary_of(artifacts, model=marked, judge=marked))
    shown = re.sub(r"\s+", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert re.sub(r"\s+", "", marked) in shown


def test_formats() -> None:
    estimate = Estimate(mean=0.5, low=0.25, high=0.75, n=4, users=2, asked=5)
    assert format_estimate(estimate) == "0.500 [0.250, 0.750]"
    assert format_estimate(estimate, signed=True) == "+0.500 [+0.250, +0.750]"
    assert "no interval" in format_estimate(estimate.model_copy(update={"low": None, "high": None}))
    assert format_estimate(Estimate(mean=None, low=None, high=None, n=0, users=0, asked=3)) == "—"
    assert format_value(None) == "—"
    assert format_value(0.12345, 2) == "0.12"


@pytest.mark.parametrize(
    ("judge", "says"),
    [("embedded:smollm2", "no meaning"), ("gguf:x", "not been validated"), ("big@url", "not been validated")],
)
def test_judge_note_never_praises(judge: str, says: str) -> None:
    assert says in judge_note(judge)
