"""Where in a text stands something that must not be passed on: addresses, numbers of people and accounts, keys.

Patterns are data (`data/shapes.toml`); what has check digits is checked (`peregrm.privacy.numbers`). Everything runs on a copy of the
text with plain digits, letters and dashes, character for character, so that offsets hold for the text itself. Time grows linearly with
the text. Left out on purpose: names and street addresses, names on messengers, and anything inside an image.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from itertools import pairwise
from math import log2
from typing import Any, NamedTuple

from peregrm.privacy.numbers import iban_length, is_card, is_chinese_id, is_cpf, is_iban, is_public_ip, is_ssn

__all__ = ["KINDS", "PLACEHOLDERS", "Found", "find_personal"]

PLACEHOLDERS = {
    "key": "[key]",
    "secret": "[secret]",
    "credentials": "[credentials]",
    "email": "[e-mail]",
    "account": "[account number]",
    "card": "[card number]",
    "document": "[ID number]",
    "ip": "[IP address]",
    "phone": "[phone]",
}
"""What stands in the place of each kind. None of them holds anything that would be masked again."""

KINDS = tuple(PLACEHOLDERS)


class Found(NamedTuple):
    """One span to hide: half-open range of characters and its kind."""

    start: int
    end: int
    kind: str


_DASHES = dict.fromkeys("‐‑‒–−﹣－", "-") | dict.fromkeys("\u00a0\u2007\u202f\u2009", " ")
_CREDENTIALS = re.compile(r"(?<=://)(?!\[credentials\])[^\s/@:\"'<>]{1,200}:[^\s/@\"'<>]{1,200}(?=@)")
_LOCAL = r"A-Za-z0-9À-ÖØ-öø-ɏ._%+\-"
_AT = r"(?:@|\s?[\[(]\s?(?i:at)\s?[\])]\s?)"
_DOT = r"(?:\.|\s?[\[(]\s?(?i:dot)\s?[\])]\s?)"
_EMAIL = re.compile(
    rf"(?<![{_LOCAL}])[A-Za-z0-9À-ÖØ-öø-ɏ_%+][{_LOCAL}]*+{_AT}(?:[A-Za-z0-9À-ÖØ-öø-ɏ-]+{_DOT})+[A-Za-z]{{2,24}}(?![A-Za-z0-9_(\-]|:[\w/])"
)
_NO_DOMAIN = re.compile(r"(?i)\.(?:png|jpe?g|gif|svg|webp|ico|m?js|jsx|tsx?|s?css|json|md|py|html|txt|dot)$")
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9]{4})")
_CARD = re.compile(
    r"(?<![A-Za-z0-9_.+/=-])(?:\d{13,19}|\d{4}(?P<s>[ -])\d{4}(?P=s)\d{4}(?P=s)\d{4}(?:(?P=s)\d{3})?|\d{4}(?P<t>[ -])\d{6}(?P=t)\d{4,5})"
    r"(?![A-Za-z0-9_-])(?!\.\d)"
)
_SSN = re.compile(r"(?<![A-Za-z0-9_.+/=-])\d{3}-\d{2}-\d{4}(?![A-Za-z0-9_-])")
_CHINESE_ID = re.compile(r"(?<![A-Za-z0-9_])\d{17}[\dXx](?![A-Za-z0-9_])")
_CPF = re.compile(r"(?<![A-Za-z0-9_.+/=-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![A-Za-z0-9_])")
_IPV4 = re.compile(r"(?<![A-Za-z0-9_.+/-])(?<![vV]\d\.)\d{1,3}(?:\.\d{1,3}){3}(?![A-Za-z0-9_-]|\.\d)")
_IPV6 = re.compile(
    r"(?<![A-Za-z0-9_:.])(?:[0-9A-Fa-f]{1,4}:){1,7}(?::?[0-9A-Fa-f]{1,4})?(?::[0-9A-Fa-f]{1,4}){0,6}(?![A-Za-z0-9_:])"
)
_VERSION = re.compile(r"(?i)(?:version|release|build|firmware|chrome|safari|section|chapter|ver|v)[ /:=]*$")
_SAYS_IP = re.compile(r"(?i)(?<![a-z])ip(?![a-z])|host|server|addr|地址")
_TOKEN = re.compile(r"(?<![A-Za-z0-9_+/=.\-&?%])[A-Za-z0-9_-]{32,128}={0,2}(?![A-Za-z0-9_+/=.%-])")


class _Shapes(NamedTuple):
    """The compiled patterns of the data file."""

    blocks: re.Pattern[str]
    keys: tuple[re.Pattern[str], ...]
    assigned: re.Pattern[str]
    plain: frozenset[str]
    phones: tuple[re.Pattern[str], ...]
    free: re.Pattern[str]
    called: re.Pattern[str]
    documents: re.Pattern[str]
    accounts: re.Pattern[str]


@cache
def _shapes() -> _Shapes:
    file = resources.files(__package__) / "data" / "shapes.toml"
    data: dict[str, dict[str, Any]] = tomllib.loads(file.read_text(encoding="utf-8"))
    secrets, phones, documents = data["secrets"], data["phones"], data["documents"]
    return _Shapes(
        blocks=re.compile(secrets["blocks"]),
        keys=tuple(re.compile(each) for each in secrets["keys"]),
        assigned=re.compile(secrets["assigned"]),
        plain=frozenset(secrets["plain"]),
        phones=tuple(re.compile(each) for each in phones["shapes"]),
        free=re.compile(phones["free"]),
        called=re.compile(phones["called"]),
        documents=re.compile(documents["called"]),
        accounts=re.compile(documents["accounts"]),
    )


class _Plain(dict[int, str]):
    """Maps a character to the plain ASCII one that means the same, and everything else to itself; filled as it is used."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        digit = unicodedata.decimal(character, None)
        if digit is not None:
            plain = str(digit)
        elif 0xFF01 <= code <= 0xFF5E:
            plain = chr(code - 0xFEE0)
        else:
            plain = _DASHES.get(character, character)
        self[code] = plain
        return plain


