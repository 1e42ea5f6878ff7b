"""The loss of judge distillation and the loop around it, by the Trainer of transformers.

Two terms for each lesson. The first is what is wanted: at every score, the squared difference between the teacher's score and the
student's, both as means over the digits 1 to 5, the mean taken over the scores of the answer, so that many criteria weigh as much as few.
The student's mean is over its probabilities of the five digits among each other, as the judge reads it later. Alone that term
says nothing about the shape around the mean (half a 1 and half a 5 would do for a 3) and nothing about how likely digits are at all, and
where nearly all mass lies on one wrong digit its gradient vanishes. So there is a second, with a small weight (`FORM_WEIGHT`):
cross-entropy over the whole vocabulary at each score, where the target is the two digits around the teacher's score in the proportion that
has it as their mean. Both terms have their minimum at the same place, so the second moves no score.

There is no cross-entropy on the tokens around the scores: the form is given and never generated, so it would teach nothing that is used.
The places of the scores stay empty, also of those before (see `peregrm.models.local_digits`). Shown the teacher's digits there, a student
fits the lessons well and copies; on its own digits it then fails. Left out on purpose: the teacher's words (a small model's reasons would
be decoration), and a choice of the best epoch, for which users would have to be set apart.

torch and transformers are imported inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.models.local_digits import DigitModel, padded
from peregrm.models.local_judge import JUDGE_FILE, Taught
from peregrm.store import replace_text
from peregrm.training.distillation.lessons import Lesson
from peregrm.training.offline.running import Fit, FitSettings, Fitted, finished, fit, has_adapter, trainer_arguments
from peregrm.training.policies import Policy, save_folder, training_library

__all__ = [
    "FORM_WEIGHT",
    "JUDGE_RATE",
    "LOOKED_AT",
    "Example",
    "digit_model",
    "examples_of",
    "lesson_loss",
    "save_judge",
    "teach",
]

FORM_WEIGHT = 0.1
"""What the cross-entropy at the scores counts beside their squared difference."""

JUDGE_RATE = 2e-5
"""The learning rate of full training where none is asked for; ten times that for an adapter."""


LOOKED_AT = 32
"""Over how many lessons, from the first, the figures are taken."""


class Example(NamedTuple):
    """A lesson in tokens. `places` are the tokens of the form behind which its digits are asked, `scores` the teacher's there; 1 to 5."""

    prompt: list[int]
    form: list[int]
    places: list[int]
    scores: list[float]


def digit_model(policy: Policy) -> DigitModel:
    """Return the policy as a model that is asked for digits. Raises `SettingsError` where its tokenizer does not do."""
    return DigitModel(policy.model, policy.tokenizer, policy.context)


def examples_of(lessons: Sequence[Lesson], digits: DigitModel) -> tuple[list[Example], list[Lesson], int]:
    """Return the examples of lessons, the lessons they are of, and how many lessons have no room in the context; none is cut."""
    examples, kept = [], []
    for lesson in lessons:
        prompt = digits.prompt_ids(lesson.messages)
        if len(prompt) <= digits.room(lesson.form):
            examples.append(Example(prompt, *digits.form_ids(lesson.form), list(lesson.scores)))
            kept.append(lesson)
    return examples, kept, len(lessons) - len(kept)


def lesson_loss(logits: Any, scores: Sequence[float], digit_ids: Sequence[int]) -> tuple[Any, Any]:
    """Return the two terms of one example, not yet weighed: the mean squared difference of scores, the mean cross-entropy.

    `logits` are those at the places of the scores, shape (scores, vocabulary).
    """
    torch = training_library("torch")
    chances = logits.float().log_softmax(dim=-1)
    among = chances[:, torch.tensor(digit_ids, device=logits.device)]
    scale = torch.arange(1.0, 6.0, device=logits.device)
    wanted = torch.tensor(scores, device=logits.device)
    means = among.softmax(dim=-1) @ scale
    neighbours = (1 - (scale - wanted[:, None]).abs()).clamp(min=0)
    return ((means - wanted) ** 2).mean(), -(neighbours * among).sum(dim=-1).mean()


