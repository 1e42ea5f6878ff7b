"""Long-term memory stores behind one interface: what is kept about a user, and what of it is brought into a reply.

```python
store = open_store("default", "memory.sqlite")
await store.add("ada", [Note(user_id="ada", text="Her sister lives in Leeds")])
found = await store.search("ada", "Should I visit my sister?", limit=5)
```
`await store.aclose()` frees the file, or `contextlib.aclosing` does.
"""

from peregrm.memory.base import Added, Capabilities, Found, MemoryStore, Note, notes_of_history, notes_of_memories
from peregrm.memory.factory import open_store, store_names

__all__ = [
    "Added",
    "Capabilities",
    "Found",
    "MemoryStore",
    "Note",
    "notes_of_history",
    "notes_of_memories",
    "open_store",
    "store_names",
]
