"""Text from outside is shown in Markdown as it is."""

from __future__ import annotations

import pytest

from peregrm.markdown import code, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("a judge", "a judge"),
        ("two\nlines | a cell", "two lines \\| a cell"),
        ("my_judge_2", "my\\_judge\\_2"),
        ("# no heading #", "\\# no heading \\#"),
        ("- no item", "\\- no item"),
        ("12. no item", "12\\. no item"),
        ("<b> &lt; & Co", "\\<b\\> &amp;lt; & Co"),
        ("&#39;", "&\\#39;"),
    ],
)
def test_plain_text_is_no_markup(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"), [("org/judge", "`org/judge`"), ("a\nb", "`a b`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```")]
)
def test_code_holds_backticks(text: str, shown: str) -> None:
    assert code(text) == shown
