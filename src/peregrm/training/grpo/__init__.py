"""Group-relative training (GRPO, RLOO) on one machine: TRL's trainers, a judge that may fail, and runs that can be stopped and resumed."""
