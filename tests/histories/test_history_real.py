"""Published histories, where they are on this machine."""

from collections import Counter

from peregrm.histories import detect_format, read_histories
from published_data import PUBLISHED, needs

SESSIONS = PUBLISHED / "histories" / "alps_sessions_dev.jsonl.gz"
PACKETS = PUBLISHED / "benchmarks" / "alpsbench_packets_dev.jsonl.gz"
BANK = PUBLISHED / "histories" / "memorybank_en.json"


@needs(SESSIONS)
def test_all_published_sessions_are_read():
    assert detect_format(SESSIONS) == "record"
    statuses, notes, languages = Counter(), Counter(), Counter()
    users = set()
    for history in read_histories(SESSIONS):
        users.add(history.user_id)
        notes.update(history.notes)
        languages[history.language] += 1
        turns = {session.session_id: session.turns for session in history.sessions}
        for memory in history.memories:
            statuses[memory.status] += 1
            assert memory.status == "rejected" or "[ERROR" not in memory.value
            assert memory.reason is not None or memory.status == "kept"
            assert all(each.quote in turns[each.session_id][each.turn].text for each in memory.evidence)
    assert len(users) == 1295
    assert statuses.total() == 3447
    assert notes["rejected_memory"] == 357
    assert statuses["rejected"] == 357 + 75  # whose quotes stand nowhere
    assert notes["evidence_not_found"] < 0.03 * 3447
    assert languages["en"] < 0.6 * 1295 < languages["en"] + languages["zh"]


@needs(PACKETS)
def test_all_published_packets_are_read():
    assert detect_format(PACKETS) == "alpsbench"
    histories = list(read_histories(PACKETS))
    assert len(histories) == 60
    assert [history.user_id for history in histories] == sorted(history.user_id for history in histories)
    memories = [memory for history in histories for memory in history.memories]
    assert Counter(memory.status for memory in memories) == {"kept": 137, "rejected": 14 + 3}
    for history in histories:
        (session,) = history.sessions
        for memory in history.memories:
            assert all(each.quote in session.turns[each.turn].text for each in memory.evidence)


@needs(BANK)
def test_memorybank_is_read():
    assert detect_format(BANK) == "memorybank"
    histories = list(read_histories(BANK))
    assert len(histories) == 10
    assert all(history.user_id == history.user_id.strip() for history in histories)
    assert sum(len(session.turns) for history in histories for session in history.sessions) == 768
    dates = [[session.date for session in history.sessions] for history in histories]
    assert all(each == sorted(each) for each in dates)
