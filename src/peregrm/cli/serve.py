"""The command that serves rewards over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.app import app
from peregrm.cli.common import guards_of, say, settings_of
from peregrm.cli.options import (
    ConfigOpt,
    CriteriaOpt,
    DimensionsOpt,
    FlatteryOpt,
    JudgeTemperatureOpt,
    LengthLimitOpt,
    LengthOpt,
    ParrotOpt,
    SamplesOpt,
)
from peregrm.errors import DependencyError
from peregrm.extras import install

if TYPE_CHECKING:
    from fastapi import FastAPI

    from peregrm.reward.options import RewardOptions
    from peregrm.reward.server.limits import ServerLimits

__all__: list[str] = []

NoReplyOpt = Annotated[
    float | None,
    typer.Option(
        "--no-reply-score",
        help="Reward of an output whose thinking never ended (OpenRLHF, NeMo-Gym). Default: none, it is an error.",
    ),
]


@app.command()
def serve(
    reward: Annotated[str, typer.Option("--reward", help="What scores: `peregrm compare --help` has the names.")],
    judge: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            help="The judge, named like --model; several are pooled. Default: that of --dataset or the settings.",
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", help="Run or file of cases that requests may name by id; its criteria are used."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8300,
    samples: SamplesOpt = None,
    judge_temperature: JudgeTemperatureOpt = None,
    criteria: CriteriaOpt = None,
    dimensions: DimensionsOpt = "empathy",
    length_limit: LengthLimitOpt = None,
    length_penalty: LengthOpt = 0.0,
    parroting_penalty: ParrotOpt = 0.0,
    sycophancy_penalty: FlatteryOpt = 0.0,
    no_reply_score: NoReplyOpt = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="SQLite file that keeps every answer of the judge. Default: nothing is kept."),
    ] = None,
    running: Annotated[int, typer.Option("--running", min=1, help="Groups scored at once.")] = 64,
    waiting: Annotated[int, typer.Option("--waiting", min=0, help="Groups that may wait; more are sent away.")] = 256,
    deadline: Annotated[
        float, typer.Option("--deadline", min=0.1, help="Seconds a request may take, waiting included.")
    ] = 170.0,
    body_mib: Annotated[int, typer.Option("--body-mib", min=1, help="Largest request, in MiB.")] = 32,
    config: ConfigOpt = None,
) -> None:
    """Serve rewards over HTTP to trainers. A key in PEREGRM_SERVER_KEY is demanded of every request but /health."""
    from peregrm.pipeline.asked import reward_options

    settings = settings_of(config, samples=samples, judge_temperature=judge_temperature, criteria=criteria)
    guards = guards_of(length_limit, length_penalty, parroting_penalty, sycophancy_penalty)
    changes = {"cache": cache, "dimensions": dimensions, "guards": guards}
    options = reward_options(settings, judge, reward, dataset).model_copy(update=changes)
    _need_server()
    from peregrm.reward.server.limits import ServerLimits
    from peregrm.reward.server.run import serve as listen

    limits = ServerLimits(
        running=running, waiting=waiting, deadline_s=deadline, grace_s=deadline, body_bytes=body_mib * 2**20
    )
    application = _application(options, dataset, _key(options, host), limits, no_reply_score)
    listen(application, host, port, lambda url: say(f"{reward} by {', '.join(options.judges)}: {url}"))


def _need_server() -> None:
    try:
        import peregrm.reward.server.run  # noqa: F401
    except ImportError as error:
        raise DependencyError(f"the server needs {error.name}: {install('serve')}") from None


def _key(options: RewardOptions, host: str) -> str | None:
    """Return the key that requests must carry, and say what the owner of this server should know."""
    from peregrm.models.heads import is_head
    from peregrm.reward.base import COMPARING
    from peregrm.reward.heads.words import head_words
    from peregrm.reward.server.run import server_key

    if options.reward in COMPARING or len(options.judges) > 1:
        say(
            "This reward compares replies of one request: OpenRLHF and NeMo-Gym send one reply a request, and get nothing useful from it."
        )
    if "embedded" in options.judges:
        say(
            "The judge is the small embedded model: its scores carry no meaning, and nothing should be trained on them."
        )
    for judge in filter(is_head, options.judges):
        say(head_words(judge))
    key = server_key()
    if key is None and host not in ("127.0.0.1", "localhost", "::1"):
        say("There is no key (PEREGRM_SERVER_KEY): whoever reaches this address can use it.")
    return key


def _application(
    options: RewardOptions, dataset: Path | None, key: str | None, limits: ServerLimits, no_reply_score: float | None
) -> FastAPI:
    """Open judges and reward and return what is served."""
    from peregrm.dataset.safety import look_at
    from peregrm.pipeline.reply_files import read_dataset
    from peregrm.pipeline.scoring import give_criteria
    from peregrm.reward.factory import open_reward
    from peregrm.reward.opening import open_judge
    from peregrm.reward.server.app import create_app

    known = None if dataset is None else read_dataset(dataset, options.dimensions)
    generative = options.reward != "scalar"
    judges = [open_judge(spec, options.cache) for spec in options.judges] if generative else []
    reward = open_reward(options, tuple(judge.model for judge in judges) or None)
    if known is not None:
        give_criteria(reward, known)
    return create_app(
        reward,
        cases=known.cases if known else None,
        key=key,
        limits=limits,
        judges=judges,
        no_reply_score=no_reply_score,
        look=look_at,
    )
