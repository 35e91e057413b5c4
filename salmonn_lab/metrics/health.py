"""Outputs that went wrong in a way that a score does not show: empty, looped, in another language, of another task."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import regex

from salmonn_lab.batch import Prediction
from salmonn_lab.metrics.normalize import APOSTROPHES

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
ALIKE = 0.7
"""Fraction of letters in common (difflib) from which two texts are the same words misheard: Sorry, Surrey."""
ALIKE_LETTERS = 200
"""Letters that are compared: a refusal is shorter."""
MINIMUM_COPY = 4
"""Words of a transcript below which an answer may well consist of all of them."""
LEAD = r"^(?:(?:well|oh|um|uh|hmm|hi|hello|yes|no|okay|ok|but|so|honestly|actually) )*"
"""What may stand before a refusal."""
REFUSAL = re.compile(
    LEAD + r"(?:(?:(?:i'm|i am) )?(?:afraid (?:i'm|i am) )?(?:so |very |really |truly |terribly )?sorry"
    r"|i (?:do |must |have to )?apologi[sz]e|(?:my |our )?(?:sincere |deepest )?apologies|unfortunately|regrettably"
    r"|i regret|(?:i'm|i am) afraid (?:i|that|there)"
    r"|(?:as|(?:i'm|i am)(?: just| only)?) an? (?:ai|artificial intelligence|(?:large |text based )*language model|llm"
    r"|text based|virtual assistant)"
    r"|(?:could|can|would|will) you (?:please |kindly )?(?:provide|clarify|specify|repeat|rephrase|elaborate|upload)"
    r"|(?:please|kindly) (?:provide|clarify|specify|rephrase|elaborate|upload|attach|give me (?:more|some)|try again)"
    r"|(?:i|we)(?:'d| would)? (?:need|require) (?:some |a bit |a little )?(?:more|additional|further) "
    r"(?:context|information|details?)"
    r"|there (?:is|isn't|was) (?:not |in)?(?:enough|sufficient) (?:context|information)"
    r"|(?:more|additional|further|not enough|insufficient) (?:context|information|details?)"
    r"|no (?:audio|speech|recording|file|input|context)(?: \w+)? (?:was|is|has been) (?:provided|attached|uploaded)"
    r"|(?:i'd|i would) (?:be (?:happy|glad)|love) to (?:help|assist)|how (?:can|may) i (?:help|assist)"
    r"|it (?:seems|appears|looks)(?: like)?(?: that)? (?:there (?:is|was) no (?:audio|speech)|you (?:have not|haven't"
    r"|did not|didn't|forgot|have provided|provided)|the (?:audio|file|recording|speech)(?: file| clip)? (?:is|was))"
    r"|you (?:have not|haven't|did not|didn't) (?:provided?|attach(?:ed)?|upload(?:ed)?|shared?)"
    r"(?: \w+){0,2} (?:audio|speech|recording|clip|file)"
    r"|(?:unable|not able|cannot|can't|could not|couldn't)(?: to)?(?: be)? "
    r"(?:transcribed?|determined?|identif(?:y|ied)|discern(?:ed)?|recogni[sz]ed?|processe?d?)"
    r"|insufficient data)\b"
)
"""Openings by which a model refuses, or asks for more, instead of answering."""
INAUDIBLE = re.compile(
    LEAD
    + r"(?:the|this)(?: provided| given)? (?:audio|speech|recording|clip|sound)(?: file| clip| quality)? (?:is|was) "
    r"(?:too |very )?(?:not clear|not available|unclear|inaudible|unintelligible|garbled|poor|missing|corrupt(?:ed)?)\b"
)
"""Openings that blame the clip; a caption says so too, and then what is to be heard."""
NO_SPEECH = re.compile(
    LEAD + r"(?:(?:there (?:is|was) )?no (?:audible |clear |intelligible |discernible )?(?:speech|voices?|audio|words?)"
    r"(?: \w+)? (?:detected|found|recogni[sz]ed|present|provided|attached|uploaded"
    r"|available|in (?:this|the) (?:audio|recording|clip|file))"
    r"|(?:could|can) you (?:please |kindly )?(?:share|send)(?: \w+){0,2} (?:audio|recording|file)"
    r"|i (?:need|require)(?: \w+){0,2} (?:audio|recording) (?:file |clip )?(?:to|in order)"
    r"|i (?:can't|cannot|can not|could not|couldn't) make out (?:the|any|what) "
    r"(?:speech|audio|words?|recording|speaker|is)"
    r"|(?:inaudible|unintelligible|indistinct(?: speech)?|blank_audio)$)"
)
"""Openings that say as much of a clip whose words are due; of other tasks they are answers."""
UNSURE = re.compile(
    LEAD + r"(?:i (?:really |honestly |just |simply )?(?:don't|do not|didn't|did not) (?:really |quite )?"
    r"(?:know|understand|catch (?:that|what|it|the))|(?:i'm|i am) (?:not (?:sure|certain)|unsure|uncertain)"
    r"|i have no (?:idea|information|context|access|way)"
    r"|(?:it|this|that) (?:is|was) (?:unclear|unknown|not (?:mentioned|specified|stated|known)))\b"
)
"""Openings that say as much, unless a story begins so."""
FOREIGN_REFUSAL = re.compile(
    "(?:非常|很)?抱歉|对不起|對不起|不好意思|我?无法(?:识别|听清|转录|回答|确定|理解)|我无法|我無法|我不知道|我?听不清|请提供|作为(?:一个)?(?:人工智能|ai|语言模型)"
    "|申し訳|すみません|(?:音声|音)[がを](?:聞き取|認識)|죄송|(?:es)?tutmirleid|leiderkannich|ichkannleider|ichweißnicht|alskimodell|losiento"
    "|(?:jesuis)?désolé|malheureusementje|jenesaispas|jenepeuxpas(?:transcrire|déterminer|identifier|entendre)|midispiace"
    "|desculpe|извините|ксожалению|(?:я)?немогу(?:разобрать|определить|распознать|расслышать)"
)
"""The same in other languages, as far as these openings tell, without spaces."""
UNABLE = re.compile(
    r"\b(?:i|we|it|that|which|question|genders?|emotions?|speaker)(?: (?:is|am|are|was|be))? "
    r"(?:can't|cannot|can not|could not|couldn't|unable|not able|not possible|impossible|difficult|hard)"
    r"(?: to)?(?: (?:be|accurately|really|reliably|definitively|confidently))* "
    r"(?:determined?|identif(?:y|ied)|discern(?:ed)?|recogni[sz]ed?|guess(?:ed)?|tell|told|infer(?:red)?|transcribed?|"
    r"process(?:ed)?|assist|help|provided?|understand|understood|interpret(?:ed)?|access(?:ed)?|translated?|described?|"
    r"answer(?:ed)?|listen|comply|hear (?:you|anything|(?:the|any|this|that) (?:audio|sound|speech|recording|clip)))\b"
    r"|\b(?:i'm|i am) (?:unable|not able) to\b"
    r"|\b(?:i|we) (?:don't|do not) have (?:access|enough|(?:the |any )?(?:ability|capability|capacity) to|"
    r"(?:that|this|any|enough) information|ears)\b"
    r"|\b(?:does not|doesn't) (?:provide|contain|give) (?:enough|sufficient|any) information\b"
)
"""A verb of hearing counts only with the clip as its object: that no rain can be heard is an answer."""
SUBJECTS = (
    r"(?:speakers?|narrator|announcer|lecturer|interviewer|presenter|host|caller|author|audio|recording|clip|speech|"
    r"passage|text|transcript|transcription|conversation|dialogue|discussion|video|segment|voice)"
)
TELLING = (
    r"(?:talk|speak|discuss|describ|explain|say|mention|tell|introduc|ask|express|narrat|read|recit|address|refer|argu|"
    r"seem|sound|appear|emphasi|highlight|recount|present|stat|greet|announc|instruct|comment|convey)(?:s|es|ing|e|zes|"
    r"ses|zing|sing)?"
)
CAPTION = re.compile(
    r"^(?:the sound of|sounds of|there is the sound of|an? (?:audio |voice |sound )?recording of"
    r"|(?:the|this) (?:audio|recording|clip|speech|sound)(?: clip| file)? "
    r"(?:is|contains|features|captures|consists|has)|(?:this|it) is (?:a|an) (?:\w+ )?(?:recording|audio clip|song|"
    r"instrumental)|in (?:this|the) (?:audio|recording|clip)|i (?:am|can) hear(?:ing)? the sound)\b"
    r"|^(?:an?|the|some|several|two|three|people|someone|somebody|multiple)\b(?: \w+){0,4}? "
    r"(?:(?:is|are) (?:\w+ly )?(?:speak|talk|sing|play|bark|laugh|cry|shout|yell|cheer|applaud|clap|discuss|describ|"
    r"(?:giving|having) an? (?:speech|conversation|discussion|lecture|talk)|heard|"
    r"be(?:ing)? play)\w*"
    r"|(?:speaks?|talks?|sings?|barks?|chirps?|plays?) (?:and|as|while|with|in the background|over|followed)"
    r"|can be heard)\b"
    rf"|^(?:the|this|an?|one)(?: \w+){{0,2}}? {SUBJECTS}(?: is| are| then| also)?(?: \w+ly)? {TELLING}\b"
    r"|^(?:an?|the|one|some|two|several|people|someone|somebody|he|she|they)\b(?: \w+){0,3}? ?(?:is |are )?"
    r"(?:talk|speak|discuss)(?:s|es|ing)? (?:\w+ )?about\b"
    r"|^there (?:is|are) (?:an? |some |two |several |the )?(?:\w+ ){0,3}?"
    r"(?:speaking|talking|singing|barking|music playing)\b"
    r"|^(?:an?|two|several) (?:\w+ )?"
    r"(?:man|woman|boy|girl|child|person|male|female|men|women|people|voices?|speakers?|crowd)"
    r"(?: voices?| speakers?)? (?:speaking|talking|singing|laughing|crying|cheering|shouting|yelling)\b"
    r"|^(?:\w+ )?music (?:is )?(?:playing|plays) in the background\b"
    r"|^(?:the|this) (?:audio|recording|clip|speech|passage|conversation) is about\b"
    r"|^(?:this|it|the (?:audio|recording|clip|speech|passage)) is an? (?:\w+ )?"
    r"(?:conversation|discussion|speech|lecture|monologue|dialogue) (?:about|between|on|of|in)\b"
)
# Letters of scripts without spaces are words by themselves, with the vowel signs and tones that stand on them.
UNSPACED = r"[\u3040-\u30ff\p{Han}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
WORD = regex.compile(rf"(?=\w){UNSPACED}\p{{M}}*|(?:(?!{UNSPACED})\w)+(?:'\w+)*")
ASCII_WORD = re.compile(r"\w+(?:'\w+)*", re.ASCII)
"""What `WORD` finds in ASCII, in a fifth of the time."""
REMEMBERED = 8_192
"""Texts whose words and languages are kept: every rule reads the output, and most read its references."""
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
VOWEL, CONSONANT = ("|".join(sorted(names, key=len, reverse=True)) for names in (VOWELS, CONSONANTS))
CONSONANT = re.sub(r"\b([cdstz]h)\b", r"\1(?!h(?!h))", CONSONANT)  # D HH, not DH with an H that is no phone
JOINED = re.compile(f"(?>(?:{VOWEL})[012]?|{CONSONANT})++")
"""Phones of one word without spaces between them; possessive, so that no word takes long."""
STRESSED = re.compile(f"({VOWEL})[012]|({CONSONANT})|({VOWEL})")
STRESS = re.compile("(?:[012]|zero|one|two)(s|th)?")
"""A stress digit on its own, as Whisper's normalizer writes it; an S or TH that follows is joined to it (`ones`)."""
MINIMUM_STRESSES = 3
"""Stress digits after joined phones that are no chance."""
IPA = re.compile("[\u0250-\u02af\u02c8\u02cc\u02d0]")
"""Letters and marks of the International Phonetic Alphabet that hardly any spelling has."""
IPA_LETTER = re.compile(f"{IPA.pattern}|[æðŋθ]")
LONE = re.compile("[a-zæðŋθ\u0250-\u02af]\u02d0?")
"""A letter that stands alone, Latin or of the International Phonetic Alphabet."""
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
    """Whether words repeat to the very end, the last time perhaps cut short, or many times before that.

    What a reference repeats too may be repeated up to twice as often.
    """
    found = loops(find_words(output.text))
    spoken = [find_words(reference) for reference in output.references]
    return any(not any(count <= 2 * repeated(words, unit) for words in spoken) for unit, count in found)


