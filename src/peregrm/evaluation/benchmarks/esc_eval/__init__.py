"""ESC-Eval (arXiv 2406.14952, github.com/haidequanbu/ESC-Eval): a seeker played from a role card talks with the model, a judge rates it.

Read are its own role cards. The course of the dialogue (a greeting, then five rounds) and the seven dimensions from 0 to 4 are the
benchmark's; seeker and judge are models of the user's choice with this project's prompts, where the authors trained one for each. Left
out on purpose: those trained models, and so comparison with the published scores.
"""

from peregrm.evaluation.benchmarks.esc_eval.cards import Card, read_cards
from peregrm.evaluation.benchmarks.esc_eval.dialogue import Dialogue, play
from peregrm.evaluation.benchmarks.esc_eval.run import DIMENSIONS, run_esc_eval

__all__ = ["DIMENSIONS", "Card", "Dialogue", "play", "read_cards", "run_esc_eval"]