_PLAIN = _Plain()


def find_personal(text: str) -> list[Found]:
    """Return the spans of `text` that must be hidden, in order, none overlapping; where kinds compete the surer one wins."""
    plain = text if text.isascii() else text.translate(_PLAIN)
    taken: list[Found] = []
    for finder, needs in _FINDERS:
        if needs.search(plain) is not None:
            for found in finder(plain):
                _take(found, taken)
    return taken


def _take(found: Found, taken: list[Found]) -> None:
    """Insert a span in order unless it meets one that is there."""
    place = bisect_left(taken, found)
    free_before = place == 0 or taken[place - 1].end <= found.start
    if free_before and (place == len(taken) or found.end <= taken[place].start):
        taken.insert(place, found)


def _blocks(text: str) -> Iterator[Found]:
    yield from _each(_shapes().blocks, text, "key")


def _keys(text: str) -> Iterator[Found]:
    for pattern in _shapes().keys:
        yield from _each(pattern, text, "key")


def _each(
    pattern: re.Pattern[str], text: str, kind: str, check: Callable[[re.Match[str]], bool] | None = None
) -> Iterator[Found]:
    for match in pattern.finditer(text):
        group = next((name for name, value in match.groupdict().items() if value and name.startswith("hide")), 0)
        if match.end(group) > match.start(group) and (check is None or check(match)):
            yield Found(match.start(group), match.end(group), kind)


def _credentials(text: str) -> Iterator[Found]:
    yield from _each(_CREDENTIALS, text, "credentials")


def _assigned(text: str) -> Iterator[Found]:
    for found in _each(_shapes().assigned, text, "secret", lambda m: _is_secret(m, text)):
        value = text[found.start : found.end]
        yield Found(found.start, found.start + len(value.rstrip(".!?)]}\\*。！？")), "secret")


def _is_secret(match: re.Match[str], text: str) -> bool:
    """Tell a secret after "password:" from a word of a form or a piece of code."""
    value = (match["hide"] or match["hide2"] or match["hide3"] or "").rstrip(".!?)]}\\*。！？")
    if len(value) < 4 or not value.isascii() or value[0] in "[({<$%&*#/\\._=+-" or _is_stand_in(value):
        return False
    digit = any(c.isdigit() for c in value)
    if match["hide3"]:
        return digit
    if re.match(r"(?i)pin", match[0]):
        return value.isdigit()
    if re.search(r"[()\[\]{}]|\w\.[A-Za-z_]|->|::|\*{2}", value):
        return False
    said = (match["sign"] or "").isalpha() or match["sign2"] == ""
    return _is_varied(value, digit) if said or digit else _stands_alone(match, value, text)


def _is_varied(value: str, digit: bool) -> bool:
    """Tell a secret in a sentence from the next word of it: a digit among letters, or a long number."""
    return digit and (len(value) >= 6 or any(c.isalpha() for c in value))


def _stands_alone(match: re.Match[str], value: str, text: str) -> bool:
    """Tell a secret of letters alone: in quotes, or the last thing in its line."""
    if not any(c.isalpha() for c in value):
        return False
    if match["quote"] or match["quote2"]:
        return len(value) >= 6
    end = match.end()
    return len(value) >= 5 and (end == len(text) or text[end] in "\n,;")


def _is_stand_in(value: str) -> bool:
    """Tell a word that stands for a secret in a form or a manual: `string`, `YOUR_API_KEY`, `xxxx`."""
    word = value.casefold()
    return (
        word in _shapes().plain
        or len(set(word)) < 3
        or re.search(r"your|example|_key|_token|password|xxxx", word) is not None
    )


