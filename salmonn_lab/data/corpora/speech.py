"""Synthetic speech: short commands, numbers and everyday sentences, spoken by the Pico engine of `py-nanotts`."""

from __future__ import annotations

import ctypes
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count, islice, product, zip_longest
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from salmonn_lab.data.corpora.splits import Split, check_plan, generator_of

Kind = Literal["command", "number", "open"]

SAMPLE_RATE = 16_000
PEAK = 0.9
SNR_DECIBEL = (20.0, 35.0)
SIZES: Mapping[Split, Mapping[Kind, int]] = {
    "train": {"command": 1500, "number": 800, "open": 400},
    "validation": {"command": 72, "number": 24, "open": 24},
    "test": {"command": 96, "number": 36, "open": 40},
}
"""Utterances at scale 1."""
M_PERTURB = -6
"""malloc.h of glibc."""
OPEN_DRAWS = 200
"""Fillings of a template that are drawn, before duplicates go."""


class Voice(NamedTuple):
    """What the engine is told: a voice of Pico, and multipliers of its pitch and speed."""

    name: str
    pitch: float
    speed: float


@dataclass(frozen=True)
class Utterance:
    """What is said, by whom, and what it means."""

    id: str
    text: str
    """Lower case, no punctuation, numbers in words."""
    kind: Kind
    voice: Voice
    slots: Mapping[str, str]
    """What questions can ask: of a command `action` and its arguments, of a number `number` ("407") and `digits` (how
    many there are, "3"); empty for an open sentence."""


def _voices(name: str, pitches: tuple[float, ...], speeds: tuple[float, ...]) -> tuple[Voice, ...]:
    return tuple(Voice(name, pitch, speed) for pitch, speed in product(pitches, speeds))


VOICES: Mapping[Split, tuple[Voice, ...]] = {
    "train": (
        *_voices("en-GB", (0.8, 0.93, 1.07, 1.2), (0.95, 1.05, 1.15, 1.25)),
        *_voices("en-US", (0.82, 0.95, 1.08, 1.2), (1.0, 1.2)),
    ),
    "validation": (Voice("en-GB", 0.9, 1.08), Voice("en-GB", 1.12, 1.2), Voice("en-US", 1.02, 1.08)),
    "test": (
        Voice("en-GB", 0.86, 1.06),
        Voice("en-GB", 1.0, 1.18),
        Voice("en-GB", 1.14, 1.0),
        Voice("en-US", 0.9, 1.1),
    ),
}


def _list(words: str) -> list[str]:
    return words.split(", ")


UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spell(number: int) -> str:
    """Return a number below 1,000 in words: 245 is `two hundred and forty five`."""
    if number >= 100:
        rest = f" and {spell(number % 100)}" if number % 100 else ""
        return f"{UNITS[number // 100]} hundred{rest}"
    if number >= 20:
        return TENS[number // 10 - 2] + (f" {UNITS[number % 10]}" if number % 10 else "")
    return (UNITS + TEENS)[number]


ROOMS = ["kitchen", "bedroom", "bathroom", "office", "garage", "garden"]
DEVICES = ["light", "fan", "radio", "lamp", "television", "heater"]
OPENINGS = ["door", "window", "gate", "cupboard"]
MUSIC = ["jazz", "blues", "opera", "disco", "rock music", "piano music"]
MOODS = ["some", "quiet", "loud"]
PEOPLE = ["anna", "peter", "sarah", "david", "emma", "robert", "maria", "laura", "my mother", "the doctor"]
TIMES = ["now", "today", "tonight", "tomorrow", "on monday", "on friday"]
TASKS = _list(
    "buy some bread, feed the cat, water the plants, wash the car, clean the floor, pay the rent, walk the dog, "
    "order a taxi, send the letter"
)
TOPICS = ["weather", "traffic"]
CITIES = ["london", "paris", "berlin", "madrid", "dublin", "boston"]
DAYS = ["today", "tonight", "tomorrow", "on monday", "on friday"]
GOODS = ["milk", "butter", "cheese", "sugar", "coffee", "honey", "rice", "apples", "bananas", "potatoes"]
LISTS = ["shopping", "party", "breakfast", "garden"]
COLOURS = ["red", "green", "blue", "yellow", "black", "white"]
OBJECTS = ["box", "book", "chair", "bottle", "jacket", "umbrella"]
NUMBERS = {spell(number): str(number) for number in range(1, 61)}
DEGREES = [spell(number) for number in range(11, 31)]

# A frame: its words with slots in braces, the action it asks for (a pattern of the same slots), what may stand in each.
FRAMES: tuple[tuple[str, str, Mapping[str, list[str]]], ...] = (
    ("turn {state} the {room} {device}", "turn {state}", {"state": ["on", "off"], "room": ROOMS, "device": DEVICES}),
    ("set the {room} heater to {value} degrees", "set", {"room": ROOMS, "value": DEGREES}),
    ("{verb} the {room} {opening}", "{verb}", {"verb": ["open", "close", "lock"], "room": ROOMS, "opening": OPENINGS}),
    ("play {mood} {music} in the {room}", "play", {"mood": MOODS, "music": MUSIC, "room": ROOMS}),
    ("{verb} {person} {time}", "{verb}", {"verb": ["call", "message"], "person": PEOPLE, "time": TIMES}),
    ("remind me to {task} {time}", "remind", {"task": TASKS, "time": TIMES}),
    ("what is the {topic} in {city} {time}", "ask", {"topic": TOPICS, "city": CITIES, "time": DAYS}),
    (
        "start a timer for {value} {unit}",
        "start timer",
        {"value": list(NUMBERS)[1:], "unit": ["minutes", "seconds", "hours"]},
    ),
    ("put {item} on the {list} list", "add", {"item": GOODS, "list": LISTS}),
    ("take {item} off the {list} list", "remove", {"item": GOODS, "list": LISTS}),
    ("bring the {colour} {object} to the {room}", "bring", {"colour": COLOURS, "object": OBJECTS, "room": ROOMS}),
)
WORDS_OF_ACTION = ("state", "verb")
"""Slots that `action` already says."""

Phrase = tuple[str, Mapping[str, str]]
"""A text and its slots."""


def _commands() -> list[list[Phrase]]:
    """Return every command, a list a frame; one in twelve is asked politely."""
    frames = []
    for pattern, action, choices in FRAMES:
        phrases: list[Phrase] = []
        for values in product(*choices.values()):
            filled = dict(zip(choices, values, strict=True))
            slots = {"action": action.format(**filled)}
            slots |= {name: NUMBERS.get(value, value) for name, value in filled.items() if name not in WORDS_OF_ACTION}
            phrases.append((pattern.format(**filled), slots))
        chance = random.Random(pattern)
        frames.append([(f"{text} please" if chance.random() < 1 / 12 else text, slots) for text, slots in phrases])
    return frames


def _numbers() -> list[list[Phrase]]:
    """Return digit strings (twice, so that half of a plan is these), two-digit numbers, and hundreds."""

    def phrase(number: str, text: str) -> Phrase:
        return text, {"number": number, "digits": str(len(number))}

    chance = random.Random("digits")
    strings = dict.fromkeys(
        "".join(chance.choices("0123456789", k=length))
        for length in chance.choices((2, 3, 4, 5), (1, 3, 4, 4), k=6_000)
    )
    digits = [phrase(number, " ".join(UNITS[int(digit)] for digit in number)) for number in strings]
    small, large = (
        [phrase(str(number), spell(number)) for number in span] for span in (range(10, 100), range(100, 1000))
    )
    return [digits[::2], large, digits[1::2], small]


def _sentences() -> list[list[Phrase]]:
    """Return everyday sentences: each template filled at random, a list a template."""
    frames: list[list[Phrase]] = []
    for template in TEMPLATES:
        chance, texts = random.Random(template), dict[str, None]()
        for _ in range(OPEN_DRAWS):
            words = template.split()
            for place, word in enumerate(words):
                if word in LEXICON:
                    words[place] = chance.choice([other for other in LEXICON[word] if other not in words])
            texts[" ".join(words)] = None
        frames.append([(text, {}) for text in texts])
    return frames


POOLS: Mapping[Kind, Callable[[], list[list[Phrase]]]] = {
    "command": _commands,
    "number": _numbers,
    "open": _sentences,
}


@cache
def _pool(kind: Kind, split: Split) -> list[list[Phrase]]:
    """Return the phrases of one split, a list a frame: of ten, one is for validation, one for the test."""
    parts = []
    for frame in POOLS[kind]():
        phrases = sorted(frame, key=lambda phrase: phrase[0])
        random.Random(f"{kind} {phrases[0][0]}").shuffle(phrases)
        held_out = {"validation": phrases[0::10], "test": phrases[5::10]}
        parts.append(held_out.get(split) or [phrase for place, phrase in enumerate(phrases) if place % 5])
    return parts


def _in_turn(parts: list[list[Phrase]]) -> Iterator[Phrase]:
    """Yield a phrase of each frame in turn, without end; a frame that is used up starts again."""
    for turn in count():
        for part in parts:
            yield part[turn % len(part)]


def _each_once(parts: list[list[Phrase]]) -> Iterator[Phrase]:
    """Yield a phrase of each frame in turn, leaving out frames that are used up; after the last phrase start again."""
    while True:
        for row in zip_longest(*parts):
            yield from (phrase for phrase in row if phrase is not None)


def plan(split: Split, scale: float = 1.0) -> list[Utterance]:
    """Return what one split says: `scale` times `SIZES`, at least one of each kind.

    Training hears every frame equally often; validation and test repeat no phrase before all are said.
    No phrase and no voice is in two splits; nor is a combination of slots. Each word of a held-out command or number
    is heard in training. A smaller plan is the beginning, kind by kind, of a larger one.

    Raises:
        ValueError: if there is no such split, or `scale` is not above 0.
    """
    check_plan(split, scale)
    utterances = []
    for kind, size in SIZES[split].items():
        chance = random.Random(f"{split} {kind} voices")
        phrases = (_in_turn if split == "train" else _each_once)(_pool(kind, split))
        for index, (text, slots) in enumerate(islice(phrases, max(1, round(size * scale)))):
            voice = chance.choice(VOICES[split])
            utterances.append(Utterance(f"{split}-{kind}-{index:05d}", text, kind, voice, slots))
    return utterances


@contextmanager
def _zeroed_memory() -> Iterator[None]:
    """Have glibc hand out zeroed memory meanwhile; other C libraries are left as they are.

    py-nanotts 0.1.1 reads memory it never wrote: its noise, and now and then a length, depend on what the process
    did before. glibc fills new blocks with the complement of M_PERTURB's byte (mallopt(3)), and 0 turns that off.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is None:
        yield
        return
    set_option(M_PERTURB, 0xFF)
    try:
        yield
    finally:
        set_option(M_PERTURB, 0)


@cache
def _engine() -> Any:
    try:
        from py_nanotts import NanoTTS
    except ImportError as error:
        raise ImportError("Synthetic speech needs py-nanotts: pip install 'salmonn-lab[quickstart]'") from error
    return NanoTTS()


def speak(utterance: Utterance) -> NDArray[np.float32]:
    """Return the sound, float32 at 16 kHz, its peak at 0.9; with glibc, equal utterances give equal samples.

    Half of them, chosen by id, have white or pink noise at 20 to 35 dB SNR.

    Raises:
        ImportError: without py-nanotts.
    """
    name, pitch, speed = utterance.voice
    engine = _engine()
    with _zeroed_memory():
        pcm = engine.speak(utterance.text, voice=name, pitch=pitch, speed=speed)
    wave = np.frombuffer(pcm, dtype="<i2").astype(np.float64) / 32768
    generator = generator_of(utterance.id)
    if generator.random() < 0.5:
        noise = generator.standard_normal(len(wave))
        if generator.random() < 0.5:
            noise = _pink(noise)
        wave = wave + noise * (wave.std() / noise.std() * 10 ** (-generator.uniform(*SNR_DECIBEL) / 20))
    spoken: NDArray[np.float32] = (wave * (PEAK / np.abs(wave).max())).astype(np.float32)
    return spoken


def _pink(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return white noise with its power falling by 3 dB an octave."""
    spectrum = np.fft.rfft(noise)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, len(noise))


