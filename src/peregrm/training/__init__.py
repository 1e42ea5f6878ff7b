"""Training: what a judge or a policy learns from, and how."""