def _emails(text: str) -> Iterator[Found]:
    yield from _each(_EMAIL, text, "email", lambda m: _NO_DOMAIN.search(m[0]) is None)


def _ibans(text: str) -> Iterator[Found]:
    for match in _IBAN_START.finditer(text):
        length = iban_length(match[0])
        end = match.end()
        compact = match[0]
        while length and len(compact) < length and end < len(text):
            step = 1 if text[end] in " -" and end + 1 < len(text) else 0
            if not (text[end + step].isascii() and text[end + step].isalnum()):
                break
            compact += text[end + step]
            end += step + 1
        ends = end == len(text) or not (text[end].isascii() and text[end].isalnum())
        if length and ends and is_iban(compact):
            yield Found(match.start(), end, "account")


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def _cards(text: str) -> Iterator[Found]:
    yield from _each(_CARD, text, "card", lambda m: is_card(_digits(m[0])))


def _documents(text: str) -> Iterator[Found]:
    yield from _each(_CHINESE_ID, text, "document", lambda m: is_chinese_id(m[0]))
    yield from _each(_SSN, text, "document", lambda m: is_ssn(_digits(m[0])))
    yield from _each(_CPF, text, "document", lambda m: is_cpf(_digits(m[0])))
    yield from _each(_shapes().documents, text, "document", lambda m: len(_digits(m["hide"] or m["hide2"])) >= 5)
    yield from _each(_shapes().accounts, text, "account")


def _addresses(text: str) -> Iterator[Found]:
    yield from _each(_IPV4, text, "ip", lambda m: is_public_ip(m[0]) and _is_address(m, text))
    if text.count(":") >= 3:
        yield from _each(_IPV6, text, "ip", lambda m: len(_digits(m[0])) >= 3 and is_public_ip(m[0]))


def _is_address(match: re.Match[str], text: str) -> bool:
    """Tell an address from the number of a version or a section."""
    before = text[max(0, match.start() - 40) : match.start()]
    if _VERSION.search(before):
        return False
    small = all(int(part) <= 30 for part in match[0].split("."))
    return not small or _SAYS_IP.search(before) is not None


def _phones(text: str) -> Iterator[Found]:
    for pattern in _shapes().phones:
        yield from _each(pattern, text, "phone", lambda m: _shapes().free.fullmatch(m[0]) is None)
    yield from _each(_shapes().called, text, "phone", lambda m: _is_personal(m["hide"]))


def _is_personal(number: str) -> bool:
    return _shapes().free.fullmatch(number) is None and not _is_date_like(number)


def _is_date_like(text: str) -> bool:
    return (
        re.fullmatch(r"(?:19|20)\d{2}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)\d{2}", text)
        is not None
    )


def _tokens(text: str) -> Iterator[Found]:
    yield from _each(_TOKEN, text, "key", lambda m: _looks_random(m[0].rstrip("=")))


def _looks_random(token: str) -> bool:
    """Tell a random string from a long name: all three classes, changing often, few characters more often than others."""
    classes = ["d" if c.isdigit() else "u" if c.isupper() else "l" if c.islower() else "-" for c in token]
    counts = Counter(classes)
    if counts["d"] < 4 or counts["u"] < 4 or counts["l"] < 4 or counts["-"] > 3:
        return False
    changes = sum(a != b for a, b in pairwise(classes)) / (len(token) - 1)
    entropy = -sum(n / len(token) * log2(n / len(token)) for n in Counter(token).values())
    return changes >= 0.35 and entropy >= 4.2


_LONG_TOKEN = re.compile(r"[A-Za-z0-9_+/.:-]{20}")
_SEVEN_DIGITS = re.compile(r"\d(?:[ ()/.-]{0,3}\d){6}")

_FINDERS: tuple[tuple[Callable[[str], Iterator[Found]], re.Pattern[str]], ...] = (
    (_blocks, re.compile("PRIVATE KEY")),
    (_credentials, re.compile("://")),
    (_keys, _LONG_TOKEN),
    (_emails, re.compile(r"@|[\[(]\s?(?:at|AT|At)\s?[\])]")),
    (
        _assigned,
        re.compile(
            r"(?i)pass|pwd|pin|key|secret|token|bearer|senha|contrase|mdp|парол|sandi|khẩu|şifre|密|口令|令牌|パス|비밀"
        ),
    ),
    (_ibans, re.compile(r"\d")),
    (_cards, _SEVEN_DIGITS),
    (_documents, re.compile(r"\d{2}")),
    (_addresses, re.compile(r"\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:")),
    (_phones, _SEVEN_DIGITS),
    (_tokens, _LONG_TOKEN),
)
"""The finders, the surest first, and what a text must have for one to be worth running."""
