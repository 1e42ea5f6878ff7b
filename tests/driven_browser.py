"""A real headless browser that a test drives as a person would: by keys, by touch-sized screens, by what is on the page.

It speaks Chromium's DevTools protocol over a socket of aiohttp, so that no driver has to be installed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

__all__ = ["DrivenBrowser", "driven_browser"]

_KEYS = {
    "Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "ArrowRight": (39, ""), "ArrowDown": (40, ""), "ArrowLeft": (37, ""),
}  # fmt: skip


class DrivenBrowser:
    """One page of a running browser. `messages` is what it said on the console, `fetched` what it asked servers for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.messages: list[str] = []
        self.fetched: list[str] = []

    async def listen(self) -> None:
        """Take in what the browser says, until it ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            elif said["method"] in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.messages.append(json.dumps(said["params"])[:400])
            elif said["method"] == "Network.requestWillBeSent":
                self.fetched.append(said["params"]["request"]["url"])

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Call one method of the protocol."""
        self._number += 1
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        said = await asyncio.wait_for(answer, 60)
        assert "error" not in said, said
        result: dict[str, Any] = said["result"]
        return result

    async def see(self, expression: str) -> Any:
        """Return the value of an expression on the page."""
        said = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def go(self, url: str) -> None:
        """Open a page and wait for it."""
        await self.ask("Page.navigate", url=url)
        await self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    async def until(self, expression: str) -> None:
        """Wait until an expression holds; pages may change meanwhile."""
        for _ in range(600):
            said = await self.ask("Runtime.evaluate", expression=f"Boolean({expression})", returnByValue=True)
            if said["result"].get("value") is True:
                return
            await asyncio.sleep(0.05)
        text = await self.see("location.href + ' ' + document.body.innerText.slice(0, 500)")
        raise AssertionError(f"never: {expression}; the page is {text}")

    async def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            code, text = _KEYS[key]
            shared = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
            await self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
            await self.ask("Input.dispatchKeyEvent", type="keyUp", **shared)

    async def type(self, text: str) -> None:
        """Put text in where the cursor is."""
        await self.ask("Input.insertText", text=text)

    async def screen(self, width: int, height: int) -> None:
        """Be a screen of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.ask("Emulation.setDeviceMetricsOverride", **size)

    async def picture(self, path: Path) -> None:
        """Keep a picture of the whole page."""
        shot = await self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def driven_browser(folder: Path, *, script: bool = True) -> AsyncIterator[DrivenBrowser]:
    """Start a browser with a profile in `folder`; skips where none is installed. Without `script` pages run none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium is installed")
    profile = folder / "driven-profile"
    (profile / "DevToolsActivePort").unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            port = await _port(profile / "DevToolsActivePort")
            async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                url = (await answer.json(content_type=None))["webSocketDebuggerUrl"]
            async with session.ws_connect(url, max_msg_size=0) as socket:
                page = DrivenBrowser(socket)
                listener = asyncio.create_task(page.listen())
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.ask(f"{domain}.enable")
                await page.ask("Emulation.setScriptExecutionDisabled", value=not script)
                yield page
                listener.cancel()
    finally:
        process.terminate()
        await process.wait()


async def _port(path: Path) -> int:
    for _ in range(600):
        if path.exists() and (lines := path.read_text().split()):
            return int(lines[0])
        await asyncio.sleep(0.05)
    raise AssertionError("the browser did not start")
