"""`peregrm train reward`: a scalar reward model, trained with the Bradley-Terry loss on pairs by TRL's RewardTrainer.

The model is shown exactly what the reward `scalar` shows it, in the same token ids, so `--reward scalar --judge scalar:DIR/model` takes it
as it is; an adapter becomes part of the weights at the end. A pair with a text longer than the model takes is left out and counted, never
cut. What the model gets right is measured on users it has not seen, beside the rule that the longer reply wins. Left out on purpose:
margins by the size of a gap, and terms that hold the numbers near zero: only their order counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from peregrm.errors import InputError
from peregrm.models.special_tokens import special_tokens
from peregrm.prompts import prompt_hash
from peregrm.reward.heads.head import Dataset
from peregrm.reward.rivals.scalar import PROMPT, shown_ids
from peregrm.store import held_alone, read_one, replace_text
from peregrm.training.offline.classifier import Classifier, classifier_of, logits_of, whole_model
from peregrm.training.offline.preferences import Preference, divided
from peregrm.training.offline.reward_card import RewardCard, RewardPlan, card_text, measured
from peregrm.training.offline.running import (
    Fit,
    FitSettings,
    Fitted,
    Tell,
    dataset_of,
    finished,
    fit,
    state_gib,
    steps_of,
    trainer_arguments,
)
from peregrm.training.pairs import Material
from peregrm.training.policies import Lora, Policy, fingerprint, parameter_counts, save_folder, training_library

__all__ = ["CARD", "REWARD_RATE", "TOO_LONG", "encoded", "plan_reward", "train_reward_model"]

REWARD_RATE = 1e-5
"""The learning rate of full training where none is asked for."""

CARD = "card.json"

TOO_LONG = "pairs with a text longer than the model takes"

_Rows = list[tuple[Preference, list[int], list[int]]]


def encoded(pairs: Sequence[Preference], classifier: Classifier, left_out: Callable[[str], None]) -> _Rows:
    """Return pairs with the token ids of better and worse; one that is too long is told to `left_out` and not there."""
    special = special_tokens(classifier.tokenizer)
    rows: _Rows = []
    for one in pairs:
        better, worse = (shown_ids(classifier.tokenizer, one.case, text, special) for text in (one.better, one.worse))
        if max(len(better), len(worse)) > classifier.context:
            left_out(TOO_LONG)
        else:
            rows.append((one, better, worse))
    return rows


def train_reward_model(
    policy: Policy, material: Material, lora: Lora | None, settings: FitSettings, out: Path, licence: str, tell: Tell
) -> RewardCard:
    """Train a reward model on the weights of `policy`, from where a run in `out` stopped; write it to `out/model` and its card beside it.

    `licence` is that of the training data. Raises `InputError` where too little is left to train on or to measure by,
    `ArtifactError` where another command is at work in `out`, and what `finished` and `fit` raise.
    """
    with held_alone(out):
        return _trained(policy, material, lora, settings, out, licence, tell)


def _trained(
    policy: Policy, material: Material, lora: Lora | None, settings: FitSettings, out: Path, licence: str, tell: Tell
) -> RewardCard:
    classifier, train, held_out = _prepared(policy, material, lora, settings)
    adapter = None if lora is None else lora.model_dump(mode="json")
    asked = {"method": "reward", "base": policy.name, "weights": fingerprint(policy.name), "adapter": adapter}
    if finished(out, asked, settings, [row[1:] for row in train]) is not None:
        return read_one(out / CARD, RewardCard)
    tell(f"{len(train)} pairs of {_users(train)} users; {len(held_out)} pairs of {_users(held_out)} users are held out")

    def save(fitted: Fitted) -> None:
        merged = whole_model(classifier.model)
        whole = classifier._replace(model=merged.to(merged.dtype))  # measured as it will be loaded
        card = RewardCard(
            base=policy.name,
            adapter=lora,
            prompt=f"{PROMPT}@{prompt_hash(PROMPT)}",
            datasets=_datasets(material, [row[0] for row in (*train, *held_out)], licence),
            pairs=len(train),
            users=_users(train),
            held_out_pairs=len(held_out),
            held_out_users=_users(held_out),
            settings=settings,
            fitted=fitted,
            measured=measured(_scored(whole, held_out)),
            left_out=dict(sorted(material.left_out.items())),
        )
        save_folder(out / "model", lambda folder: _write(whole, card, folder))
        replace_text(out / CARD, card.model_dump_json(indent=1) + "\n")

    trl = training_library("trl")
    rate = settings.rate(REWARD_RATE, adapter=lora is not None)
    arguments = {
        "model": classifier.model,
        "args": trl.RewardConfig(**trainer_arguments(settings, out, rate, classifier.model)),
        "processing_class": classifier.tokenizer,
        "train_dataset": dataset_of([{"chosen_ids": better, "rejected_ids": worse} for _, better, worse in train]),
    }
    fit(Fit(trl.RewardTrainer, arguments, save), out, tell)
    return read_one(out / CARD, RewardCard)


def plan_reward(policy: Policy, material: Material, lora: Lora | None, settings: FitSettings) -> RewardPlan:
    """Return what a training would do; raises what `train_reward_model` raises before its first step."""
    classifier, train, held_out = _prepared(policy, material, lora, settings)
    lengths = [len(ids) for _, *both in train for ids in both]
    parameters, trained = parameter_counts(classifier.model)
    return RewardPlan(
        pairs=len(train),
        users=_users(train),
        held_out_pairs=len(held_out),
        held_out_users=_users(held_out),
        steps=steps_of(len(train), settings),
        trained_tokens=round(sum(lengths) * settings.epochs),
        longest=max(lengths),
        parameters=parameters,
        trained_parameters=trained,
        memory_gib=state_gib(classifier.model),
        left_out=dict(sorted(material.left_out.items())),
    )


def _prepared(
    policy: Policy, material: Material, lora: Lora | None, settings: FitSettings
) -> tuple[Classifier, _Rows, _Rows]:
    parts = divided(material)
    classifier = classifier_of(policy, lora, settings.seed)
    train, held_out = (encoded(some, classifier, material.leave_out) for some in parts)
    if not train or not held_out:
        raise InputError(
            f"{policy.name} takes {classifier.context} tokens, and too few pairs fit it to train on some and measure on others"
        )
    return classifier, train, held_out


def _users(rows: _Rows) -> int:
    return len({pair.case.user_id for pair, *_ in rows})


def _datasets(material: Material, used: Sequence[Preference], licence: str) -> tuple[Dataset, ...]:
    found = []
    for place, source in enumerate(material.sources):
        own = [one for one in used if one.source == place]
        users = len({one.case.user_id for one in own})
        found.append(Dataset(name=source.name, sha256=source.sha256, licence=licence, pairs=len(own), users=users))
    return tuple(found)


def _scored(classifier: Classifier, rows: _Rows) -> list[tuple[Preference, float, float]]:
    better = logits_of(classifier, [row[1] for row in rows])
    worse = logits_of(classifier, [row[2] for row in rows])
    return [(row[0], high, low) for row, high, low in zip(rows, better, worse, strict=True)]


def _write(classifier: Classifier, card: RewardCard, folder: Path) -> None:
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card_text(card), encoding="utf-8")
