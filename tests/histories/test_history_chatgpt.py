"""The export of a ChatGPT account: the tree of a conversation, and the files it comes in."""

import json
import zipfile

import pytest

from peregrm.dataset.ending import day_said
from peregrm.errors import InputError
from peregrm.histories import detect_format, read_histories


def message(role, *parts, kind="text", **more):
    content = more.pop("content", {"content_type": kind, "parts": list(parts)})
    return {"author": {"role": role}, "content": content, "recipient": "all", "metadata": {}, **more}


def node(parent, said=None):
    return {"parent": parent, "children": [], "message": said}


def talk(text="hi", *, name="c1", time=1_700_000_000.0, **more):
    mapping = {
        "root": node(None),
        "sys": node("root", message("system", "You are kind")),
        "u": node("sys", message("user", text, create_time=time)),
        "a": node("u", message("assistant", "ho", create_time=time + 5)),
    }
    return {"title": "t", "create_time": time, "conversation_id": name, "mapping": mapping, "current_node": "a", **more}


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def said(history):
    return [(turn.role, turn.text) for turn in history.sessions[0].turns]


def test_conversations_of_one_file_are_one_user_in_time_order(tmp_path):
    path = write(
        tmp_path / "conversations.json", [talk("second", name="b", time=1_800_000_000), talk("first", name="a")]
    )
    assert detect_format(path) == "chatgpt"
    (history,) = read_histories(path)
    assert history.user_id == "conversations"
    assert [(s.session_id, s.date, s.turns[0].text) for s in history.sessions] == [
        ("a", "2023-11-14T22:13:20+00:00", "first"), ("b", "2027-01-15T08:00:00+00:00", "second")
    ]  # fmt: skip
    assert history.sessions[0].turns[0].time == "2023-11-14T22:13:20+00:00"
    assert history.notes == {"hidden_turn": 2}
    (named,) = read_histories(path, user="me")
    assert named.user_id == "me"


def test_what_was_said_later_in_a_long_conversation_has_the_day_of_its_turn(tmp_path):
    value = talk(time=1_700_000_000)
    value["mapping"] |= {
        "u2": node("a", message("user", "I moved to Cardiff.", create_time=1_718_000_000.0)),
    }
    (history,) = read_histories(write(tmp_path / "conversations.json", [{**value, "current_node": "u2"}]))
    assert history.sessions[0].date == "2023-11-14T22:13:20+00:00"
    assert day_said(history.sessions[0], len(history.sessions[0].turns) - 1) == "2024-06-10"


def test_only_the_branch_on_the_screen_is_read(tmp_path):
    value = talk()
    value["mapping"] |= {
        "u2": node("sys", message("user", "asked otherwise")),
        "a2": node("u2", message("assistant", "said otherwise")),
        "a3": node("u", message("assistant", "ho again")),
    }
    value["current_node"] = "a3"
    (history,) = read_histories(write(tmp_path / "c.json", [value]))
    assert said(history) == [("user", "hi"), ("assistant", "ho again")]
    assert history.notes == {"hidden_turn": 1, "other_branch": 3}


def test_what_the_user_did_not_see_is_left_out_and_counted(tmp_path):
    hidden = {"is_visually_hidden_from_conversation": True}
    chain = [
        message("user", "my instructions", metadata=hidden),
        message("user", content={"content_type": "user_editable_context", "user_profile": "I am Ana"}),
        message("user", {"content_type": "image_asset_pointer"}, "look at this", kind="multimodal_text"),
        message("assistant", content={"content_type": "thoughts", "thoughts": []}),
        message("assistant", content={"content_type": "code", "text": "search('x')"}, recipient="browser"),
        message("tool", "result"),
        message("assistant", "", "It is \ue200cite\ue202turn0search1\ue201a bird."),
        message("user", {"content_type": "audio_transcription", "text": "thank you"}, kind="multimodal_text"),
        message("assistant", content={"content_type": "code", "text": "print(1)"}),
        message("user", {"content_type": "image_asset_pointer"}, kind="multimodal_text"),
        None,
    ]
    mapping = {str(n): node(str(n - 1) if n else None, each) for n, each in enumerate(chain)}
    value = {"id": "c", "create_time": None, "mapping": mapping, "current_node": str(len(chain) - 1)}
    (history,) = read_histories(write(tmp_path / "c.json", value))
    assert said(history) == [
        ("user", "look at this"), ("assistant", "It is a bird."), ("user", "thank you"), ("assistant", "print(1)")
    ]  # fmt: skip
    assert history.sessions[0].session_id == "c"
    assert history.notes == {
        "citation_removed": 1, "empty_turn": 1, "hidden_turn": 3, "non_text_part": 2, "tool_turn": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("current", "notes"), [(None, {"hidden_turn": 1}), ("gone", {"current_node_missing": 1, "hidden_turn": 1})]
)
def test_without_a_current_node_the_branch_with_the_latest_end_is_read(tmp_path, current, notes):
    value = talk(current_node=current)
    value["mapping"]["late"] = node("u", message("assistant", "the latest", create_time=1_700_000_900))
    (history,) = read_histories(write(tmp_path / "c.json", [value]))
    assert said(history)[-1] == ("assistant", "the latest")
    assert history.notes == notes | {"other_branch": 1}


