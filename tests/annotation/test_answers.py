"""labels.jsonl: what is appended is read back, what was cut off counts for nothing, and the last word stands."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambo_ray.annotation import answers
from rambo_ray.annotation.answers import Answer, Writer
from rambo_ray.errors import UserError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def said(draw: st.DrawFn) -> Answer:
    image, annotator = draw(st.sampled_from("abc")), draw(texts)
    what = draw(st.sampled_from(["label", "rejected", "skipped", "undo"]))
    if what == "label":
        return Answer(image, draw(texts), annotator, draw(texts))
    return Answer(image, None, annotator, draw(texts), **{what: True})


@given(st.lists(said(), max_size=12), st.integers(0, 10_000))
def test_what_is_written_is_read_wherever_it_is_cut_off(given_answers: list[Answer], cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.jsonl")
        writer = Writer(path)
        for answer in given_answers:
            writer.append(answer)
        writer.close()
        assert answers.read(path).answers == tuple(given_answers) and answers.read(path).torn is None
        content = path.read_bytes()[:cut]
        path.write_bytes(content)
        whole = content.count(b"\n")
        log = answers.read(path)
        assert log.answers == tuple(given_answers[:whole])
        assert (log.torn is None) == (content == b"" or content.endswith(b"\n"))
        again = Writer(path)
        assert again.torn == log.torn
        again.append(Answer("z", "cat"))
        again.close()
        assert answers.read(path).answers == (*given_answers[:whole], Answer("z", "cat"))


@given(st.lists(said(), max_size=20))
def test_the_last_word_of_each_annotator_stands(given_answers: list[Answer]) -> None:
    expected = {}
    for answer in given_answers:
        key = (answer.annotator, answer.id)
        expected[key] = answer
    assert answers.standing(given_answers) == [a for a in expected.values() if not a.undo]


def test_an_undone_answer_is_gone_and_can_be_given_again() -> None:
    first, undo, again = Answer("a", "cat", "mia"), Answer("a", None, "mia", undo=True), Answer("a", "dog", "mia")
    other = Answer("a", "cat", "ben")
    assert answers.standing([first, other, undo]) == [other]
    assert answers.standing([first, other, undo, again]) == [again, other]


@pytest.mark.parametrize(
    "keys", [{}, {"rejected": True, "skipped": True}, {"undo": True, "label": "cat"}, {"rejected": True, "label": ""}]
)
def test_an_answer_is_one_thing(keys: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Answer("a", **{"label": None, **keys})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "said_of_it"),
    [
        ("", "Expecting value"),
        ("{", "Expecting"),
        ("[1]", "not a JSON object"),
        ('{"label": "cat"}', "id"),
        ('{"id": 3, "label": "cat"}', "id is no string"),
        ('{"id": "a", "label": 3}', "label is no string"),
        ('{"id": "a", "label": "cat", "rejected": true}', "exactly one"),
        ('{"id": "a"}', "exactly one"),
        ('{"id": "a", "rejected": 1}', "neither true nor false"),
    ],
)
def test_a_line_that_is_none_is_named(line: str, said_of_it: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(answers.to_line(Answer("a", "cat")) + line + "\n" + answers.to_line(Answer("b", "cat")))
    with pytest.raises(UserError, match=r"labels\.jsonl line 2: is no answer") as error:
        answers.read(path)
    assert said_of_it in str(error.value)


def test_other_keys_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"id": "a", "label": "cat", "seconds": 2.5}) + "\n")
    assert answers.read(path).answers == (Answer("a", "cat"),)


def _append(path: str, annotator: str) -> None:
    writer = Writer(path)
    for number in range(50):
        writer.append(Answer(str(number), "cat" * 50, annotator))


def test_several_processes_do_not_collide(tmp_path: Path) -> None:
    path = str(tmp_path / "labels.jsonl")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(path, name)) for name in ("mia", "ben")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    found = answers.read(path).answers
    for name in ("mia", "ben"):
        assert [a.id for a in found if a.annotator == name] == [str(i) for i in range(50)]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write"):
        Writer(tmp_path / "none" / "labels.jsonl")
    with pytest.raises(UserError, match="No such file"):
        answers.read(tmp_path / "labels.jsonl")
