"""What `peregrm train verl` writes: templates, and the reward file as it is."""
