"""How well memory stores find the right memory, and how well they keep silent where there is none."""
