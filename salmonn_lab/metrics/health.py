"""Outputs that went wrong in a way that a score does not show: empty, looped, in another language, of another task."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from salmonn_lab.batch import Prediction

Kind = Literal["transcript", "phones", "translation", "answer", "caption", "text"]
"""What a task asks for; `text` is anything longer that no rule of a task applies to."""
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("asr", "asr_zh", "asr_de", "lyrics_recognition", "speech_separation"), "transcript"),
    "speaker_diarization_asr": "transcript",
    "phone_recognition": "phones",
    **dict.fromkeys(("translation_ec", "translation_en2de", "translation_en2ja"), "translation"),
    **dict.fromkeys(("audiocaption", "audiocaption_v2", "music_description"), "caption"),
    **dict.fromkeys(("sound_label", "emotion_recognition", "gender_recognition", "speaker_verification"), "answer"),
    **dict.fromkeys(("QA", "audio_QA", "spoken_QA", "inference_QA", "gender_QA"), "answer"),
    **dict.fromkeys(("slot_filling", "keywords", "speech_query", "speech_audio_query"), "answer"),
    **dict.fromkeys(("audio_story_telling", "audio_speech_description"), "text"),
    **dict.fromkeys(("speech_audio_coreasoning", "fluent_speech_audio"), "text"),
}
REPEATS = 4
"""An output loops when its end repeats something at least this often."""
REPEATS_INSIDE = 8
"""An output loops when it repeats something at least this often before it goes on."""
MINIMUM_ECHO = 3
"""Words of a prompt's sentence below which repeating it may be chance."""
OPENING = 10
"""Words within which a refusal begins: further on, what is hard to hear is part of a description."""
MINIMUM_PHONES = 6
"""Phone symbols in a row that are no accident among words, nor a spelled abbreviation."""
MINIMUM_COPY = 4
"""Words of a transcript below which an answer may well consist of all of them."""
APOLOGIES = (
    "sorry",
    "i'm sorry",
    "i am sorry",
    "i apologize",
    "my apologies",
    "unfortunately",
    "as an ai",
    "as a language model",
    "as an artificial intelligence",
)
UNABLE = re.compile(
    r"\b(?:i|we|it|that|which|genders?|emotions?|speaker)(?: (?:is|am|are|was|be))? "
    r"(?:can't|cannot|can not|could not|couldn't|unable|not able|not possible|impossible|difficult|hard)"
    r"(?: to)?(?: (?:be|accurately|really|reliably|definitively|confidently))* "
    r"(?:determined?|identif(?:y|ied)|discern(?:ed)?|recogni[sz]ed?|guess(?:ed)?|tell|told|infer(?:red)?|transcribed?|"
    r"process(?:ed)?|assist|help|provided?|understand|understood|interpret(?:ed)?|access(?:ed)?|translated?|described?|"
    r"answer(?:ed)?|listen|comply|hear (?:you|anything|(?:the|any|this|that) (?:audio|sound|speech|recording|clip)))\b"
    r"|\b(?:i'm|i am) (?:unable|not able) to\b"
    r"|\b(?:i|we) (?:don't|do not) have (?:access|enough|the ability|ears)\b"
    r"|\b(?:does not|doesn't) (?:provide|contain|give) (?:enough|sufficient|any) information\b"
)
"""A verb of hearing counts only with the clip as its object: that no rain can be heard is an answer."""
CAPTION = re.compile(
    r"^(?:the sound of|sounds of|there is the sound of|the (?:audio|recording|clip|speech|sound) "
    r"(?:is|contains|features|captures|consists|has)|(?:this|it) is (?:a|an) (?:\w+ )?(?:recording|audio clip|song|"
    r"instrumental)|in (?:this|the) (?:audio|recording|clip)|i (?:am|can) hear(?:ing)? the sound)\b"
    r"|^(?:an?|the|some|several|two|three|people|someone|somebody|multiple)\b(?: \w+){0,4}? "
    r"(?:(?:is|are) (?:\w+ly )?(?:speak|talk|sing|play|bark|laugh|cry|shout|giving a speech|heard|be(?:ing)? play)\w*"
    r"|(?:speaks?|talks?|sings?|barks?|chirps?|plays?) (?:and|as|while|with|in the background|over|followed)"
    r"|can be heard)\b"
)
# Han and kana are words by themselves: they are written without spaces.
WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+(?:'[^\W]+)*"
)
STUTTER = re.compile(r"([^\W\d_]{1,8}?)\1{9,}$")
"""A word that ends in ten times the same letters; a number may have ten zeros. To be held against the last 80."""
VOWELS, CONSONANTS, PAUSES = (
    frozenset(symbols.split())
    for symbols in (
        "aa ae ah ao aw ay eh er ey ih iy ow oy uh uw",
        "b ch d dh f g hh jh k l m n ng p r s sh t th v w y z zh",
        "sil sp spn",
    )
)
"""The phones of CMUdict, without stress, and what aligners write for silence."""
PHONES = VOWELS | CONSONANTS
FUNCTION_WORDS = {
    language: frozenset(frequent.split())
    for language, frequent in {
        "English": "the and that with this are have his from they for you it what there would which",
        "German": "der und ist nicht ein eine einen ich wir mit dem auf für wird sind auch sich zur zum",
        "French": "les une est dans pour pas avec sur qui nous vous je et du au sont cette",
        "Spanish": "el los las y pero muy está más su fue hay cuando como era",
        "Italian": "che gli della di è nel alla anche questo perché sono delle ha",
        "Dutch": "het een van niet dat zijn met voor naar ook maar deze werd",
        "Portuguese": "não uma com os em você mais muito são ao isso foi pelo",
    }.items()
}
"""Words that are frequent in one of these languages, and not words of any other of them."""
MINIMUM_LETTERS = {"CJK": 1, "HIRAGANA": 1, "KATAKANA": 1, "HANGUL": 1}
"""Letters that tell a script; of an alphabet three: `A` or `OK` is an answer in any language."""
MINIMUM_HAN = 6
"""Han characters without kana that are Chinese, rather than a short phrase of Japanese."""


