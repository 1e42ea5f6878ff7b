"""Training on replies that are there already: SFT on the best of n, DPO on best against worst, a reward model on pairs."""
