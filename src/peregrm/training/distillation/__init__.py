"""Judge distillation: a small causal model learns to give the judgements of a strong judge."""
