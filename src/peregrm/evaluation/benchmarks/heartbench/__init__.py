"""HeartBench (arXiv 2512.21849, github.com/inclusionAI/HeartBench): one reply to a Chinese conversation, by a weighted rubric.

Read are its own files; the judge and all prompts are this project's. The formula is that of its repository (`score`); what differs from
it is said there. Left out on purpose: scoring answers that were recorded elsewhere, and its own judge's wording.
"""

from peregrm.evaluation.benchmarks.heartbench.questions import Question, RubricItem, read_questions
from peregrm.evaluation.benchmarks.heartbench.run import run_heartbench
from peregrm.evaluation.benchmarks.heartbench.score import QuestionScore, score_question

__all__ = ["Question", "QuestionScore", "RubricItem", "read_questions", "run_heartbench", "score_question"]
