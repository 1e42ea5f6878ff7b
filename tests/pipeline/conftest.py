"""A scripted HTTP server in a process of its own, ways to run the command, and a run small enough to be quick."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from peregrm.cli import main
from peregrm.records import Case, Evidence, Memory, Reward
from peregrm.store import Workspace, read_records, write_records

SERVER = Path(__file__).with_name("schema_server.py")

TURNS = [
    "My brother Tom cancelled our dinner again and I laughed it off, which I always do.",
    "I am a nurse on nights, so I answer when I wake up at four in the afternoon.",
    "Please be blunt with me. I cannot stand it when people wrap things up in cotton wool.",
    "The piano came today and the stairs nearly won.",
]


@dataclass
class SchemaServer:
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it in the middle of whatever it answers."""
        self.process.kill()
        self.process.wait()

    @property
    def spec(self) -> str:
        return f"scripted@http://127.0.0.1:{self.port}/v1"

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def starts(self) -> list[str]:
        return [line[1] for line in self.lines() if line[0] == "start"]

    def done(self) -> list[str]:
        return [line[1] for line in self.lines() if line[0] == "done"]

    def hold_at(self, questions: int | None) -> None:
        """Answer no more questions of this log than so many; None: all."""
        hold = self.log.with_name(f"{self.log.name}.hold")
        if questions is None:
            hold.unlink(missing_ok=True)
            return
        new = hold.with_suffix(".new")
        new.write_text(str(questions))
        new.replace(hold)


@contextmanager
def servers(folder: Path) -> Iterator[Callable[..., SchemaServer]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str = "calls", delay: float = 0.0, port: int = 0) -> SchemaServer:
        log = folder / f"{name}.log"
        command = [sys.executable, str(SERVER), str(log), str(delay), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        processes.append(process)
        assert process.stdout is not None
        return SchemaServer(int(process.stdout.readline()), log, process)

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., SchemaServer]]:
    """Start a server of this test's own, whose log holds nothing else."""
    with servers(tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaServer]:
    """One quick server for all tests that ask only how many calls were added."""
    with servers(tmp_path_factory.mktemp("server")) as start:
        yield start()


@pytest.fixture
def peregrm() -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "peregrm.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)

    return call


class Ended(NamedTuple):
    """How a command ended. `errors` are the lines of standard error by which it says why it failed."""

    code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("peregrm: ")]

    def failed_with_one_line(self, *parts: str) -> None:
        """Check that the command failed with one clear line, the last one, that holds `parts`."""
        assert self.code == 1, self.stderr
        assert len(self.errors) == 1, self.stderr
        assert self.stderr.splitlines()[-1] == self.errors[0]
        assert "Traceback" not in self.stderr
        for part in parts:
            assert part in self.errors[0], self.errors[0]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ended]:
    """Run the command in this process, in an empty folder: what would be a traceback is raised and fails the test."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def call(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Ended(ended.value.code if isinstance(ended.value.code, int) else 0, said.out, said.err)

    return call


@dataclass
class Small:
    """One user's short history and one hand-written case, whose recorded replies are always there to be judged."""

    histories: Path
    gold: Path

    def command(self, out: Path, server: SchemaServer, *more: str) -> list[str | Path]:
        methods = ["--model", server.spec, "--memories", "model", "--criteria", "model"]
        return ["run", self.histories, "--gold", self.gold, "-o", out, *methods, "--show", "0", *more]


def history_line(user: str = "ada", turns: list[str] | None = None) -> str:
    said = [{"role": "user", "text": text} for text in (turns or TURNS)]
    talk = [turn for text in said for turn in (text, {"role": "assistant", "text": "Go on."})]
    return json.dumps({"user_id": user, "language": "en", "sessions": [{"session_id": "s1", "turns": talk}]}) + "\n"