# Everyday sentences. A template's capitals name a list of the lexicon.
TEMPLATES = (
    "the ADJECTIVE ANIMAL is sleeping near the THING",
    "my RELATIVE PAST a ADJECTIVE THING",
    "we PAST a THING at the PLACE WHEN",
    "the JOB lives near the PLACE",
    "can you bring me a ADJECTIVE THING",
    "i would like some FOOD and FOOD",
    "there is a THING on the FURNITURE",
    "the WEATHER was ADVERB strong in the SEASON",
    "she VERBS ADVERB in the PLACE",
    "he never VERBS in the SEASON",
    "her RELATIVE works as a JOB",
    "they will VERB with the JOB WHEN",
    "do not forget your CLOTHING",
    "i like FOOD better with FOOD",
    "we saw a ADJECTIVE ANIMAL at the PLACE",
    "why did the JOB leave so ADVERB",
    "it is too MOOD to VERB here",
    "the children VERB in the PLACE",
    "his ADJECTIVE CLOTHING is on the FURNITURE",
    "i learned to VERB in the SEASON",
    "our RELATIVE is ADVERB MOOD",
    "please put the THING under the FURNITURE",
    "this PLACE has a ADJECTIVE THING",
    "who PAST the FOOD in the PLACE",
    "the ANIMAL and the ANIMAL are MOOD",
    "we need a THING to SHAPE the FURNITURE",
    "the SUBJECT lesson begins WHEN",
)
LEXICON: Mapping[str, list[str]] = {
    "ADJECTIVE": _list(
        "small, big, new, broken, heavy, clean, cheap, strange, round, long, wooden, golden, brown, tiny"
    ),
    "ANIMAL": _list("dog, cat, horse, cow, sheep, rabbit, mouse, fox, bear, lion, monkey, duck"),
    "THING": _list(
        "clock, mirror, picture, candle, bucket, brush, letter, map, pencil, ticket, camera, basket, hammer, ladder, "
        "boat, bicycle"
    ),
    "PLACE": _list(
        "market, station, school, hospital, library, museum, church, castle, village, river, forest, beach, farm, "
        "hotel, airport, park"
    ),
    "RELATIVE": _list("father, sister, brother, uncle, aunt, cousin, neighbour, teacher, friend"),
    "JOB": _list("nurse, farmer, baker, painter, singer, driver, pilot, sailor, lawyer, writer"),
    "PAST": _list("bought, found, lost, sold, carried, painted, wanted, dropped, noticed, borrowed"),
    "VERB": _list("swim, run, dance, sing, read, write, travel, jump, sleep, work, wait, listen"),
    "VERBS": _list("swims, runs, dances, sings, reads, writes, travels, sleeps, works, waits"),
    "ADVERB": _list("often, always, usually, quickly, slowly, early, really, very"),
    "FOOD": _list(
        "bread, butter, cheese, honey, sugar, salt, soup, salad, chicken, fish, rice, pasta, cake, chocolate, oranges, "
        "carrots"
    ),
    "FURNITURE": _list("table, chair, desk, shelf, sofa, bed, bench, wall, floor, door"),
    "WEATHER": ["wind", "rain", "storm", "sun", "snow"],
    "WHEN": _list("today, tonight, tomorrow, yesterday, soon, again, later, together"),
    "SEASON": ["spring", "summer", "autumn", "winter", "morning", "evening"],
    "CLOTHING": _list("jacket, coat, shirt, hat, scarf, belt, umbrella, watch, bag, dress"),
    "MOOD": _list("happy, tired, hungry, angry, sad, busy, ready, nervous, proud, late, noisy, quiet"),
    "SHAPE": _list("move, lift, fix, cover, build, open, close, reach, hold, push, clean"),
    "SUBJECT": _list("english, french, history, science, music, drawing, cooking, swimming"),
}
