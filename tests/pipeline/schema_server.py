"""An OpenAI-compatible server that answers every request, by its own content alone, with something that fits the asked-for schema.

Run as a script: `python schema_server.py LOG [DELAY_SECONDS [PORT]]`. It says its port on standard output. Each request appends `start KEY`
and `done KEY HASH_OF_ANSWER` to LOG, the latter only after the answer was written to the socket, so that a test can follow calls over
several processes and kills. While a file `LOG.hold` is there, no more questions of this log are answered than the number in it, so that
what a test interrupts is under way then, however slow the machine.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

WORDS = [
    "morning",
    "river",
    "answer",
    "colleague",
    "promise",
    "kitchen",
    "letter",
    "winter",
    "quiet",
    "garden",
    "rehearsal",
    "station",
    "brother",
    "window",
    "deadline",
    "supper",
    "ticket",
    "neighbour",
    "silence",
    "argument",
    "holiday",
    "ladder",
    "apology",
    "market",
    "invitation",
    "piano",
    "worry",
    "coffee",
    "meeting",
    "cousin",
    "harbour",
    "notebook",
    "weather",
    "courage",
    "visit",
    "garage",
    "birthday",
    "lesson",
    "doorway",
    "stranger",
    "message",
    "evening",
    "decision",
    "friend",
    "rumour",
]


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def fill(schema: dict, rng: random.Random):
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema["type"]
    if kind == "object":
        return {name: fill(part, rng) for name, part in schema["properties"].items()}
    if kind == "array":
        least = schema.get("minItems", 1)
        count = min(least + 1, schema.get("maxItems", least + 1))
        return [fill(schema["items"], rng) for _ in range(max(count, 1))]
    if kind == "integer":
        return rng.randint(schema["minimum"], schema["maximum"]) if "maximum" in schema else 1
    if kind == "boolean":
        return True
    return words(rng, 14)[: schema.get("maxLength", 200)]


def notes(prompt: str) -> dict:
    found = []
    for index, text in re.findall(r"^\[(\d+)\] user: (.+)$", prompt, re.MULTILINE)[:3]:
        found.append(
            {
                "label": "Thoughts/Curiosity",
                "type": "direct",
                "about": "user",
                "value": f"Said: {text[:80]}",
                "turn": int(index),
                "quote": text[:40],
                "confidence": 80,
                "time_scope": "unknown",
            }
        )
    return {"memories": found}


def answer(body: dict) -> str:
    prompt = "\n".join(message["content"] for message in body["messages"])
    asked = {name: part for name, part in body.items() if name != "n"}  # a number of choices, which it does not give
    rng = random.Random(hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest())
    wanted = body.get("response_format")
    if wanted is None:
        return "I hear you. " + words(rng, 30) + "."
    if wanted["json_schema"]["name"] == "memories":
        return json.dumps(notes(prompt))
    if wanted["json_schema"]["name"] == "safety":  # words that stand nowhere would be no usable answer
        kinds = ("self_harm", "abuse", "minor", "medical_emergency")
        return json.dumps({kind: {"quote": "", "present": False} for kind in kinds})
    return json.dumps(fill(wanted["json_schema"]["schema"], rng))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # head and body are two writes, and the second must not wait for the first one's receipt
    )
    log_path = ""
    delay = 0.0
    lock = threading.Lock()
    given: ClassVar[set[str]] = set()

    def take_turn(self, key: str) -> None:
        """Wait until this question may be answered."""
        while not self.may_answer(key):
            time.sleep(0.01)

    def may_answer(self, key: str) -> bool:
        try:
            most = int(Path(f"{self.log_path}.hold").read_text())
        except FileNotFoundError:
            most = sys.maxsize
        with self.lock:
            if key not in self.given and len(self.given) >= most:
                return False
            self.given.add(key)
            return True

    def note(self, what: str, key: str) -> None:
        with self.lock, open(self.log_path, "a", encoding="utf-8") as log:
            if not log.tell():
                self.given.clear()
            log.write(f"{what} {key}\n")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
        self.note("start", key)
        time.sleep(self.delay)
        self.take_turn(key)
        text = answer(body)
        payload = json.dumps(
            {
                "id": key,
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
            }
        ).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)
            self.wfile.flush()
        except OSError:
            return
        self.note("done", f"{key} {hashlib.sha256(text.encode()).hexdigest()[:16]}")

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Handler.log_path = sys.argv[1]
    Handler.delay = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    server = Server(("127.0.0.1", int(sys.argv[3]) if len(sys.argv) > 3 else 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