def write_gold(folder: Path, user: str = "ada", **changes: object) -> Path:
    """Write a gold file of one case with the memory it names beside it."""
    evidence = (Evidence(session_id="s1", turn=4, quote="be blunt"),)
    memory = Memory(
        user_id=user,
        label="Preferences/Interaction_Preferences",
        type="direct",
        value="wants blunt answers",
        evidence=evidence,
        method="hand",
    )
    case = {
        "user_id": user,
        "language": "en",
        "category": "emotional_support",
        "situation": "Tom has cancelled their dinner again.",
        "query": "he's done it again. am I daft to be cross?",
        "memory_ids": [memory.id],
        "replies": [
            {
                "policy": "recorded good",
                "rank": 1,
                "text": "No. Tell him the time, and that you are eating without him.",
            },
            {"policy": "recorded bad", "rank": 2, "text": "I am so sorry you feel this way about dinner."},
        ],
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memories.jsonl").write_text(memory.model_dump_json() + "\n")
    (folder / "gold.jsonl").write_text(json.dumps(case) + "\n")
    return folder / "gold.jsonl"


@pytest.fixture
def make_history() -> Callable[..., str]:
    return history_line


@pytest.fixture
def make_gold() -> Callable[..., Path]:
    return write_gold


@pytest.fixture
def small(tmp_path: Path) -> Small:
    path = tmp_path / "ada.jsonl"
    path.write_text(history_line())
    return Small(path, write_gold(tmp_path / "gold"))


@dataclass
class Finished:
    """A finished run: its folder, the command that made it, and the server it asked."""

    out: Path
    command: list[str | Path]
    server: SchemaServer

    def read(self, name: str, record_type: type) -> list:
        return Workspace(self.out).read(f"{name}.jsonl", record_type)

    def edit(self, name: str, record_type: type, *changed: object) -> None:
        """Replace the first records of an artifact, as somebody with an editor would."""
        records = self.read(name, record_type)
        write_records(self.out / f"{name}.jsonl", [*changed, *records[len(changed) :]])


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, server: SchemaServer) -> Finished:
    """A run made once, with settings that are not the defaults; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "ada.jsonl").write_text(history_line())
    small = Small(folder / "ada.jsonl", write_gold(folder / "gold"))
    command = small.command(folder / "out", server, "--cases", "2", "--samples", "2")
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in command])
    assert not ended.value.code
    return Finished(folder / "out", command, server)


@pytest.fixture
def finished(finished_once: Finished, tmp_path: Path) -> Finished:
    """A copy of a finished run, with the command that goes on with the copy."""
    out = tmp_path / "out"
    shutil.copytree(finished_once.out, out)
    command = [out if part == finished_once.out else part for part in finished_once.command]
    return Finished(out, command, finished_once.server)


@pytest.fixture
def artifacts() -> Callable[[Path], dict[str, bytes]]:
    """Read every file of a run that depends on nothing but its input and its model's answers."""
    of_the_process = {"ledger.json", "calls.sqlite", "calls.sqlite-wal", "calls.sqlite-shm"}

    def read(directory: Path) -> dict[str, bytes]:
        return {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file() and path.name not in of_the_process
        }

    return read


@dataclass
class OneAnswer:
    """A server on this machine that gives every request the same answer."""

    status: int
    kind: str
    body: bytes
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    def serve(self) -> ThreadingHTTPServer:
        fixed = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                fixed.asked.append(self.headers.get("Authorization"))
                self.send_response(fixed.status)
                self.send_header("Content-Type", fixed.kind)
                self.send_header("Content-Length", str(len(fixed.body)))
                self.end_headers()
                self.wfile.write(fixed.body)

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:
                """Say nothing of clients that hung up."""

        server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server


@pytest.fixture
def always() -> Iterator[Callable[[int, str, bytes], OneAnswer]]:
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, kind: str, body: bytes) -> OneAnswer:
        answer = OneAnswer(status, kind, body)
        servers.append(answer.serve())
        return answer

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


POLICIES = {
    "plain": "Say when and where, and go without him.",
    "warm": "I am so sorry. That sounds really hard. You are absolutely right to be cross.",
    "short": "No.",
}


@dataclass
class Task:
    """Cases, replies to them, and the command that scores these by the server."""

    dataset: Path
    replies: Path
    cases: list[Case]
    server: Any
    here: Callable[..., Any]
    folder: Path

    def command(self, name: str, *more: str | Path, replies: Path | None = None) -> list[str | Path]:
        judge = [] if "--judge" in more else ["--judge", self.server.spec]
        return ["score", self.dataset, replies or self.replies, "-o", self.folder / f"{name}.jsonl", *judge, *more]

    def score(self, name: str, *more: str | Path, replies: Path | None = None) -> Any:
        ended = self.here(*self.command(name, *more, replies=replies))
        assert ended.code == 0, ended.stderr
        return ended

    def rewards(self, name: str) -> list[Reward]:
        return read_records(self.folder / f"{name}.jsonl", Reward)

    def part(self, name: str, part: str, record_type: type) -> list:
        return read_records(self.folder / f"{name}.parts" / f"{part}.jsonl", record_type)

    def summary(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{name}.parts" / "summary.json").read_text())

    def bytes(self, name: str) -> dict[str, bytes]:
        paths = [self.folder / f"{name}.jsonl", *(self.folder / f"{name}.parts").iterdir()]
        return {
            path.name.replace(name, "scores"): path.read_bytes() for path in paths if "calls.sqlite" not in path.name
        }

    def asked(self) -> int:
        return len(self.server.starts())


@pytest.fixture
def task(finished_once: Any, server: Any, here: Callable, tmp_path: Path) -> Task:
    """Three cases without criteria, three replies to each."""
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    shutil.copy(finished_once.out / "cases.jsonl", dataset)
    cases = read_records(dataset / "cases.jsonl", Case)
    assert len(cases) == 3
    replies = tmp_path / "mine.jsonl"
    replies.write_text(
        "\n".join(json.dumps({"case_id": c.id, "policy": p, "response": r}) for c in cases for p, r in POLICIES.items())
    )
    (tmp_path / "out").mkdir()
    return Task(dataset, replies, cases, server, here, tmp_path / "out")


@pytest.fixture(scope="session")
def cases(case: Case) -> dict[str, Case]:
    """Four cases of two users; two users send the same words, and one case came from a query of the pipeline."""
    made = [
        case.model_copy(update={"query_id": "qry-1"}),
        case.model_copy(update={"query": "the piano is stuck on the stairs"}),
        case.model_copy(update={"query": "我又值夜班了，怎么办？"}),
        case.model_copy(update={"user_id": "bea", "query": "the piano is stuck on the stairs"}),
    ]
    return {one.id: one for one in made}
