"""Small judges: a trained linear head over features that are computed offline. No prompt, no call, the same number every time."""
