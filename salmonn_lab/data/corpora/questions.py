"""Questions about clips whose content is known: yes or no, which, how many, one of four."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from salmonn_lab.data.corpora.sounds import SoundClip
from salmonn_lab.data.corpora.speech import Utterance, plan

KINDS = ("yes_no", "which", "four_choice", "how_many")
SHARES = (0.4, 0.2, 0.3, 0.1)
"""How often each kind is asked."""
SLOTS = {
    "room": "room",
    "device": "device",
    "person": "person",
    "city": "city",
    "music": "kind of music",
    "item": "item",
}
"""Slots of a command that are asked for, and how."""
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Question:
    """A question about a clip, and its answer."""

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...]
    """What may be answered; empty where anything may."""


def ask_about_sounds(clips: Sequence[SoundClip], count: int, seed: str) -> list[tuple[SoundClip, Question]]:
    """Return `count` clips with a question each; how many is asked only of clips that can be counted."""
    chance = random.Random(seed)
    labels = sorted({clip.label for clip in clips})
    asked = []
    for kind in chance.choices(KINDS, SHARES, k=count):
        clip = chance.choice([clip for clip in clips if kind != "how_many" or clip.hits])
        if kind == "how_many":
            text = f"How many times is the {clip.label} heard?"
            question = Question(kind, text, NUMBER_WORDS[clip.hits], NUMBER_WORDS[1:5])
        else:
            question = ask(kind, clip.label, labels, "Is this the sound of: {}?", "Which sound is heard", chance)
        asked.append((clip, question))
    return asked


def ask_about_speech(utterances: Sequence[Utterance], count: int, seed: str) -> list[tuple[Utterance, Question]]:
    """Return `count` utterances with a question each: about a slot of a command, or the digits of a number."""
    chance = random.Random(seed)
    commands = [utterance for utterance in utterances if SLOTS.keys() & utterance.slots.keys()]
    digits = [utterance for utterance in utterances if set(utterance.text.split()) <= set(NUMBER_WORDS)]
    values = {slot: sorted({u.slots[slot] for u in plan("train") if slot in u.slots}) for slot in SLOTS}
    asked = []
    for kind in chance.choices(KINDS, SHARES, k=count):
        if kind == "how_many":
            utterance = chance.choice(digits)
            answer = NUMBER_WORDS[int(utterance.slots["digits"])]
            question = Question(kind, "How many digits are said?", answer, NUMBER_WORDS[2:6])
        else:
            utterance = chance.choice(commands)
            slot = chance.choice(sorted(SLOTS.keys() & utterance.slots.keys()))
            name = SLOTS[slot]
            question = ask(kind, utterance.slots[slot], values[slot], "Is {} named?", f"Which {name} is named", chance)
        asked.append((utterance, question))
    return asked


def ask(kind: str, right: str, others: Sequence[str], yes_no: str, which: str, chance: random.Random) -> Question:
    """Return a question whose right answer, or the thing it asks after, is `right`."""
    wrong = chance.sample([other for other in others if other != right], 3)
    if kind == "yes_no":
        answer = chance.choice(("yes", "no"))
        return Question(kind, yes_no.format(right if answer == "yes" else wrong[0]), answer, ("yes", "no"))
    if kind == "which":
        return Question(kind, f"{which}?", right, ())
    choices = chance.sample([right, *wrong], 4)
    return Question(kind, f"{which}: {', '.join(choices[:3])} or {choices[3]}?", right, tuple(choices))