def loops(words: Sequence[str]) -> Iterator[tuple[tuple[str, ...], int]]:
    """The words, or letters of a word, that an output repeats in a loop, and how many times."""
    for length in range(1, len(words) // REPEATS + 1):
        for ended in (words, words[:-1]):
            tail = ended[-REPEATS * length :]
            cut_short = ended is not words
            if len(tail) < REPEATS * length or tail[length:] != tail[:-length]:
                continue
            if is_whole(tail[:length]) and (not cut_short or tail[0].startswith(words[-1])):
                yield tuple(tail[:length]), count_at_end(ended, length)
    for length in range(1, min(len(words) // REPEATS_INSIDE, 20) + 1):
        count, unit = repeats(words, length)
        if count >= REPEATS_INSIDE and is_whole(unit):
            yield unit, count
    for word in words:
        if stutter := STUTTER.search(word[-80:]):
            yield (stutter[1],), count_at_end(word, len(stutter[1]))


def is_whole(unit: Sequence[str]) -> bool:
    """Whether some words are not themselves a repetition of fewer words."""
    lengths = (length for length in range(1, len(unit)) if len(unit) % length == 0)
    return not any(unit[length:] == unit[:-length] for length in lengths)


def count_at_end(words: Sequence[str], length: int) -> int:
    """How many times in a row the last `length` words stand at the end."""
    count = 1
    while words[-(count + 1) * length : -count * length] == words[-length:]:
        count += 1
    return count


def repeated(words: Sequence[str], unit: Sequence[str]) -> int:
    """How many times in a row a reference has some words, spaces aside; 0 for less than twice."""
    text, wanted = "".join(words), "".join(unit)
    if len(wanted) == 1 and "a" <= wanted <= "z":  # a doubled letter within a word is no repetition
        text, wanted = f" {' '.join(words)} ", f" {wanted}"
    most = max((len(run[0]) // len(wanted) for run in re.finditer(f"(?:{re.escape(wanted)})+", text)), default=0)
    return most if most > 1 else 0


def repeats(words: Sequence[str], length: int) -> tuple[int, tuple[str, ...]]:
    """How many times in a row some words of this length stand side by side, at most, and which words."""
    most = run = end = 0
    for place, (word, later) in enumerate(zip(words, words[length:], strict=False)):
        run = run + 1 if word == later else 0
        if run > most:
            most, end = run, place
    return most // length + 1, tuple(words[end + 1 : end + 1 + length])


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
    """Whether the output apologizes, says that it cannot do it, or asks for more, in other words than a reference's."""
    parts = sentences(output.text)
    opening = " ".join(parts[0]) if parts else ""
    patterns = [REFUSAL] if output.kind == "text" else [REFUSAL, UNSURE]
    if output.kind in ("transcript", "phones", "translation"):
        patterns.append(NO_SPEECH)
    found = [match[0] for pattern in patterns if (match := pattern.search(opening))]
    blamed = INAUDIBLE.match(opening)
    if blamed and (output.kind not in ("caption", "text") or blamed[0] == " ".join(find_words(output.text))):
        found.append(blamed[0])
    unable = UNABLE.search(opening)
    if unable is not None and opening[: unable.start()].count(" ") < OPENING:
        found.append(unable[0])
    foreign = FOREIGN_REFUSAL.match(opening.replace(" ", ""))
    if foreign:
        found.append(foreign[0])
    return any(not is_said(phrase, output) for phrase in found) and not resembles(output)


def is_said(phrase: str, output: Output) -> bool:
    """Whether a reference has these words in a row, contractions aside."""
    wanted = spelled_out(re.sub(LEAD, "", phrase))
    return any(wanted in spelled_out(" ".join(find_words(reference))) for reference in output.references)


def spelled_out(text: str) -> str:
    """Words without contractions and spaces."""
    for short, long in (("can't", "cannot"), ("won't", "will not"), ("n't", " not"), ("i'm", "i am"), ("'d", " would")):
        text = text.replace(short, long)
    return text.replace(" ", "")


def wrong_language(output: Output) -> bool | None:
    """Whether the output is in a script, or in a language as far as words tell, that no reference is in."""
    expected = frozenset[str]().union(*map(possible_languages, output.references))
    if not expected:
        return None
    found = possible_languages(output.text)
    return bool(found) and not any(compatible(one, other) for one in found for other in expected)


def phones(output: Output) -> bool:
    """Whether there are phone symbols, of ARPAbet or IPA, or single letters, where there should be words."""
    plain = find_words(output.text.replace("_", " "))
    if is_ipa(plain) and not any(map(IPA.search, output.references)):
        return True
    words = [word for word in split_phones(plain) if word not in PAUSES]
    spelled = sum(LONE.fullmatch(word) is not None or word in PHONES for word in words)
    if len(words) >= MINIMUM_PHONES and spelled > 0.8 * len(words):
        return True
    runs: list[list[str]] = [[]]
    for word in words:
        if word in PHONES:
            runs[-1].append(word)
        else:
            runs.append([])
    whole = len(runs) == 1 and len(words) >= 3
    return has_joined_phones(plain) or any(
        len(VOWELS.intersection(run)) >= (1 if whole else 2)
        and len(run) >= (3 if whole else MINIMUM_PHONES)
        and not CONSONANTS.isdisjoint(run)
        for run in runs
    )


def split_phones(words: Sequence[str]) -> list[str]:
    """Words with phones alone and without stress: joined ones are taken apart, digits that stand alone left out."""
    found: list[str] = []
    after_vowel = False
    for word in words:
        stress = STRESS.fullmatch(word) if after_vowel else None
        if stress:
            found += [stress[1]] if stress[1] else []
        elif re.search("[012]", word) and JOINED.fullmatch(word):
            found += ["".join(filter(None, phone)) for phone in STRESSED.findall(word)]
        else:
            found.append(word)
        after_vowel = not stress and word in VOWELS
    return found


def has_joined_phones(words: Sequence[str]) -> bool:
    """Whether words are joined phones whose stress digits stand alone, as Whisper's normalizer leaves them."""
    stresses, joined = 0, 0
    for before, word in pairwise(["", *words]):
        if STRESS.fullmatch(word) and JOINED.fullmatch(before) and re.search(f"(?:{VOWEL})$", before):
            stresses += 1
        else:
            joined += JOINED.fullmatch(word) is not None
    return stresses >= MINIMUM_STRESSES and stresses + joined == len(words)


def is_ipa(words: Sequence[str]) -> bool:
    """Whether at least half of the words hold letters of the International Phonetic Alphabet."""
    marks = sum(len(IPA.findall(word)) for word in words)
    return marks >= 2 and 2 * sum(map(bool, map(IPA_LETTER.search, words))) >= len(words)


def transcribed(output: Output) -> bool | None:
    """Tell whether the output is what is said in the clip, where an answer, caption or translation is due."""
    if output.transcript is None:
        return None
    said, written = find_words(output.transcript), find_words(output.text)
    common = (Counter(said) & Counter(written)).total()
    return len(said) >= MINIMUM_COPY and common >= 0.8 * max(len(said), len(written))


def captioned(output: Output) -> bool:
    """Whether the output describes the sound or the speech, where its words are due, unless a reference says so."""
    found = CAPTION.search(" ".join(find_words(output.text)))
    return found is not None and not is_said(found[0], output) and not resembles(output)


RULES: dict[str, Rule] = {
    "empty": Rule(2, empty, "no letter or digit"),
    "refused": Rule(
        4,
        refused,
        "opens with an apology, with I don't know, please provide ..., cannot determine, identify, transcribe ... in "
        "English, or with a few such words of other languages; not where a reference says them, or half of its words "
        "are a reference's",
    ),
    "echoed": Rule(
        3,
        echoed,
        "a sentence of the prompt, of three words or more, as a sentence of its own, or a mark of its template",
    ),
    "looped": Rule(
        3,
        looped,
        "words four times in a row at the end, or eight times anywhere, unless a reference repeats them at least half "
        "as often; not a loop whose words change a little",
    ),
    "truncated": Rule(
        1,
        lambda output: None if output.finished is None else not output.finished,
        "the limit of new tokens ended the text; unknown for predictions that do not record it",
        by_text=False,
    ),
    "wrong language": Rule(
        2,
        wrong_language,
        "another script than every reference's; English, German, French, Spanish, Italian, Dutch and Portuguese also "
        "by frequent words, so not in short outputs; Japanese by its kana; not traditional for simplified Chinese; "
        "names in another script are no other language",
        ("transcript", "translation", "answer", "caption", "text"),
    ),
    "phones": Rule(
        3,
        phones,
        "six phone symbols of ARPAbet in a row, also joined or after Whisper's normalizer (ah zero), IPA in half of "
        "the words, or mostly single letters, where words are due",
        ("transcript", "translation", "answer", "caption", "text"),
    ),
    "transcribed": Rule(
        2,
        transcribed,
        "four fifths of the words that are said, where something else is due; unknown without a transcript in the "
        "manifest",
        ("translation", "answer", "caption"),
    ),
    "captioned": Rule(
        3,
        captioned,
        "opens like an English description of a sound or a speech (a man is speaking, the speaker talks about ...), "
        "where its words are due; not where a reference says so, or half of its words are a reference's",
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
    """The lower-case words of a text, without punctuation."""
    return list(_words(text))


@lru_cache(REMEMBERED)
def _words(text: str) -> tuple[str, ...]:
    plain = text.lower().translate(APOSTROPHES)
    return tuple(ASCII_WORD.findall(plain) if plain.isascii() else WORD.findall(plain))


def sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence, clause after a colon, and line."""
    parts = re.split(r"[.?!:;\n\u3002\uff1f\uff01]", text)
    return [found for part in parts if (found := find_words(part))]


def resembles(output: Output) -> bool:
    """Whether half of the output's words are those of one reference, or most of its letters, as in words misheard."""
    words = Counter(find_words(output.text))
    shared = [(words & Counter(find_words(reference))).total() for reference in output.references]
    if 2 * max(shared, default=0) >= words.total():
        return True
    written, *spoken = ("".join(find_words(text))[:ALIKE_LETTERS] for text in (output.text, *output.references))
    return any(SequenceMatcher(None, written, said, autojunk=False).ratio() >= ALIKE for said in spoken)


def find_language(text: str) -> str | None:
    """The language of a text, or only its script in capitals; None where there are too few letters to tell."""
    units, letters = count_scripts(text)
    if not units:
        return None
    kana = units["HIRAGANA"] + units["KATAKANA"]
    asian = kana + units["CJK"]
    main = units.most_common(1)[0][0]
    if letters[main] < MINIMUM_LETTERS.get(main, 3) and asian == 0:
        return None
    if 2 * asian >= units.total():
        return "Japanese" if kana else "Chinese" if asian >= MINIMUM_HAN else "CJK"
    if main != "LATIN":
        return main
    words = set(find_words(text))
    hits = Counter({language: len(words & known) for language, known in FUNCTION_WORDS.items()})
    (best, most), (_, second) = hits.most_common(2)
    return best if most >= 2 and most >= 2 * second else main


def count_scripts(text: str) -> tuple[Counter[str], Counter[str]]:
    """How many words of each script a text has, of scripts without spaces letters; and how many letters."""
    plain = unicodedata.normalize("NFKC", text)
    units = Counter(filter(None, (next(filter(None, map(script, word)), None) for word in find_words(plain))))
    return units, Counter(filter(None, map(script, plain)))


@lru_cache(REMEMBERED)
def possible_languages(text: str) -> frozenset[str]:
    """Languages or scripts that a text may count as: a quarter of its words may be names in the script of the rest."""
    main = find_language(text)
    if main is None:
        return frozenset()
    units, letters = count_scripts(text)
    words = set(find_words(text))
    if main in FUNCTION_WORDS or (main == "LATIN" and any(words & known for known in FUNCTION_WORDS.values())):
        return frozenset((main,))
    several = {name for name, count in units.items() if 4 * count >= units.total()}
    several = {name for name in several if letters[name] >= MINIMUM_LETTERS.get(name, 3)}
    asian = several & {"CJK", "HIRAGANA", "KATAKANA"}
    named = ("Japanese" if asian - {"CJK"} else "CJK",) if asian and main not in ("Chinese", "Japanese", "CJK") else ()
    return frozenset((main, *named, *(several - asian)))


def compatible(found: str, expected: str) -> bool:
    """Tell whether two answers of `find_language` may be of one language."""
    groups = [{"CJK", "Japanese"}, {"CJK", "Chinese"}, *[{"LATIN", language} for language in FUNCTION_WORDS]]
    return found == expected or {found, expected} in groups


@cache
def script(character: str) -> str | None:
    """Return the script of a letter, as Unicode names it."""
    return unicodedata.name(character, "").partition(" ")[0] or None if character.isalpha() else None
