"""A page looked at in a real headless browser, as on a phone of 390 pixels."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

__all__ = ["look_at"]

PROBE = """<!DOCTYPE html><meta charset="utf-8"><body>
<iframe id="f" style="width:390px;height:844px;border:0"></iframe><pre id="out"></pre>
<script>
const errors = []; window.onerror = m => errors.push(String(m));
f.onload = () => { const d = f.contentDocument;
  for (const one of d.querySelectorAll('details')) one.open = true;
  const wide = [...d.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 390.5)
    .map(e => e.tagName + '.' + (e.className.baseVal ?? e.className) + ' ' + e.textContent.slice(0, 30));
  out.textContent = JSON.stringify({errors, title: d.title, wide,
    width: d.documentElement.scrollWidth, client: d.documentElement.clientWidth,
    scripts: d.scripts.length, images: d.images.length, details: d.querySelectorAll('details').length}); };
f.srcdoc = PAGE;
</script>"""


def look_at(text: str, folder: Path) -> dict[str, Any]:
    """Open a page, directly and in a frame as wide as a phone with all that folds opened, and return what the browser says of it.

    Skips where there is no browser. Checks what holds for every page of ours: no message on the console, no error, no script, no image,
    nothing that is wider than the screen.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium is installed")
    frame = json.dumps(text).replace("<", "\\u003c")
    (folder / "probe.html").write_text(PROBE.replace("PAGE", frame), encoding="utf-8")
    (folder / "page.html").write_text(text, encoding="utf-8")

    def browse(name: str) -> subprocess.CompletedProcess[str]:
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000",
            f"--user-data-dir={folder / 'profile'}", "--window-size=500,900", "--dump-dom", (folder / name).as_uri(),
        ]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)

    direct = browse("page.html")
    assert not [line for line in direct.stderr.splitlines() if "CONSOLE" in line]
    said = re.search(r'<pre id="out">(.*?)</pre>', browse("probe.html").stdout)
    assert said is not None
    found: dict[str, Any] = json.loads(said[1])
    assert found["errors"] == []
    assert found["scripts"] == found["images"] == 0
    assert found["wide"] == []
    assert found["width"] == found["client"]
    return found
