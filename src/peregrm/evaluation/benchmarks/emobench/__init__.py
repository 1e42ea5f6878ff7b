"""EmoBench (Sabour et al., ACL 2024; MIT): multiple choice on understanding emotions (EU) and on acting by them (EA), English and Chinese.

`data` reads its files, `questions` puts an item to a model with its options in several orders, `run` makes the result. Left out on purpose:
its prompts, for which there are our own, and answers with a chain of thought.
"""

from peregrm.evaluation.benchmarks.emobench.data import Item, read_emobench
from peregrm.evaluation.benchmarks.emobench.run import EmoOptions, run_emobench

__all__ = ["EmoOptions", "Item", "read_emobench", "run_emobench"]
