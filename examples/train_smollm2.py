"""A small policy learns from a small judge, on two cores: what happens, as another judge sees it.

```
python examples/train_smollm2.py -o trained
```

The policy is SmolLM2-135M-Instruct with a LoRA adapter, the training is GRPO, and the cases are the English ones of `examples/`. The 42
users who write English are divided twice, by hashes of their ids. Three in five are trained on, the others are held out. And of all of
them one half taught the training judge, the other half the held-out judge: two small linear heads, each fitted here on its own people's
ranked replies and nothing of the other's. So held-out figures come from people the policy never met and a judge that had no part in the
reward. The two are still of a kind: what both are blind to stays unseen, and neither is worth a person's opinion (their cards, printed
here, say how often they order hand-written replies rightly). Plain measures stand beside them.

The policy sees the message alone. `--setting memories` shows it what is known of the person too, as a real training would; prompts are
then three times as long, and a step takes more than twice the time.

`trained/curves.svg` shows both judges over the steps, `trained/report.md` the figures before and after. No network, no GPU, no key.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import time
from pathlib import Path

from peregrm.dataset.cases import memories_of
from peregrm.dataset.extractive.persona import group_persona
from peregrm.dataset.gold import gold_cases, read_gold
from peregrm.evaluation.statistics import Estimate
from peregrm.histories.registry import read_histories
from peregrm.models.embeddings import Embedder
from peregrm.pipeline.publish import ExportOptions, save_options
from peregrm.pipeline.training import GroupTraining, train_group
from peregrm.records import Case
from peregrm.reward.options import RewardOptions
from peregrm.settings import load_settings
from peregrm.store import write_records
from peregrm.training.curves import parting_of
from peregrm.training.grpo.settings import GroupSettings, Pace
from peregrm.training.held_out_lines import HeldOutLine, read_held_out
from peregrm.training.judge_head import train_head, write_head
from peregrm.training.pairs import Material, read_material
from peregrm.training.policies import Lora

EXAMPLES = Path(__file__).parent
FOLDERS = (EXAMPLES, EXAMPLES / "more")


def english_cases() -> list[Case]:
    """Return the hand-written cases in English, under the curated memories and a persona grouped from them."""
    cases = []
    for folder in FOLDERS:
        gold = read_gold(folder / "gold.jsonl")
        memories = list(gold.memories.values())
        personas = {
            history.user_id: group_persona(history, memories_of(history.user_id, memories))
            for history in read_histories(folder / "histories")
        }
        cases += [case for _, case in gold_cases(gold, personas, memories) if case.language == "en"]
    return cases


def halves(users: set[str]) -> tuple[set[str], set[str]]:
    """Return whose replies teach which judge."""
    order = sorted(users, key=lambda user: hashlib.sha256(f"judge:{user}".encode()).hexdigest())
    return set(order[::2]), set(order[1::2])


def judges(folder: Path) -> list[Path]:
    """Fit a head on each half of the users, unless that was done; return their files."""
    files = [folder / "training_judge.json", folder / "held_out_judge.json"]
    whole = read_material([folder / "gold.jsonl" for folder in FOLDERS])
    for file, taught in zip(files, halves({group.user for group in whole.groups}), strict=True):
        if file.exists():
            continue
        groups = [group for group in whole.groups if group.user in taught]
        head = train_head(Material(groups, whole.sources), Embedder(), "CC0-1.0")
        write_head(head, file)
        figures = [head.measured(name) for name in ("personalized over generic", "generic over mismatched")]
        told = "; ".join(f"{one.name} {one.mean} [{one.low}, {one.high}]" for one in figures if one)
        print(f"{file.name}: {head.card.users} users; on users it had not seen: {told}", flush=True)
    return files


def report(folder: Path) -> str:
    """Return the figures before and after as Markdown."""
    lines = read_held_out(folder)
    parting = parting_of(folder)
    parts = ["# SmolLM2-135M, GRPO on a trained head: before and after", ""]
    for role in ("held-out", "training"):
        own = [line for line in lines if line.role == role]
        parts += [
            f"## Held-out users, {role} judge ({own[-1].judge.rpartition('/')[2]})",
            "",
            *table(own[0], own[-1]),
            "",
        ]
    return "\n".join([*parts, *([f"- {line}" for line in parting.words] if parting else []), ""])


def table(before: HeldOutLine, after: HeldOutLine) -> list[str]:
    """Return the measures at two steps as a table."""
    rows = [f"| measure | step {before.step} | step {after.step} | n (users) |", "|---|---|---|---|"]
    for name, one in after.measures:
        was = before.measure(name)
        rows.append(f"| {name} | {shown(was)} | {shown(one)} | {one.n} of {one.asked} ({one.users}) |")
    return rows


def shown(one: Estimate | None) -> str:
    """Return a mean with its interval."""
    if one is None or one.mean is None:
        return "-"
    return f"{one.mean:.3f}" + ("" if one.low is None or one.high is None else f" [{one.low:.3f}, {one.high:.3f}]")


def main() -> None:
    """Prepare, train, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("trained"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--eval-every", type=int, default=15)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--setting", default="generic")
    asked = parser.parse_args()
    started = time.monotonic()
    data = asked.out / "data"
    data.mkdir(parents=True, exist_ok=True)
    write_records(data / "cases.jsonl", english_cases())
    save_options(data, ExportOptions(shares=(0.6, 0.4, 0.0)))
    training, held_out = judges(data)
    train_group(
        data,
        GroupTraining(
            model="embedded",
            reward=RewardOptions(judges=(f"head:{training}",), criteria="composed"),
            settings=GroupSettings(
                setting=asked.setting,
                rollouts=asked.rollouts,
                batch=1,
                at_once=2,
                learning_rate=asked.learning_rate,
                max_new_tokens=asked.new_tokens,
                lora=Lora(rank=16),
            ),
            pace=Pace(max_steps=asked.steps, save_every=20, eval_every=asked.eval_every),
            held_out=f"head:{held_out}",
        ),
        load_settings(None, {}),
        out=asked.out,
        say=lambda line: print(f"[{time.monotonic() - started:6.0f} s] {line}", flush=True),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    cost = f"{(time.monotonic() - started) / 60:.1f} minutes, {peak:.1f} GB at the fullest\n"
    (asked.out / "report.md").write_text(report(asked.out) + "\n" + cost, encoding="utf-8")
    print(report(asked.out), cost, sep="\n")


if __name__ == "__main__":
    main()