class Output(NamedTuple):
    """What the rules look at."""

    text: str
    prompt: str
    references: tuple[str, ...]
    kind: Kind
    transcript: str | None
    """What is said in the clip, where that is not the reference."""
    finished: bool | None
    """Whether the model ended the text itself; None where nobody wrote that down."""
    parsed: bool | None
    """Whether the metric found an answer in the text; None where it looks for none."""


Test = Callable[[Output], bool | None]


@dataclass(frozen=True)
class Rule:
    """One way in which an output goes wrong."""

    version: int
    """Raised whenever any output would be judged differently."""
    test: Test
    """True where it fires, None where it cannot tell."""
    sees: str
    """What it goes by, and what it misses, for readers of a report."""
    kinds: tuple[Kind, ...] = ("transcript", "phones", "translation", "answer", "caption", "text")
    """The tasks it applies to."""
    by_text: bool = True
    """Whether it reads the text; if so, it pardons what a reference does too."""


def empty(output: Output) -> bool:
    """Tell whether no letter or digit was written."""
    return not any(character.isalnum() for character in output.text)


def looped(output: Output) -> bool:
    """Tell whether words repeat to the very end, the last time perhaps cut short, or many times before that."""
    words = find_words(output.text)
    for length in range(1, len(words) // REPEATS + 1):
        tail = words[-REPEATS * length :]
        if tail[length:] == tail[:-length]:
            return True
        cut = words[-REPEATS * length - 1 : -1]
        if cut[length:] == cut[:-length] and len(cut) == REPEATS * length and cut[0].startswith(words[-1]):
            return True
    longest = min(len(words) // REPEATS_INSIDE, 20)
    inside = any(repeats(words, length) >= REPEATS_INSIDE for length in range(1, longest + 1))
    return inside or any(STUTTER.search(word[-80:]) for word in words)


def repeats(words: Sequence[str], length: int) -> int:
    """Return how many times in a row some words of this length stand side by side, at most."""
    most = run = 0
    for word, later in zip(words, words[length:], strict=False):
        run = run + 1 if word == later else 0
        most = max(most, run)
    return most // length + 1


def echoed(output: Output) -> bool:
    """Tell whether a sentence of the output is one of the prompt, or a mark of the prompt's template stands in it.

    An answer may open with the words of its question and go on; a transcript that does so has echoed.
    """
    marks = re.findall(r"<[^<>]+>|^[A-Z]{2,}:", output.prompt, re.MULTILINE)
    if any(mark in output.text for mark in marks):
        return True
    asked = [part for part in sentences(re.sub(r"<[^<>]*>", "\n", output.prompt)) if len(part) >= MINIMUM_ECHO]
    written = find_words(output.text)
    if output.kind != "answer" and any(written[: len(part)] == part for part in asked):
        return True
    return any(part in asked for part in sentences(output.text))


def refused(output: Output) -> bool:
    """Tell whether the output apologizes or says that it cannot do it, in other words than a reference's."""
    if resembles(output):
        return False
    opening = " ".join(next(iter(sentences(output.text)), []))
    if any(f"{opening} ".startswith(f"{phrase} ") for phrase in APOLOGIES):
        return True
    unable = UNABLE.search(opening)
    return unable is not None and opening[: unable.start()].count(" ") < OPENING


def wrong_language(output: Output) -> bool | None:
    """Tell whether the output is in a script, or in a language as far as words tell, that no reference is in."""
    expected = {language for reference in output.references if (language := find_language(reference))}
    if not expected:
        return None
    found = find_language(output.text)
    return found is not None and not any(compatible(found, language) for language in expected)


def phones(output: Output) -> bool:
    """Tell whether there are phone symbols, or single letters, where there should be words."""
    words = [re.sub(r"[012]$", "", word) for word in find_words(output.text)]
    words = [word for word in words if word not in PAUSES]
    spelled = sum(re.fullmatch("[a-z]", word) is not None or word in PHONES for word in words)
    if len(words) >= MINIMUM_PHONES and spelled > 0.8 * len(words):
        return True
    runs: list[list[str]] = [[]]
    for word in words:
        if word in PHONES:
            runs[-1].append(word)
        else:
            runs.append([])
    whole = len(runs) == 1 and len(words) >= 3
    return any(
        len(VOWELS.intersection(run)) >= (1 if whole else 2)
        and len(run) >= (3 if whole else MINIMUM_PHONES)
        and not CONSONANTS.isdisjoint(run)
        for run in runs
    )


def transcribed(output: Output) -> bool | None:
    """Tell whether the output is what is said in the clip, where an answer, caption or translation is due."""
    if output.transcript is None:
        return None
    said, written = find_words(output.transcript), find_words(output.text)
    common = (Counter(said) & Counter(written)).total()
    return len(said) >= MINIMUM_COPY and common >= 0.8 * max(len(said), len(written))


def captioned(output: Output) -> bool:
    """Tell whether the output describes the sound, where its words are due."""
    return not resembles(output) and bool(CAPTION.search(" ".join(find_words(output.text))))


RULES: dict[str, Rule] = {
    "empty": Rule(2, empty, "no letter or digit"),
    "refused": Rule(
        2,
        refused,
        "opens with an English apology, or with cannot determine, identify, transcribe ...; not where half of its "
        "words are a reference's",
    ),
    "echoed": Rule(
        2,
        echoed,
        "a sentence of the prompt, of three words or more, as a sentence of its own, or a mark of its template",
    ),
    "looped": Rule(
        2,
        looped,
        "words four times in a row at the end, or eight times anywhere; not a loop whose words change a little",
    ),
    "truncated": Rule(
        1,
        lambda output: None if output.finished is None else not output.finished,
        "the limit of new tokens ended the text; unknown for predictions that do not record it",
        by_text=False,
    ),
    "wrong language": Rule(
        1,
        wrong_language,
        "another script than every reference's; English, German, French, Spanish, Italian, Dutch and Portuguese also "
        "by frequent words, so not in short outputs; Japanese by its kana; not traditional for simplified Chinese",
        ("transcript", "translation", "answer", "caption", "text"),
    ),
    "phones": Rule(
        1,
        phones,
        "six phone symbols in a row, or mostly single letters, where words are due",
        ("transcript", "translation", "answer", "caption", "text"),
    ),
    "transcribed": Rule(
        1,
        transcribed,
        "four fifths of the words that are said, where something else is due; unknown without a transcript in the "
        "manifest",
        ("translation", "answer", "caption"),
    ),
    "captioned": Rule(
        1,
        captioned,
        "opens like an English description of a sound (a man is speaking ...), where its words are due; not where half "
        "of its words are a reference's",
        ("transcript", "translation"),
    ),
    "unparsed": Rule(
        1,
        lambda output: None if output.parsed is None else not output.parsed,
        "the metric finds no answer in the text, or several, and counts it as wrong",
        ("answer",),
        by_text=False,
    ),
}
"""By name, in the order in which they are shown."""


class Count(NamedTuple):
    """How many outputs break a rule, of how many that it could judge."""

    broken: int
    judged: int


def examine(prediction: Prediction, kind: Kind = "text", parsed: bool | None = None) -> dict[str, bool | None]:
    """Return for each rule whether an output breaks it; None where the rule does not apply or cannot tell.

    Args:
        prediction: the output, with its prompt and references.
        kind: what the task asks for, see `KINDS`.
        parsed: whether the metric found an answer in it, where it looks for one.
    """
    transcript = prediction.meta.get("transcript")
    output = Output(
        prediction.text,
        prediction.prompt,
        prediction.references,
        kind,
        transcript if isinstance(transcript, str) else None,
        prediction.generation.finished,
        parsed,
    )
    return {name: judge(rule, output) for name, rule in RULES.items()}


def judge(rule: Rule, output: Output) -> bool | None:
    """Apply a rule; what a reference does too is no fault."""
    if output.kind not in rule.kinds:
        return None
    broken = rule.test(output)
    if not broken or not rule.by_text:
        return broken
    others = [replace_text(output, reference) for reference in output.references]
    return not any(rule.test(other) for other in others)


def replace_text(output: Output, reference: str) -> Output:
    """Return a reference as if it were the output, measured against nothing."""
    return output._replace(text=reference, references=())


def symptoms(prediction: Prediction, kind: Kind = "text", parsed: bool | None = None) -> set[str]:
    """Return the names of the rules that an output breaks."""
    return {name for name, broken in examine(prediction, kind, parsed).items() if broken}


def health(examined: Iterable[Mapping[str, bool | None]]) -> dict[str, Count]:
    """Count over outputs, as `examine` judged them; one output may break several rules."""
    rows = list(examined)
    judged = {name: [row[name] for row in rows if row[name] is not None] for name in RULES}
    return {name: Count(sum(map(bool, found)), len(found)) for name, found in judged.items()}


def find_words(text: str) -> list[str]:
    """Return the lower-case words of a text, without punctuation."""
    return WORD.findall(text.lower().replace("’", "'"))


def sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence, clause after a colon, and line."""
    parts = re.split(r"[.?!:;\n\u3002\uff1f\uff01]", text)
    return [found for part in parts if (found := find_words(part))]


def resembles(output: Output) -> bool:
    """Tell whether at least half of the output's words are those of one reference."""
    words = Counter(find_words(output.text))
    shared = [(words & Counter(find_words(reference))).total() for reference in output.references]
    return 2 * max(shared, default=0) >= words.total()


def find_language(text: str) -> str | None:
    """Return the language of a text, or only its script in capitals; None where there are too few letters to tell."""
    scripts = Counter(filter(None, map(script, unicodedata.normalize("NFKC", text))))
    if not scripts:
        return None
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    asian = kana + scripts["CJK"]
    main, letters = scripts.most_common(1)[0]
    if letters < MINIMUM_LETTERS.get(main, 3) and asian == 0:
        return None
    if 2 * asian >= scripts.total():
        return "Japanese" if kana else "Chinese" if asian >= MINIMUM_HAN else "CJK"
    if main != "LATIN":
        return main
    words = set(find_words(text))
    hits = Counter({language: len(words & known) for language, known in FUNCTION_WORDS.items()})
    (best, most), (_, second) = hits.most_common(2)
    return best if most >= 2 and most >= 2 * second else main


def compatible(found: str, expected: str) -> bool:
    """Tell whether two answers of `find_language` may be of one language."""
    groups = [{"CJK", "Japanese"}, {"CJK", "Chinese"}, *[{"LATIN", language} for language in FUNCTION_WORDS]]
    return found == expected or {found, expected} in groups


@cache
def script(character: str) -> str | None:
    """Return the script of a letter, as Unicode names it."""
    return unicodedata.name(character, "").partition(" ")[0] or None if character.isalpha() else None
