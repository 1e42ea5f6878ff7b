"""The controlled study with people: two policies' replies to the same cases, read blind, rated and chosen between.

`design` says who sees what, `plan` is the pre-registration, `drawing` makes both from a dataset and its replies, `web` is the page that
participants use, `answers` keeps what they say, `analysis` holds it against the plan, `power` says how many people it takes. The page
never reads the key that tells which policy wrote which reply. Left out on purpose: recruiting and paying people, and the approval of an
ethics board, which no program can give.
"""
