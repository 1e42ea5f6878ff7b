"""The page on which participants take part: consent, code, cases, thanks, withdrawal, and a history of their own where that is offered.

Plain forms that work without a script; the one small script counts what is still open and stops double clicks. Nothing is fetched from
other servers. Left out on purpose: accounts, e-mail, any sight of other people's answers, and TLS, which a proxy does.
"""
