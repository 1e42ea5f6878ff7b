"""EQ-Bench 3 (github.com/EQ-bench/eqbench3, MIT): scenarios in several turns with a debrief, judged by a rubric and in pairs.

`data` reads its files, `transcripts` lets a model act the scenarios, `rubric` and `pairwise` ask the judge with the benchmark's own
prompts, `margins` and `rating` are its arithmetic, `leaderboard` recomputes the published table from the recorded comparisons. Left out on
purpose: its choice of neighbours to compare a new model with, which needs the transcripts of the published models, and more than one
iteration.
"""

from peregrm.evaluation.benchmarks.eqbench3.data import EQBench, Scenario, read_eqbench
from peregrm.evaluation.benchmarks.eqbench3.leaderboard import Leaderboard, recompute
from peregrm.evaluation.benchmarks.eqbench3.run import run_eqbench

__all__ = ["EQBench", "Leaderboard", "Scenario", "read_eqbench", "recompute", "run_eqbench"]
