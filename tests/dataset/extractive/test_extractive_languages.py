"""Languages of the extractive method: what is said of a history that it cannot read."""

from __future__ import annotations

import pytest

from peregrm.dataset.extractive import languages
from peregrm.dataset.outcome import Outcome
from peregrm.records import History


@pytest.mark.parametrize(
    ("known", "said"), [(("en", "zh"), "English and Chinese"), (("en", "zh", "de"), "English and Chinese and de")]
)
def test_a_language_without_a_name_is_called_by_its_code(
    monkeypatch: pytest.MonkeyPatch, known: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(languages, "LANGUAGES", known)
    drop = languages.unread_history(History(user_id="u", language="fr", sessions=()), Outcome([], []))
    assert drop is not None
    assert drop.reason == f"the extractive method knows {said}; the language of this history is fr"
