"""What the server counts, as Prometheus text, in a registry of its own.

What the judges cost is read from their ledgers when somebody asks. Single judge calls are not timed here: their latency is a sum
and a count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from peregrm.models.ledger import Ledger
from peregrm.reward.base import Scored
from peregrm.reward.server.limits import Gate

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)


class Metrics:
    """The counters of one server."""

    def __init__(self, gate: Gate, ledgers: Sequence[Ledger]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "peregrm_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self._request_s = Histogram(
            "peregrm_request_seconds",
            "From a request's head to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._group_s = Histogram(
            "peregrm_group_seconds", "Scoring of one group, waiting left out.", buckets=_SECONDS, registry=registry
        )
        self._replies = Counter(
            "peregrm_replies", "Replies by outcome: scored or failed.", ["outcome"], registry=registry
        )
        self._flagged = Counter(
            "peregrm_flagged_replies", "Replies to flagged cases, which safe guidance alone judges.", registry=registry
        )
        self._failures = Counter(
            "peregrm_reply_failures",
            "Replies without a total, by kind; two kinds count twice.",
            ["kind"],
            registry=registry,
        )
        Gauge("peregrm_groups_running", "Groups being scored.", registry=registry).set_function(lambda: gate.running)
        Gauge("peregrm_groups_waiting", "Groups waiting.", registry=registry).set_function(lambda: gate.waiting)
        registry.register(_Judges(ledgers))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def group(self, scored: Iterable[Scored], seconds: float) -> None:
        """Count one scored group."""
        self._group_s.observe(seconds)
        for one in scored:
            self._replies.labels("failed" if one.failure else "scored").inc()
            self._flagged.inc(one.flagged)
            for kind in one.failure.kind.split("+") if one.failure else ():
                self._failures.labels(kind).inc()

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Judges(Collector):
    """The judges' ledgers as metrics."""

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        self._ledgers = ledgers

    def collect(self) -> Iterator[Metric]:
        """Read the ledgers as they stand."""
        by = ["model", "purpose"]
        calls = CounterMetricFamily(
            "peregrm_judge_calls", "Judge calls: made (fresh) or from the cache.", labels=[*by, "source"]
        )
        unmetered = CounterMetricFamily(
            "peregrm_judge_unmetered_calls", "Fresh calls whose tokens are unknown.", labels=by
        )
        tokens = CounterMetricFamily(
            "peregrm_judge_tokens",
            "Tokens of fresh calls; `prefix` is the part of the input a prefix cache served.",
            labels=[*by, "kind"],
        )
        failures = CounterMetricFamily("peregrm_judge_failures", "Failed judge calls by kind.", labels=[*by, "kind"])
        cost = CounterMetricFamily(
            "peregrm_judge_cost", "Cost of fresh calls in the currency of the settings, where known.", labels=by
        )
        seconds = SummaryMetricFamily("peregrm_judge_seconds", "Time of fresh judge calls.", labels=by)
        for row in (row for ledger in self._ledgers for row in ledger.summary()):
            of = [row.model, row.purpose]
            calls.add_metric([*of, "fresh"], row.fresh_calls)
            calls.add_metric([*of, "cache"], row.cached_calls)
            unmetered.add_metric(of, row.fresh_usage.unmetered)
            tokens.add_metric([*of, "input"], row.fresh_usage.input_tokens)
            tokens.add_metric([*of, "output"], row.fresh_usage.output_tokens)
            tokens.add_metric([*of, "prefix"], row.fresh_usage.cached_tokens)
            for kind, count in row.failures:
                failures.add_metric([*of, kind], count)
            if row.cost is not None:
                cost.add_metric(of, row.cost)
            seconds.add_metric(of, count_value=row.fresh_calls, sum_value=row.seconds)
        yield from (calls, unmetered, tokens, failures, cost, seconds)
