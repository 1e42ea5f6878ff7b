"""What the tests of judge distillation share: a teacher with a planted rule, its judgements as a run keeps them, a tiny student."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from peregrm.models.base import Request
from peregrm.models.local_judge import JUDGE_FILE, Taught
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case, Criteria, Evidence, Memory, Persona, Reply, Trait
from peregrm.reward.base import Scored
from peregrm.reward.peregrm import PereGRM
from peregrm.store import write_records
from peregrm.training.distillation.lessons import ASPECTS, prompts_of

__all__ = ["LEVELS", "TAUGHT", "WORDS", "case_of", "judge_folder", "planted", "reply_of", "scored_folder", "student"]

LEVELS = ("dull", "grey", "fair", "warm", "bright")
"""The words of a reply that the teacher scores 1 to 5."""

WORDS = [
    *LEVELS,
    *map(str, range(1, 6)),
    *(
        "resonation",
        "expression",
        "reception",
        "content",
        "structure",
        "efficiency",
        "objectivity",
        "accuracy",
        "reply",
    ),
    *(f"s{n}" for n in range(1, 7)),
    *('{"', '":', '",', '"', ",", "}", "}}", "},", "<", ">", "</"),
]


SHORT = "{% for message in messages %}{{ message['content'][-90:] }} {% endfor %}"
"""A chat template that shows the end of each message, where the reply is: a student of a few thousand weights reads no thousand tokens."""


def student(folder: Path, *, context: int = 512, seed: int = 0) -> Path:
    """Write a tiny student with random weights and return its folder."""
    spec = spec_from_file_location("tiny_policies", Path(__file__).parent / "training" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.tiny_policy(folder, WORDS, context=context, seed=seed)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for place in (folder / "chat_template.jinja", folder / "chat_template.json"):
        place.unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": SHORT}))
    return folder


def case_of(user: str, query: str = "is it me?", **fields: Any) -> Case:
    memory = Memory(
        user_id=user,
        label="Preferences/Interaction_Preferences",
        type="direct",
        value=f"{user} likes few words",
        evidence=(Evidence(session_id="s1", turn=0, quote="few words"),),
        method="test",
    )
    persona = Persona(
        user_id=user,
        history_id="his-0",
        profile="Somebody.",
        traits=(Trait(text="Likes few words.", memory_ids=(memory.id,)),),
        is_deep=True,
        gate_reason="known",
        method="test",
    )
    return Case.model_validate(
        {
            "user_id": user,
            "language": "en",
            "category": "emotional_support",
            "persona": persona,
            "memories": (memory,),
            "relevant_memory_ids": (memory.id,),
            "situation": "A bad day.",
            "query": query,
            "flags": (),
            **fields,
        }
    )


def reply_of(case: Case, level: int, policy: str = "mine") -> Reply:
    return Reply(case_id=case.id, policy=policy, text=" ".join([LEVELS[level - 1]] * 8))


def planted(request: Request) -> str:
    """Score resonation and points by the reply's word, expression half as much, reception always 3; one score in five is one off."""
    found = re.findall("|".join(LEVELS), request.messages[1].content)
    level = LEVELS.index(found[-1]) + 1
    if request.purpose == "bystander":
        return json.dumps(dict.fromkeys(request.json_schema["properties"], (level - 1) * 5))  # type: ignore[index]
    scores = {"resonation": level, "expression": (level + 3) // 2, "reception": 3}
    fields: dict[str, Any] = request.json_schema["properties"]  # type: ignore[index]
    chance = random.Random(request.messages[1].content)

    def off(score: int) -> int:
        return min(5, max(1, score + chance.choice([-1, 1]))) if chance.random() < 0.2 else score

    return json.dumps(
        {name: {key: off(scores.get(name, 3)) for key in part["properties"]} for name, part in fields.items()}
    )


def scored_folder(
    folder: Path,
    *,
    users: int = 12,
    replies: int = 5,
    play: Callable[[Request], Any] = planted,
    cases: list[Case] | None = None,
    **settings: Any,
) -> list[Scored]:
    """Have a scripted teacher judge replies of every level and keep it as a run does."""
    cases = cases or [case_of(f"user-{n}") for n in range(users)]
    grm = PereGRM(ScriptedModel(play, name="teacher"), **{"reasons": False, "criteria": "composed", **settings})

    async def score() -> list[tuple[Case, list[Scored], Criteria | None]]:
        return [
            (
                case,
                await grm.score(case, [reply_of(case, n % 5 + 1, f"policy-{n}") for n in range(replies)]),
                grm.known_criteria(case),
            )
            for case in cases
        ]

    done = asyncio.run(score())
    scored = [one for _, group, _ in done for one in group]
    write_records(folder / "cases.jsonl", cases)
    write_records(folder / "replies.jsonl", (one.reply for one in scored))
    write_records(folder / "criteria.jsonl", (criteria for _, _, criteria in done if criteria is not None))
    write_records(folder / "judgements.jsonl", (judgement for one in scored for judgement in one.judgements))
    write_records(folder / "rewards.jsonl", (one.reward for one in scored))
    return scored


TAUGHT = Taught(
    teacher="teacher",
    base="tiny",
    dimensions=("resonation", "expression", "reception"),
    bystander=True,
    prompts=prompts_of(ASPECTS),
)


def judge_folder(folder: Path, taught: Taught = TAUGHT, *, context: int = 512) -> Path:
    """Write a distilled judge that was never taught anything."""
    student(folder, context=context)
    (folder / JUDGE_FILE).write_text(taught.model_dump_json())
    return folder
