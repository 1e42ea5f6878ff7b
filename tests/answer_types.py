"""Answers that the tests of structured output ask for."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Item", "Score", "Verdict"]


class Item(BaseModel):
    """Internal words."""

    model_config = ConfigDict(extra="forbid")
    score: int = Field(ge=1, le=5)
    why: str = ""


class Verdict(BaseModel):
    """Internal words."""

    items: tuple[Item, ...]
    mode: Literal["a", "b"] | None = Field(default=None, description="Which of the two.")


class Score(BaseModel):
    score: int = Field(ge=1, le=5)
