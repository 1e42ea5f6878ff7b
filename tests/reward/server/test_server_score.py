"""POST /score over a real server: every reply its own score, failures as null, one set of criteria for all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from peregrm.errors import ModelAuthError, SettingsError
from peregrm.records import Case
from peregrm.replies import reply_from_output
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.server.limits import ServerLimits


async def test_scores_come_in_the_order_of_groups_and_replies(
    served: Any, reward: Any, case: Case, other_case: Case
) -> None:
    body = {
        "groups": [
            {"case": other_case.model_dump(mode="json"), "replies": ["worth 0.1", "<think>hm</think>worth 0.2"]},
            {"case_id": case.id, "replies": ["worth -0.3"]},
        ]
    }
    async with served(reward) as client:
        status, answer, _ = await client.post("/score", body)
    assert status == 200
    assert [group["case_id"] for group in answer["groups"]] == [other_case.id, case.id]
    assert [[one["total"] for one in group["scores"]] for group in answer["groups"]] == [[0.1, 0.2], [-0.3]]
    first = answer["groups"][0]["scores"][0]
    assert first == {
        "reply_id": reply_from_output(other_case, "worth 0.1").id,
        "method": "played",
        "flagged": False,
        "total": 0.1,
        "empathy": 0.1,
        "dimensions": {"resonation": 0.1, "expression": 0.1, "reception": 0.1},
        "bystander": None,
        "coverage": 1.0,
        "penalty": 0.0,
        "measured": {"tokens": 2.0},
        "failure": None,
    }


async def test_what_cannot_be_scored_is_null_with_its_reason_and_status_200(
    served: Any, reward: Any, case: Case
) -> None:
    async with served(reward) as client:
        status, answer, _ = await client.score(case, "nothing", "worth 0.5", "<think>never ended")
    assert status == 200
    lost, fine, unfinished = answer["groups"][0]["scores"]
    assert (lost["total"], lost["coverage"], lost["failure"]["kind"]) == (None, 0.0, "timeout+protocol")
    assert lost["failure"]["reason"] == "no worth in 'nothing'"
    assert (fine["total"], fine["failure"]) == (0.5, None)
    assert (unfinished["total"], unfinished["failure"]["kind"]) == (None, "unclosed_thinking")


async def test_a_case_that_nobody_looked_at_is_looked_at(served: Any, slow_judge: Any, case: Case) -> None:
    looked: list[str] = []

    def look(case: Case) -> Case:
        looked.append(case.id)
        return case.model_copy(update={"flags": ("self_harm",)})

    async with served(PereGRM(slow_judge), look=look) as client:
        for known, flagged in ((case, True), (case, True), (case.model_copy(update={"flags": ()}), False)):
            status, answer, _ = await client.score(known, "worth 3")
            score = answer["groups"][0]["scores"][0]
            assert (status, score["flagged"], score["method"] == "safe_guidance") == (200, flagged, flagged)
    assert looked == [case.id]


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"replies": ["x"]}, "groups.0: give either a case or a case_id"),
    ({"case": {"user_id": "ada"}, "replies": ["x"]}, "groups.0.case.language"),
    ({"case_id": "CASE"}, "groups.0.replies"),
    ({"case_id": "CASE", "replies": []}, "groups.0.replies"),
    ({"case_id": "CASE", "replies": ["x", 3]}, "groups.0.replies.1"),
    ({"case_id": "CASE", "replies": "x"}, "groups.0.replies"),
    ({"case_id": "CASE", "replies": [None]}, "groups.0.replies.0"),
    ({"case_id": "CASE", "replies": ["x"], "reward": 5}, "groups.0.reward"),
    ({"case_id": "CASE", "replies": ["fine", "\ud800 secret"]}, "group 0: reply 1 holds half of a surrogate pair"),
    ({"case_id": "CASE", "replies": ["secret words"] * 5}, "group 0 has 5 replies; this server takes at most 4"),
]


async def test_a_malformed_request_is_422_and_names_what_without_repeating_it(
    served: Any, reward: Any, case: Case
) -> None:
    async with served(reward, limits=ServerLimits(replies=4)) as client:
        for group, named in MALFORMED:
            own = group | ({"case_id": case.id} if "case_id" in group else {})
            status, answer, _ = await client.post("/score", {"groups": [own]})
            assert (status, named in answer["error"]["reason"]) == (422, True), answer
            assert answer["error"]["kind"] in {"malformed", "too_many_replies"}
            assert "secret" not in answer["error"]["reason"]
    assert reward.groups == []


NO_REQUEST = [
    "",
    "{",
    "[" * 100_000,
    '{"groups": [',
    "null",
    "3",
    '{"groups": []}',
    '{"groups": NaN}',
    "\x00",
    "9" * 9999,
]


async def test_what_is_no_request_is_a_client_error(served: Any, reward: Any) -> None:
    async with served(reward) as client:
        for text in NO_REQUEST:
            headers = {"Content-Type": "application/json"}
            async with client.http.post(client.url + "/score", data=text, headers=headers) as response:
                said = json.loads(await response.text())
            assert (response.status in {400, 422}, said["error"]["kind"]) == (True, "malformed"), text[:20]
            assert "Traceback" not in said["error"]["reason"]


async def test_an_unknown_case_is_404_and_nothing_is_scored(served: Any, reward: Any, case: Case) -> None:
    groups = [{"case_id": case.id, "replies": ["worth 1"]}, {"case_id": "case-0", "replies": ["worth 1"]}]
    async with served(reward) as client:
        status, answer, _ = await client.post("/score", {"groups": groups})
    assert (status, answer["error"]["kind"]) == (404, "unknown_case")
    assert answer["error"]["reason"].startswith("groups.1.case_id")
    assert reward.groups == []


async def test_unknown_routes_and_methods_have_the_same_shape_of_error(served: Any, reward: Any) -> None:
    async with served(reward) as client:
        assert (await client.post("/nothing", {}))[:2] == (
            404,
            {"error": {"kind": "unknown_route", "reason": "Not Found"}},
        )
        assert (await client.get("/score"))[0] == 405


async def test_two_hundred_requests_at_once_and_no_score_goes_astray(
    served: Any, reward: Any, case: Case, other_case: Case
) -> None:
    async def ask(client: Any, number: int) -> None:
        own = [number + k / 8 for k in range(number % 3 + 1)]
        chosen = case if number % 2 else other_case
        status, answer, _ = await client.score(chosen, *[f"worth {value}" for value in own])
        assert status == 200
        assert answer["groups"][0]["case_id"] == chosen.id
        assert [one["total"] for one in answer["groups"][0]["scores"]] == own

    async with served(reward, limits=ServerLimits(running=7, waiting=1000)) as client:
        await asyncio.gather(*(ask(client, number) for number in range(200)))
        assert not client.service.busy


async def test_groups_of_one_case_from_twenty_workers_share_one_criteria_call(
    served: Any, slow_judge: Any, case: Case
) -> None:
    async def ask(client: Any, worth: int) -> float:
        _, answer, _ = await client.score(case, f"worth {worth}")
        return float(answer["groups"][0]["scores"][0]["total"])

    async with served(PereGRM(slow_judge)) as client:
        totals = await asyncio.gather(*(ask(client, 1 + number % 5) for number in range(20)))
    assert [request.purpose for request in slow_judge.requests].count("criteria") == 1
    for number, total in enumerate(totals):
        worth = (1 + number % 5) / 5
        assert total == pytest.approx(worth + 0.5 * (worth - 1))


async def test_a_client_that_leaves_takes_only_its_own_group_with_it(
    served: Any, slow_judge: Any, case: Case, until: Callable[..., Any]
) -> None:
    async with served(PereGRM(slow_judge)) as client:
        leaver = asyncio.create_task(client.score(case, "worth 1"))
        await until(lambda: len(slow_judge.requests) == 1)
        stayer = asyncio.create_task(client.score(case, "worth 5"))
        await until(lambda: client.service.gate.running == 2)
        leaver.cancel()
        status, answer, _ = await stayer
        assert (status, answer["groups"][0]["scores"][0]["total"]) == (200, pytest.approx(1.0))
        await until(lambda: not client.service.busy)
    purposes = [request.purpose for request in slow_judge.requests]
    assert purposes.count("criteria") == 1
    assert purposes.count("judge") == 1


async def test_a_client_that_leaves_frees_its_place(
    served: Any, reward: Any, case: Case, until: Callable[..., Any]
) -> None:
    reward.door.clear()
    async with served(reward, limits=ServerLimits(running=1, waiting=1)) as client:
        first = asyncio.create_task(client.score(case, "worth 1"))
        await until(lambda: client.service.gate.running == 1)
        second = asyncio.create_task(client.score(case, "worth 2"))
        await until(lambda: client.service.gate.waiting == 1)
        second.cancel()
        await until(lambda: client.service.gate.waiting == 0)
        first.cancel()
        await until(lambda: not client.service.busy)
        reward.door.set()
        assert (await client.score(case, "worth 3"))[0] == 200
    assert reward.cancelled == 1


async def test_a_full_server_sends_away_with_retry_after(
    served: Any, reward: Any, case: Case, until: Callable[..., Any]
) -> None:
    reward.door.clear()
    async with served(reward, limits=ServerLimits(running=2, waiting=1)) as client:
        taken = [asyncio.create_task(client.score(case, f"worth {n}")) for n in range(3)]
        await until(lambda: (client.service.gate.running, client.service.gate.waiting) == (2, 1))
        status, answer, headers = await client.score(case, "worth 9")
        assert (status, answer["error"]["kind"]) == (503, "busy")
        assert 1 <= int(headers["Retry-After"]) <= 60
        reward.door.set()
        assert [(await one)[0] for one in taken] == [200] * 3
        groups = [{"case_id": case.id, "replies": ["worth 1"]}] * 4
        status, answer, headers = await client.post("/score", {"groups": groups})
        assert (status, answer["error"]["kind"], "Retry-After" in headers) == (422, "too_many_groups", False)
        assert (await client.post("/score", {"groups": groups[:3]}))[0] == 200


async def test_a_request_past_its_deadline_has_no_number(
    served: Any, reward: Any, case: Case, until: Callable[..., Any]
) -> None:
    reward.door.clear()
    async with served(reward, limits=ServerLimits(running=1, deadline_s=0.1)) as client:
        answers = await asyncio.gather(client.score(case, "worth 1"), client.score(case, "worth 2"))
        assert [status for status, _, _ in answers] == [504, 504]
        assert answers[0][1] == {"error": {"kind": "deadline", "reason": "not scored within 0.1 s"}}
        await until(lambda: not client.service.busy)


ERRORS = [
    (ModelAuthError("judge at http://j: key refused"), 502, "auth", "auth"),
    (SettingsError("/home/me/peregrm.toml: no judge"), 500, "misconfigured", "no judge"),
    (ValueError("the reply was: secret words"), 500, "internal", "ValueError at"),
]


async def test_an_error_is_told_without_its_trace(
    served: Any, reward: Any, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="peregrm"):
        async with served(reward) as client:
            for error, status, kind, logged in ERRORS:
                reward.error = error
                got, answer, _ = await client.score(case, "secret words", "more")
                assert (got, answer["error"]["kind"]) == (status, kind)
                assert "secret" not in json.dumps(answer)
                assert "/home/me" not in json.dumps(answer)
                assert logged in caplog.text
            reward.error = None
            assert (await client.score(case, "worth 1"))[0] == 200
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_logs_hold_nothing_of_replies_cases_keys_or_paths(
    served: Any, reward: Any, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        async with served(reward, key="sesame-sesame") as client:
            headers = {"Authorization": "Bearer sesame-sesame"}
            await client.score(case, "worth 0.5 tell nobody", headers=headers)
            await client.score(case, "worth 0.5", headers={"Authorization": "Bearer wrong-wrong"})
            await client.post("/private-path?q=private-query", {}, headers=headers)
            reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]))
            writer.write(b"private nonsense\r\n\r\n")
            assert b"400" in await reader.read()
            writer.close()
            await writer.wait_closed()
    assert "/score 200" in caplog.text
    for private in ("nobody", case.query, case.id, "sesame", "wrong-wrong", "private"):
        assert private not in "\n".join(
            r.getMessage() for r in caplog.records if r.name.startswith(("peregrm", "uvicorn"))
        )
