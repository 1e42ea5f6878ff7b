"""AlpsBench (arXiv 2603.26680): memories drawn from a dialogue (task 1), brought up to date (2), found again (3) and used (4).

The formulas are those of `docs/evaluation_metric.md` and `src/benchmark/metrics.py` in github.com/ThisIsCosine/AlpsBench and stand in the
module of each task: `similarity` and `score` for 1, `update`, `retrieval`, `response`; what its authors measured is in `published.toml`.
The packets hold recorded answers of seven models for task 1 alone. Left out on purpose: the parts of the published scores that a language
model gives by prompts which are not public.
"""

from peregrm.evaluation.benchmarks.alpsbench.items import Item
from peregrm.evaluation.benchmarks.alpsbench.packets import Packet, read_packets
from peregrm.evaluation.benchmarks.alpsbench.response import Query, is_grounded, read_queries
from peregrm.evaluation.benchmarks.alpsbench.response_run import run_task4
from peregrm.evaluation.benchmarks.alpsbench.retrieval import RetrievalPacket, read_retrievals, run_task3
from peregrm.evaluation.benchmarks.alpsbench.run import run_task1
from peregrm.evaluation.benchmarks.alpsbench.score import Match, match_memories
from peregrm.evaluation.benchmarks.alpsbench.update import UpdatePacket, UpdateScore, read_updates, score_update
from peregrm.evaluation.benchmarks.alpsbench.update_run import run_task2

__all__ = [
    "Item",
    "Match",
    "Packet",
    "Query",
    "RetrievalPacket",
    "UpdatePacket",
    "UpdateScore",
    "is_grounded",
    "match_memories",
    "read_packets",
    "read_queries",
    "read_retrievals",
    "read_updates",
    "run_task1",
    "run_task2",
    "run_task3",
    "run_task4",
    "score_update",
]
