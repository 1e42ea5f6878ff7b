"""DPO on the best and the worst of several replies, and how they are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from offline_parts import BAD, GOOD, LORA, prompts, quiet, same_weights, stopping, tiny
from peregrm.records import Case, Failure, Reply
from peregrm.training.offline.choosing import Choice, Ranked, choose
from peregrm.training.offline.tokens import Encoder, Example
from peregrm.training.policies import Lora, Policy, load_policy, save_policy

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")

from peregrm.training.offline.dpo import DPOSettings, Preferred, train_dpo  # noqa: E402
from peregrm.training.offline.likelihood import log_likelihoods  # noqa: E402
from peregrm.training.offline.running import CHECKPOINTS, Fitted  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # peft asks transformers the old way

SETTINGS = DPOSettings(epochs=3, learning_rate=0.01, batch=4, at_once=2, save_every=2)


def pairs_of(policy: Policy, case: Case, worst: str = BAD) -> list[Preferred]:
    encoder = Encoder(policy.tokenizer, policy.context)
    made = [[encoder.example(row, text) for text in (GOOD, worst)] for row in prompts(case, 10)]
    return [Preferred(*both) for both in made if isinstance(both[0], Example)]  # type: ignore[arg-type]


def run(policy: Policy, out: Path, case: Case, tell: object = quiet, worst: str = BAD, **changes: object) -> Fitted:
    settings = SETTINGS.model_copy(
        update={**changes, "learning_rate": 0.05 if hasattr(policy.model, "peft_config") else 0.01}
    )
    return train_dpo(policy, pairs_of(policy, case, worst), settings, out, {"method": "dpo"}, tell)  # type: ignore[arg-type]


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_best_replies_become_likelier_than_the_worst(lora: Lora | None, case: Case, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    done = run(tiny(base, lora=lora), out, case)
    assert done.figures["margin_after"] > done.figures["margin_before"] + 1
    assert done.first_loss == pytest.approx(0.6931, abs=1e-3)  # the reference is the policy that training begins with
    assert done.last_loss < 0.66
    after = load_policy(str(out / "policy"), device="cpu")
    margins = []
    for policy in (tiny(base), after):
        pairs = pairs_of(policy, case)
        best, worst = (log_likelihoods(policy, [pair[n] for pair in pairs]) for n in (0, 1))
        margins.append([a - b for a, b in zip(best, worst, strict=True)])
    assert all(later > earlier + 0.5 for earlier, later in zip(*margins, strict=True))


def test_what_is_computed_before_the_first_step_shows_no_bar_of_examples(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from datasets import are_progress_bars_disabled

    before = are_progress_bars_disabled()
    run(tiny(tmp_path / "base"), tmp_path / "out", case, epochs=1)
    assert "Caching reference" not in capsys.readouterr().err
    assert are_progress_bars_disabled() == before


@pytest.mark.parametrize("lora", [pytest.param(None, marks=pytest.mark.slow), LORA])
def test_a_run_stopped_in_the_middle_ends_with_the_same_weights(lora: Lora | None, case: Case, tmp_path: Path) -> None:
    base = tmp_path / "base"
    run(tiny(base, lora=lora), tmp_path / "whole", case)
    with pytest.raises(KeyboardInterrupt):
        run(tiny(base, lora=lora), tmp_path / "parts", case, stopping(4))
    assert (tmp_path / "parts" / CHECKPOINTS / "checkpoint-4").exists()
    run(tiny(base, lora=lora), tmp_path / "parts", case)
    assert same_weights(tmp_path / "whole" / "policy", tmp_path / "parts" / "policy")


def test_an_adapter_that_goes_on_is_held_against_itself(case: Case, tmp_path: Path) -> None:
    """The reference of a second round is the adapter as it came, not the weights below it, and no copy of it is left in the folder."""
    base = tmp_path / "base"
    policy = tiny(base, lora=LORA)
    for name, weights in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.2)
    save_policy(policy, tmp_path / "first")
    done = run(load_policy(str(tmp_path / "first"), device="cpu"), tmp_path / "out", case)
    assert done.first_loss == pytest.approx(0.6931, abs=1e-3)
    assert not [path for path in (tmp_path / "out" / "policy").rglob("*") if "ref" in path.name]


def test_an_empty_reply_can_be_the_worst(case: Case, tmp_path: Path) -> None:
    done = run(tiny(tmp_path / "base"), tmp_path / "out", case, worst="")
    assert done.figures["margin_after"] > done.figures["margin_before"]


def reply(case_id: str, text: str, policy: str = "p", failure: bool = False) -> Reply:
    lost = Failure(stage="replies", kind="no_content", reason="nothing") if failure else None
    return Reply(case_id=case_id, policy=policy, text="" if failure else text, failure=lost)


def test_what_is_chosen_and_what_is_left_out() -> None:
    ranked = [
        Ranked(reply("a", "good"), 0.9),
        Ranked(reply("a", "", failure=True), 0.0),
        Ranked(reply("a", "lost"), None),
        Ranked(reply("a", "poor"), 0.2),
        Ranked(reply("b", "one", "1"), 0.5),
        Ranked(reply("b", "other", "2"), 0.5),
        Ranked(reply("c", "alone"), 0.1),
        Ranked(reply("d", "lost"), None),
        Ranked(reply("e", ""), 0.3),
        Ranked(reply("e", "worse than nothing"), 0.1),
        Ranked(reply("f", "said twice", "1"), 0.4),
        Ranked(reply("f", "said twice", "2"), 0.4),
        Ranked(reply("g", "fine"), 0.4),
        Ranked(reply("g", ""), 0.0),
    ]
    pairs = choose(ranked, pairs=True)
    assert {name: (one.best.reply.text, one.worst.reply.text) for name, one in pairs.choices.items()} == {
        "a": ("good", "poor"),
        "g": ("fine", ""),
    }
    assert pairs.told() == [
        "left out: 1 cases whose best reply is empty",
        "left out: 1 cases whose replies are all equally good",
        "left out: 2 cases with one reply alone",
        "left out: 1 cases without a reply that was scored",
        "left out: 1 replies that are failures",
        "left out: 2 replies without a score",
    ]
    assert list(choose(ranked, pairs=False).choices) == ["a", "c", "f", "g"]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.none() | st.floats(0, 1), st.booleans()), max_size=12))
@hypothesis_settings(max_examples=30)
def test_a_pair_is_never_made_of_what_has_no_score(rows: list[tuple[str, float | None, bool]]) -> None:
    ranked = [Ranked(reply(c, f"text {n}", failure=lost), total) for n, (c, total, lost) in enumerate(rows)]
    found = choose(ranked, pairs=True)
    for one in found.choices.values():
        assert isinstance(one, Choice)
        assert one.best.reply.failure is None
        assert one.worst.reply.failure is None
        assert one.best.total is not None
        assert one.worst.total is not None
        assert one.best.total > one.worst.total
    assert len(found.choices) <= len({case for case, *_ in rows})


def test_what_is_learned_does_not_hang_on_how_much_is_at_once(case: Case, tmp_path: Path) -> None:
    """Ten examples, six a step: of four in the last step, three at once leave one alone, which counts as one."""
    base = tmp_path / "base"
    for n in (3, 6):
        done = run(tiny(base), tmp_path / str(n), case, epochs=1, batch=6, at_once=n)
        assert done.steps == 2
    one, other = (load_policy(str(tmp_path / n / "policy"), device="cpu").model.state_dict() for n in ("3", "6"))
    before = tiny(base).model.state_dict()
    moved = max(float((one[name] - before[name]).abs().max()) for name in one)
    apart = max(float((one[name] - other[name]).abs().max()) for name in one)
    assert apart < 0.01 * moved