def circle():
    value = talk()
    value["mapping"]["root"]["parent"] = "a"
    return value


def changed(**changes):
    value = talk()
    value["mapping"]["u"]["message"] |= changes
    return value


BAD = {
    "circle": (circle(), "mapping goes in a circle at 'a'"),
    "mapping a list": (talk(mapping=[]), "mapping must be an object, not a list"),
    "a node is text": (talk(mapping={"a": "x"}), "mapping.a must be an object, not a text"),
    "no author": (talk(mapping={"a": node(None, {"content": {}})}), "missing field mapping.a.message.author"),
    "no content": (changed(content=None), "mapping.u.message.content must be an object, not null"),
    "no parts": (changed(content={"content_type": "text"}), "missing field mapping.u.message.content.parts"),
    "a part is a number": (changed(content={"content_type": "text", "parts": [3]}), r"parts\[0\] must be an object, not a number"),
    "time a text": (changed(create_time="now"), "create_time must be a number, not a text"),
    "recipient a number": (changed(recipient=3), "recipient must be a text, not a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_malformed_conversations_are_one_line_with_their_place(tmp_path, case):
    value, message_ = BAD[case]
    path = write(tmp_path / "conversations.json", [value, talk("fine", name="d")])
    with pytest.raises(InputError, match=message_) as caught:
        list(read_histories(path, format="chatgpt"))
    assert str(caught.value).startswith(f"{path}: record 1: ")
    assert [s.session_id for s in next(read_histories(path, format="chatgpt", on_bad="skip")).sessions] == ["d"]


def test_an_export_without_a_word_is_an_error_and_an_empty_conversation_is_counted(tmp_path):
    with pytest.raises(InputError, match="the history of user 'c' has no turns"):
        list(read_histories(write(tmp_path / "c.json", [talk(mapping={})])))
    (history,) = read_histories(write(tmp_path / "c.json", [talk(mapping={}), talk()]))
    assert history.notes == {"current_node_missing": 1, "empty_session": 1, "hidden_turn": 1}


def test_an_unpacked_export_reads_only_conversations_and_hashes_the_account(tmp_path):
    write(tmp_path / "conversations-000.json", [talk("b", name="b", time=1_800_000_000)])
    write(tmp_path / "conversations-001.json", [talk("a", name="a")])
    write(tmp_path / "user.json", {"id": "user-Secret", "email": "ana@example.org"})
    write(tmp_path / "message_feedback.json", [{"rating": 1}])
    (history,) = read_histories(tmp_path)
    assert [session.session_id for session in history.sessions] == ["a", "b"]
    assert history.user_id.startswith("chatgpt-")
    assert "Secret" not in history.model_dump_json()
    assert "ana@" not in history.model_dump_json()
    (one,) = read_histories(tmp_path / "conversations-001.json")
    assert one.user_id == history.user_id
    (tmp_path / "user.json").write_text("no JSON")
    assert [each.user_id for each in read_histories(tmp_path)] == ["conversations"]


def pack(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name.replace("__", "/"), value if isinstance(value, str) else json.dumps(value))
    return path


def test_the_zip_as_downloaded(tmp_path):
    members = {
        "conversations.json": [talk("a", name="a"), talk("b", name="b")],
        "chat.html": "<html>",
        "user.json": {"id": "u"},
    }
    path = pack(tmp_path / "export.zip", **members)
    assert detect_format(path) == "chatgpt"
    (history,) = read_histories(path)
    assert len(history.sessions) == 2
    assert history.user_id.startswith("chatgpt-")
    assert history.source == str(path)
    pack(tmp_path / "photos.zip", **{"a.txt": "not read"})
    assert [each.id for each in read_histories(tmp_path)] == [history.id]
    parts = {"x__conversations-000.json": [talk("a", name="a")], "x__conversations-001.json": [talk("b", name="b")]}
    (parted,) = read_histories(pack(tmp_path / "parts.zip", **parts))
    assert (parted.user_id, len(parted.sessions)) == ("parts", 2)


def test_damaged_and_other_zips(tmp_path):
    good = pack(tmp_path / "a.zip", **{"conversations.json": [talk("x" * 5000)]})
    data = good.read_bytes()
    spoiled = tmp_path / "spoiled.zip"
    spoiled.write_bytes(data[:60] + b"\0\0\0\0" + data[64:])
    cut = tmp_path / "cut.zip"
    cut.write_bytes(data[:-30])
    other = pack(tmp_path / "other.zip", **{"notes.txt": "hi"})
    bad_json = pack(tmp_path / "bad.zip", **{"conversations.json": "[{"})
    locked = tmp_path / "locked.zip"
    flagged = bytearray(data)
    flagged[6] |= 1
    flagged[data.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(bytes(flagged))
    for path, message_ in [
        (spoiled, "spoiled.zip/conversations.json: (truncated or damaged gzip|damaged zip)"),
        (cut, "cut.zip: damaged zip"),
        (other, "other.zip: is a zip without conversations.json"),
        (bad_json, "bad.zip/conversations.json:1: invalid JSON"),
        (locked, "locked.zip: the zip is encrypted"),
    ]:
        with pytest.raises(InputError, match=message_) as caught:
            list(read_histories(path))
        assert "\n" not in str(caught.value)