def teach(
    policy: Policy,
    examples: Sequence[Example],
    settings: FitSettings,
    out: Path,
    *,
    taught: Taught,
    asked: Mapping[str, Any],
    tell: Callable[[str], None],
) -> Fitted:
    """Teach a policy its lessons, from where a run in `out` stopped, and write the judge to `out/model`.

    `asked` is what else the weights hang on, by name. The figures are the means of the two terms over the first lessons, before and after:
    `squared_before`, `squared_after`, `form_before`, `form_after`.

    Raises what `finished` and `fit` of `peregrm.training.offline.running` raise.
    """
    before = finished(out, {**asked, "form_weight": FORM_WEIGHT}, settings, examples)
    if before is not None:
        return before
    digits = digit_model(policy)
    seen = examples[:LOOKED_AT]
    start = _terms(policy.model, seen, digits)
    rate = settings.rate(JUDGE_RATE, adapter=has_adapter(policy))
    arguments = trainer_arguments(settings, out, rate, policy.model)
    del arguments["max_length"]  # TRL's own
    transformers = training_library("transformers")
    named = {
        "model": policy.model,
        "args": transformers.TrainingArguments(**arguments, remove_unused_columns=False),
        "train_dataset": list(examples),
        "data_collator": lambda batch: {"examples": list(batch), "digits": digits},
        "processing_class": policy.tokenizer,
    }

    def figures() -> dict[str, float]:
        end = _terms(policy.model, seen, digits)
        return {
            f"{name}_{when}": round(value, 6)
            for when, terms in (("before", start), ("after", end))
            for name, value in zip(("squared", "form"), terms, strict=True)
        }

    def save(fitted: Fitted) -> None:
        save_judge(policy, out / "model", taught)

    return fit(Fit(_teacher(), named, save), out, tell, figures)


@cache
def _teacher() -> Any:
    """Return the class of the trainer."""
    transformers = training_library("transformers")

    class Teacher(transformers.Trainer):  # type: ignore[misc, name-defined]
        """A trainer with the loss of this module."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.model_accepts_loss_kwargs = False  # the loss is a mean, to be divided by the number of batches a step
            self.remove_callback(transformers.PrinterCallback)  # standard output is for results

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **rest: Any) -> Any:
            squared, form = _batch_terms(model, inputs["examples"], inputs["digits"])
            loss = squared + FORM_WEIGHT * form
            return (loss, {"loss": loss}) if return_outputs else loss

        def _prepare_inputs(self, inputs: Any) -> Any:
            return inputs

        def floating_point_ops(self, inputs: Any) -> int:
            return 0

    return Teacher


def _terms(model: Any, examples: Sequence[Example], digits: DigitModel) -> tuple[float, float]:
    """Return the means of the two terms over examples, without training on them."""
    torch = training_library("torch")
    training = model.training
    model.eval()
    with torch.no_grad():
        terms = [_batch_terms(model, [example], digits) for example in examples]
    model.train(training)
    return tuple(float(sum(side) / len(terms)) for side in zip(*terms, strict=True))  # type: ignore[return-value]


def _batch_terms(model: Any, examples: Sequence[Example], digits: DigitModel) -> tuple[Any, Any]:
    """Return the mean terms of examples side by side, padded in front so that they end together."""
    torch = training_library("torch")
    ids, mask = padded([[*example.prompt, *example.form] for example in examples], digits.model.device)
    most = max(len(example.form) for example in examples)
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
        logits_to_keep=most,
    )
    found = [
        lesson_loss(logits[[place - len(example.form) for place in example.places]], example.scores, digits.digit_ids)
        for logits, example in zip(output.logits, examples, strict=True)
    ]
    squared, form = (torch.stack(list(side)).mean() for side in zip(*found, strict=True))
    return squared, form


def save_judge(policy: Policy, folder: Path, taught: Taught) -> None:
    """Write a judge that stands on its own, an adapter merged into its weights, all of it or nothing."""
    model = policy.model.merge_and_unload() if has_adapter(policy) else policy.model

    def write(to: Path) -> None:
        model.save_pretrained(to)
        policy.tokenizer.save_pretrained(to)
        replace_text(to / JUDGE_FILE, taught.model_dump_json(indent=1) + "\n")

    save_folder(folder, write)
