"""Outputs that went wrong in a way that a score does not show: empty, looped, echoed, refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from salmonn_lab.batch import Prediction

HEALTH_VERSION = 1
"""Raised whenever a rule would judge any output differently."""
REPEATS = 4
"""An output loops when its end repeats something at least this often."""
MINIMUM_ECHO = 3
"""Words of a prompt's sentence below which repeating it may be chance."""
REFUSALS = (
    "sorry",
    "i'm sorry",
    "i am sorry",
    "i apologize",
    "my apologies",
    "unfortunately",
    "i can't",
    "i cannot",
    "i can not",
    "i'm unable",
    "i am unable",
    "i'm not able",
    "i am not able",
    "i don't have",
    "i do not have",
    "as an ai",
    "as a language model",
    "as an artificial intelligence",
)
# Han and kana are words by themselves: they are written without spaces.
WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+(?:'[^\W]+)*"
)


def empty(text: str, prompt: str) -> bool:
    """Tell whether nothing was written."""
    return not text.strip()


def looped(text: str, prompt: str) -> bool:
    """Tell whether some words repeat at least four times to the very end, the last time perhaps cut short."""
    words = find_words(text)
    for length in range(1, len(words) // REPEATS + 1):
        tail = words[-REPEATS * length :]
        if tail[length:] == tail[:-length]:
            return True
        cut = words[-REPEATS * length - 1 : -1]
        if cut[length:] == cut[:-length] and len(cut) == REPEATS * length and cut[0].startswith(words[-1]):
            return True
    return False


def echoed(text: str, prompt: str) -> bool:
    """Tell whether a sentence of the prompt stands in the output."""
    sentences = re.split(r"[.?!:;\n\u3002\uff1f\uff01]", re.sub(r"<[^<>]*>", "\n", prompt))
    output = f" {' '.join(find_words(text))} "
    candidates = [find_words(sentence) for sentence in sentences]
    return any(len(words) >= MINIMUM_ECHO and f" {' '.join(words)} " in output for words in candidates)


def refused(text: str, prompt: str) -> bool:
    """Tell whether the output opens as a refusal does."""
    opening = f"{' '.join(find_words(text))} "
    return any(opening.startswith(f"{phrase} ") for phrase in REFUSALS)


RULES: dict[str, Callable[[str, str], bool]] = {
    "empty": empty,
    "looped": looped,
    "echoed": echoed,
    "refused": refused,
}
"""Each looks at an output and its prompt."""


def find_words(text: str) -> list[str]:
    """Return the lower-case words of a text, without punctuation."""
    return WORD.findall(text.lower().replace("’", "'"))


def symptoms(prediction: Prediction) -> set[str]:
    """Return the names of the rules that an output breaks; what a reference does too is no fault."""
    return {
        name
        for name, rule in RULES.items()
        if rule(prediction.text, prediction.prompt)
        and not any(rule(reference, prediction.prompt) for reference in prediction.references)
    }


def health(predictions: Iterable[Prediction]) -> dict[str, int]:
    """Return how many outputs break each rule; one output may break several."""
    counts = dict.fromkeys(RULES, 0)
    for prediction in predictions:
        for name in symptoms(prediction):
            counts[name] += 1
    return counts
