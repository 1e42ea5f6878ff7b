"""The study in a real browser, from consent to export: by keyboard alone, without scripts, and on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driven_browser import DrivenBrowser, driven_browser
from peregrm.study.rows import read_rows

pytestmark = pytest.mark.slow

HERE = "(document.activeElement.id || document.activeElement.name || document.activeElement.textContent.trim())"
NAMELESS = """[...document.querySelectorAll('input:not([type=hidden]), textarea, button, a')].filter(one =>
  !(one.labels && one.labels.length) && !one.textContent.trim() && !one.getAttribute('aria-label')).map(one => one.outerHTML)"""
BROKEN = """[...document.querySelectorAll('[aria-labelledby], [aria-describedby]')].flatMap(one =>
  ((one.getAttribute('aria-labelledby') || '') + ' ' + (one.getAttribute('aria-describedby') || '')).split(' ').filter(Boolean))
  .filter(id => !document.getElementById(id))"""
CONTRAST = """(() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const under = one => { for (let e = one; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  return [...document.querySelectorAll('main *, footer *, header *')]
    .filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
    .map(e => { const a = light(parts(getComputedStyle(e).color)), b = light(under(e));
      return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.tagName + ' ' + e.textContent.trim().slice(0, 30)]; })
    .filter(([ratio]) => ratio < 4.5); })()"""


async def tab_to(page: DrivenBrowser, what: str) -> None:
    """Press Tab until the focus is on something: its id, its name or its words."""
    for _ in range(60):
        if await page.see(HERE) == what:
            return
        await page.press("Tab")
    raise AssertionError(f"Tab never came to {what}")


async def arrive(page: DrivenBrowser, path: str, heading: str) -> None:
    await page.until(
        f"location.pathname === {json.dumps(path)} && document.readyState === 'complete'"
        f" && document.querySelector('h1').textContent === {json.dumps(heading)}"
    )


async def fits(page: DrivenBrowser) -> None:
    """Check what holds for every page: nothing wider than the screen, nothing nameless, enough contrast, one heading."""
    assert await page.see("document.documentElement.scrollWidth <= window.innerWidth")
    assert await page.see(NAMELESS) == []
    assert await page.see(BROKEN) == []
    for colours in ("dark", "light"):
        await page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": colours}])
        assert await page.see(CONTRAST) == []
    assert await page.see("document.querySelectorAll('h1').length") == 1
    assert await page.see("document.documentElement.lang") == "en"
    assert await page.see(
        "[...document.querySelectorAll('fieldset')].every(one => one.querySelector('legend').textContent.trim())"
    )
    assert await page.see(
        "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size === document.querySelectorAll('[id]').length"
    )


async def rate_by_keys(page: DrivenBrowser, choice: int) -> None:
    """Rate everything with Tab, Space and arrows: the first reply 3, the second 2."""
    for side, steps in (("first", 2), ("second", 1)):
        for name in ("understood", "fits", "satisfied", "go_on"):
            await tab_to(page, f"{side}-{name}")
            await page.press(" ", *["ArrowRight"] * steps)
    await tab_to(page, "choice")
    await page.press(" ", *["ArrowDown"] * choice)


async def test_from_consent_to_export_by_keyboard_alone(
    make_folder: Callable[..., Path], in_process: Any, tmp_path: Path
) -> None:
    folder = make_folder()
    async with in_process(folder) as (_, url), driven_browser(tmp_path) as page:
        await page.go(f"{url}/")
        await fits(page)
        await page.press("Tab")
        assert await page.see(HERE) == "Skip to the content"
        await page.press("Enter", "Tab")
        assert await page.see(HERE) == "agree"
        await page.press(" ")
        await tab_to(page, "Begin")
        await page.press("Enter")
        await arrive(page, "/code", "Your code")
        code = await page.see("document.querySelector('.code').textContent")
        assert await page.see("document.cookie") == ""  # no script can read it
        await fits(page)
        await tab_to(page, "Begin with the first case")
        await page.press("Enter")
        await arrive(page, "/case/1", "Case 1 of 3")
        await fits(page)
        assert await page.see("document.querySelector('#open').textContent") == "9 of 9 answers still open"
        await tab_to(page, "Send and go on")
        await page.press("Enter")
        await page.until("document.querySelector('#problems')")
        await page.until(f"{HERE} === 'problems'")  # the focus goes to what is missing
        await page.press("Tab", "Enter")
        await page.until(f"{HERE} === 'first-understood'")
        for number in (1, 2, 3):
            await arrive(page, f"/case/{number}", f"Case {number} of 3")
            await rate_by_keys(page, number - 1)
            assert await page.see("document.querySelector('#open').textContent") == "Everything is answered"
            await tab_to(page, "comment")
            await page.type(f"by keyboard {number}")
            await tab_to(page, "Send and go on")
            await page.press("Enter")
        await arrive(page, "/done", "Thank you")
        assert await page.see("document.querySelector('.code').textContent") == code
        await fits(page)
        assert {one.split("/")[2] for one in page.fetched if one.startswith("http")} == {url.split("/")[2]}
        assert not [one for one in page.messages if "422" not in one]
    rows = read_rows(folder)
    assert [row.comment for row in rows] == ["by keyboard 1", "by keyboard 2", "by keyboard 3"]
    for row in rows:
        first, second = (row.a, row.b) if row.a_first else (row.b, row.a)
        assert (set(first.values()), set(second.values())) == ({3}, {2})
    chosen = [
        {True: "first", False: "second"}.get((row.chosen == "a") == row.a_first) if row.chosen != "none" else "none"
        for row in rows
    ]
    assert chosen == ["first", "second", "none"]


async def test_on_a_phone_without_scripts_until_withdrawal(
    make_folder: Callable[..., Path], in_process: Any, tmp_path: Path
) -> None:
    folder = make_folder()
    click = "document.querySelector({}).click()"
    async with in_process(folder) as (_, url), driven_browser(tmp_path, script=False) as page:
        await page.screen(390, 844)
        await page.go(f"{url}/")
        await fits(page)
        await page.see(click.format("'#agree'"))
        await page.see(click.format("'form[action=\"/consent\"] button'"))
        await arrive(page, "/code", "Your code")
        await page.go(f"{url}/case")
        await arrive(page, "/case/1", "Case 1 of 3")
        await fits(page)
        boxes = (
            "[...document.querySelectorAll('main label:not(.above), main button')].map(e => e.getBoundingClientRect())"
        )
        assert (
            await page.see(f"{boxes}.filter(box => box.height < 44 || box.width < 24).length") == 0
        )  # large enough for a thumb
        await page.picture(tmp_path / "case.png")
        await page.see('document.querySelectorAll(\'[value="5"], [value="none"]\').forEach(one => one.click())')
        await page.see(click.format("'form.rating button'"))
        await arrive(page, "/case/2", "Case 2 of 3")
        assert len(read_rows(folder)) == 1
        await page.go(f"{url}/withdraw")
        await fits(page)
        await page.see(click.format("'#sure'"))
        await page.see(click.format("'button.danger'"))
        await arrive(page, "/gone", "You have withdrawn")
        assert read_rows(folder) == []
        await page.go(f"{url}/case")
        await page.until("document.querySelector('h1').textContent === 'Please begin at the entrance'")
    assert (tmp_path / "case.png").stat().st_size > 10_000
