"""A judge is asked once for each item, and every answer of it can be read again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from salmonn_lab.metrics.judge import RULES, AnswerCache, JudgeRating, RatingRule

TEMPLATE = "Q: {question}\nRight: {references}\nGiven: {output}\nRate it."


class Scripted:
    """A judge that gives its answers in turn, and counts the questions."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self.answers.pop(0)


def rating(judge: Scripted, path: Path, rule: str = "one_to_five") -> JudgeRating:
    return JudgeRating(judge, "scripted", TEMPLATE, path, rule)


def test_the_mean_is_over_answers_that_could_be_read(tmp_path: Path) -> None:
    judge = Scripted("Rating: 4", "I cannot say.", "[[2]]")
    metric = rating(judge, tmp_path / "answers.jsonl")
    metric.update(["a", "b", "c"], [["x"], ["y"], ["z", "w"]], ["1", "2", "3"], ["who?", "what?", "where?"])
    assert metric.compute()["judge_rating"].item() == 3
    assert metric.compute()["judge_parsed"].item() == pytest.approx(2 / 3)
    assert judge.prompts[2] == "Q: where?\nRight: z\nw\nGiven: c\nRate it."


def test_no_answer_that_could_be_read_is_no_rating(tmp_path: Path) -> None:
    metric = rating(Scripted("?"), tmp_path / "answers.jsonl")
    metric.update(["a"], [["x"]], ["1"])
    assert math.isnan(metric.compute()["judge_rating"].item())
    assert metric.compute()["judge_parsed"].item() == 0


def test_an_output_that_looks_like_a_place_of_the_template_stays_as_it_is(tmp_path: Path) -> None:
    judge = Scripted("3")
    rating(judge, tmp_path / "answers.jsonl").update(["{references} {x}"], [["secret"]], ["1"])
    assert "Given: {references} {x}\n" in judge.prompts[0]


def test_a_second_run_asks_only_what_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    first = Scripted("Rating: 1", "Rating: 2")
    rating(first, path).update(["a", "\ud800"], [["x"], ["y"]], ["1", "2"])
    second = Scripted("Rating: 5")
    metric = rating(second, path)
    metric.update(["a", "\ud800", "c"], [["x"], ["y"], ["z"]], ["1", "2", "3"])
    assert len(second.prompts) == 1
    assert metric.compute()["judge_rating"].item() == pytest.approx(8 / 3)
    assert [json.loads(line)["answer"] for line in path.read_text().splitlines()] == [f"Rating: {n}" for n in (1, 2, 5)]


@pytest.mark.parametrize("cut", [1, 5, 20, 39])
def test_a_torn_last_line_is_asked_again(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rating(Scripted("Rating: 1", "Rating: 2"), path).update(["a", "b"], [["x"], ["y"]], ["1", "2"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    judge = Scripted("Rating: 2")
    with pytest.warns(UserWarning, match=r"answers\.jsonl: cut off the last line, which is torn"):
        metric = rating(judge, path)
    metric.update(["a", "b"], [["x"], ["y"]], ["1", "2"])
    assert len(judge.prompts) == 1
    assert path.read_bytes() == whole


def test_a_line_in_the_middle_that_is_no_answer_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    deep = '{"model": ' + 3000 * "[" + 3000 * "]" + "}"
    wrong = '{"model": "scripted", "prompt": "p", "answer": 4}'
    for line in ("{", "[]", '{"model": "scripted"}', '{"model": "other", "prompt": null, "answer": ""}', wrong, deep):
        path.write_text(f'{{"model": "m", "prompt": "p", "answer": "a"}}\n{line}\n')
        with pytest.raises(ValueError, match=r"answers\.jsonl:2: not an answer of a judge"):
            AnswerCache(path, "scripted")


def test_answers_of_another_judge_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rating(Scripted("Rating: 1"), path).update(["a"], [["x"]], ["1"])
    other = Scripted("Rating: 5")
    metric = JudgeRating(other, "another", TEMPLATE, path, "one_to_five")
    metric.update(["a"], [["x"]], ["1"])
    assert metric.compute()["judge_rating"].item() == 5


def test_a_judge_that_fails_leaves_the_answers_before(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with pytest.raises(IndexError):
        rating(Scripted("Rating: 1"), path).update(["a", "b"], [["x"], ["y"]], ["1", "2"])
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("rule", "answer", "expected"),
    [
        ("one_to_ten", "Rating: 7", 7),
        ("one_to_ten", "The answer is fine.\nScore: 8.5", 8.5),
        ("one_to_ten", "[[9]] because the score of 3 would be unfair", 9),
        ("one_to_ten", "7", 7),
        ("one_to_ten", "**7/10**", 7),
        ("one_to_ten", "7 out of 10.", 7),
        ("one_to_ten", "Score: 11", None),
        ("one_to_ten", "0", None),
        ("one_to_ten", "Score: 3. No, score: 4", None),
        ("one_to_ten", "There are 3 dogs in it.", None),
        ("one_to_ten", "On a scale of 1 to 10 it is good", None),
        ("one_to_ten", "The score is from 1 to 10.", None),
        ("one_to_ten", "", None),
        ("zero_to_five", "Rating: 0", 0),
        ("zero_to_five", "-1", None),
        ("zero_to_five", "Score: -1", None),
        ("zero_to_five", "Score - 1", 1),
        ("one_to_five", "Rating: **4**", 4),
        ("verdict", "Yes, both say so.", 1),
        ("verdict", "**Incorrect**: it is a cat", 0),
        ("verdict", "It is correct", None),
        ("verdict", "Nothing", None),
    ],
)
def test_a_rule_reads_this_from_an_answer(rule: str, answer: str, expected: float | None) -> None:
    assert RULES[rule].function(answer) == expected


def test_the_signature_shows_judge_prompt_and_rule(tmp_path: Path) -> None:
    one = rating(Scripted(), tmp_path / "a").signature
    other = JudgeRating(Scripted(), "scripted", TEMPLATE + " Now.", tmp_path / "a", "one_to_five").signature
    assert one != other
    assert one.startswith("judge|model:scripted|prompt:")
    assert "|rule:one_to_five@1|" in one
    own = JudgeRating(Scripted(), "m", TEMPLATE, tmp_path / "a", RatingRule("own", 2, lambda answer: 1.0))
    assert "|rule:own@2|" in own.signature


def test_what_cannot_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold \{output\}"):
        JudgeRating(Scripted(), "m", "Rate it.", tmp_path / "a")
    with pytest.raises(ValueError, match="no rating rule 'stars'; there are zero_to_five"):
        JudgeRating(Scripted(), "m", TEMPLATE, tmp_path / "a", "stars")
    with pytest.raises(TypeError, match="must answer with a text, got 4"):
        JudgeRating(lambda prompt: 4, "m", TEMPLATE, tmp_path / "a").update(["a"], [["x"]], ["1"])  # type: ignore
