"""Small stand-ins for a checkout of A-MEM and one of MemoryOS, in the shapes of the originals."""

from __future__ import annotations

from pathlib import Path

AMEM = '''
import json
from .llm_controller import LLMController
from .retrievers import ChromaRetriever

class AgenticMemorySystem:
    """The calls that the adapter makes, in the shapes of the original."""
    def __init__(self, model_name="all-MiniLM-L6-v2"):
        ChromaRetriever(collection_name="memories", model_name=model_name).client.reset()
        self.retriever = ChromaRetriever(collection_name="memories", model_name=model_name)
        self.llm_controller = LLMController("openai", "gpt", None)
        self.memories = {}

    def analyze_content(self, content):
        print("the user says", content)
        schema = {"type": "object", "properties": {"context": {"type": "string"}}}
        wanted = {"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}
        try:
            answer = json.loads(self.llm_controller.llm.get_completion("Analyse: " + content, response_format=wanted))
            return {"keywords": [], "tags": [], "context": answer["context"]}
        except Exception:
            return {"keywords": [], "tags": [], "context": "General"}

    def add_note(self, content, time=None, **known):
        key = f"key{len(self.memories)}"
        self.memories[key] = type("MemoryNote", (), {"content": content, "context": known.get("context", "General")})()
        self.retriever.add_document(content, {"content": content}, key)
        return key

    def search_agentic(self, query, k=5):
        found = self.retriever.search(query, k)
        return [{"id": i, "score": d, "is_neighbor": False} for i, d in zip(found["ids"][0], found["distances"][0])]

    def read(self, key):
        return self.memories.get(key)

    def update(self, key, **fields):
        self.memories[key].content = fields["content"]
        self.retriever.delete_document(key)
        self.retriever.add_document(fields["content"], {}, key)
        return True

    def delete(self, key):
        self.retriever.delete_document(key)
        del self.memories[key]
        return True
'''

MEMORYOS = '''
import json, os
from pathlib import Path
from .utils import OpenAIClient, get_embedding

class Memoryos:
    """The calls that the adapter makes, in the shapes of the original: no deletion, one assistant for all."""
    def __init__(self, user_id, openai_api_key, data_storage_path, openai_base_url=None, assistant_id="shared", llm_model=""):
        self.client = OpenAIClient(api_key=openai_api_key)
        self.file = os.path.join(data_storage_path, "users", user_id, "short_term.json")
        os.makedirs(os.path.dirname(self.file), exist_ok=True)
        self.pages = json.loads(Path(self.file).read_text()) if os.path.exists(self.file) else []
        self.profile = "None"
        self.retriever = self.short_term_memory = self.user_long_term_memory = self

    def add_memory(self, user_input, agent_response, timestamp=None):
        print("Memoryos:", user_input)
        self.pages.append({"user_input": user_input, "agent_response": agent_response, "timestamp": timestamp})
        with open(self.file, "w") as file:
            json.dump(self.pages, file)
        self.profile = self.client.chat_completion(model="m", messages=[{"role": "user", "content": user_input}]) or "None"

    def get_all(self):
        return self.pages[-2:]

    def get_user_knowledge(self):
        return [{"knowledge": "knows " + page["user_input"], "timestamp": ""} for page in self.pages[:1]]

    def get_user_profile_summary(self):
        return self.profile

    def retrieve_context(self, user_query, user_id):
        query = get_embedding(user_query, model_name="x")
        near = sorted(self.pages, key=lambda page: -float(query @ get_embedding(page["user_input"])))
        return {"retrieved_pages": near[:1], "retrieved_user_knowledge": self.get_user_knowledge(),
                "retrieved_assistant_knowledge": []}
'''

REFUSES = "raise RuntimeError('the adapter must put its own in place of this')\n"


def write_package(folder: Path, **modules: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def amem_at(folder: Path) -> Path:
    """Write the stand-in for A-MEM and return its checkout."""
    shared = f"class ChromaRetriever:\n    def __init__(self, *a, **k):\n        {REFUSES}"
    model = f"class LLMController:\n    def __init__(self, *a, **k):\n        {REFUSES}"
    write_package(folder / "A-mem/agentic_memory", memory_system=AMEM, retrievers=shared, llm_controller=model)
    return folder / "A-mem"


def memoryos_at(folder: Path) -> Path:
    """Write the stand-in for MemoryOS and return its checkout."""
    parts = f"class OpenAIClient:\n    def __init__(self, **k):\n        {REFUSES}\ndef get_embedding(*a, **k):\n    {REFUSES}"
    write_package(folder / "MemoryOS/memoryos-pypi", memoryos=MEMORYOS, utils=parts)
    return folder / "MemoryOS"
