"""The report of an evaluation: one self-contained page, and the same as Markdown."""
