"""The table of benchmarks: what is measured on which manifest, how it is asked and judged, and what others reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from salmonn_lab.benchmarks.measures import ITEM_ANSWER, OVERLAP, TASKS, Measure, measure_of, writing_of_language
from salmonn_lab.data.corpora.readers import CORPORA
from salmonn_lab.data.prompts import PLACE


@dataclass(frozen=True)
class Published:
    """A score that somebody else reported for SALMONN."""

    value: float
    source: str


@dataclass(frozen=True)
class Reported:
    """A published score that is not the headline as this kit measures it, so that nothing is subtracted from it."""

    metric: str
    """What it is, in the words of its source."""
    value: float
    source: str


@dataclass(frozen=True)
class Benchmark:
    """One row of the table."""

    name: str
    task: str
    manifest: str
    """A path, `asset:NAME/FILE` or `data:CORPUS/SPLIT`, which the commands resolve."""
    metrics: tuple[str, ...]
    """Names in `METRICS`."""
    headline: str
    """The key of the score that is shown first."""
    higher_is_better: bool
    """Of the headline."""
    decoding: Mapping[str, int] = field(default_factory=lambda: {"max_new_tokens": 200, "num_beams": 4})
    """Keys of `DecodingConfig`; the default is the paper's."""
    published: Published | None = None
    licence: str = ""
    how_to_get: str = ""
    prompt: str | None = None
    """Asked about every example, `{}` is its question; None is the first prompt that the run has for its task."""
    count: int | None = None
    """Items as published; None where nobody says."""
    where_present: tuple[str, ...] = ()
    """Names in `METRICS` of those that only their authors' tools give: measured as well where the tools are."""
    reported: tuple[Reported, ...] = ()
    """What else was published."""
    language: str = "en"
    """Of the references, as a BCP 47 code; `mul` is several that are measured alike, empty one that nobody names."""


def row(
    name: str,
    task: str,
    manifest: str,
    max_new_tokens: int,
    measure: Measure | None = None,
    *,
    licence: str,
    how_to_get: str,
    count: int | None = None,
    decoding: Mapping[str, int] = MappingProxyType({}),
) -> Benchmark:
    """Return a row that is judged as its task is, or as `measure` says, and decoded greedily."""
    measure = measure or TASKS[task]
    return Benchmark(
        name,
        task,
        manifest,
        measure.metrics,
        measure.headline,
        measure.higher_is_better,
        decoding={"max_new_tokens": max_new_tokens, "num_beams": 1, **decoding},
        licence=licence,
        how_to_get=how_to_get,
        count=count,
    )


def prepared(
    name: str,
    source: str,
    task: str,
    prompt: str,
    measure: Measure | None = None,
    *,
    published: Published | None = None,
    reported: Sequence[Reported] = (),
    where_present: tuple[str, ...] = (),
    max_new_tokens: int = 200,
    language: str = "en",
) -> Benchmark:
    """Return a row about a corpus that `prepare` knows, decoded as in the paper.

    Args:
        name: of the row.
        source: `CORPUS/SPLIT` of `CORPORA`, which has the count, the licence and the way to get it.
        task: of the examples.
        prompt: what is asked, without the place of the audio.
        measure: how outputs are judged; None is as the task's are.
        published: compared with the headline.
        reported: what else was published.
        where_present: metrics that need tools of their authors.
        max_new_tokens: where the paper's 200 would cut outputs short.
        language: of the references, a code; it decides how transcripts are judged where `measure` does not.
    """
    measure = measure or measure_of(task, writing_of_language(language))
    corpus, split = source.split("/")
    return Benchmark(
        name,
        task,
        f"data:{source}",
        measure.metrics,
        measure.headline,
        measure.higher_is_better,
        decoding={"max_new_tokens": max_new_tokens, "num_beams": 4},
        published=published,
        licence=CORPORA[corpus].licence,
        how_to_get=CORPORA[corpus].how_to_get,
        prompt=f"<Speech>{PLACE}</Speech> {prompt}",
        count=CORPORA[corpus].splits[split].count,
        where_present=where_present,
        reported=tuple(reported),
        language=language,
    )


QUICKSTART: dict[str, Any] = {
    "licence": "Apache-2.0 (speech), GPL-2 (sound bank), MIT (birds)",
    "how_to_get": "python -m salmonn_lab.assets quickstart",
}
ASTERISK: dict[str, Any] = {
    "licence": "CC BY-SA 3.0",
    "how_to_get": "apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav, or unpack both with dpkg -x "
    "and let SALMONN_LAB_ASTERISK name the folder",
    # No prompt for training has six tokens of SmolLM2 twice, and a small LLM loops where it understands nothing.
    "decoding": {"no_repeat_ngram_size": 6},
}
# Of no transcript for training are more than two tokens of SmolLM2 in a row said twice, and a small LLM loops at times.
SPOKEN: dict[str, Any] = {**QUICKSTART, "decoding": {"no_repeat_ngram_size": 4}}
OWN = (
    row("quickstart_commands", "asr", "asset:quickstart/commands_test.jsonl", 16, count=132, **SPOKEN),
    row("quickstart_open", "asr", "asset:quickstart/open_test.jsonl", 16, count=40, **SPOKEN),
    row("quickstart_sounds", "sound_label", "asset:quickstart/sounds_test.jsonl", 12, count=230, **QUICKSTART),
    row(
        "quickstart_captions",
        "audiocaption",
        "asset:quickstart/captions_test.jsonl",
        24,
        OVERLAP,
        count=46,
        **QUICKSTART,
    ),
    row("quickstart_questions", "QA", "asset:quickstart/questions_test.jsonl", 12, count=160, **QUICKSTART),
    row("asterisk", "asr", "asset:asterisk/asterisk_all.jsonl", 128, **ASTERISK),
    row("asterisk_test", "asr", "asset:asterisk/asterisk_test.jsonl", 80, **ASTERISK),
)
"""What this kit makes itself, or reads from a Debian package."""

PAPER = "SALMONN-13B, Tang et al., ICLR 2024 (arXiv 2310.13289), table 3"
UNTUNED = f"{PAPER}, without activation tuning"
AUDIO_BENCH = "SALMONN-7B as measured by AudioBench (github.com/AudioLLMs/AudioBench, e991641)"
QUESTION = "{}"

JUDGED = "accuracy, judged by GPT-3.5"
FOLLOWING = "following rate, by GPT-3.5"
CAPTION_TOOLS = ("meteor", "spider", "sbert_sim", "fense")

SALMONN = (
    prepared(
        "librispeech_test_clean",
        "librispeech/test-clean",
        "asr",
        "Recognize the speech and give me the transcription.",
        published=Published(0.021, PAPER),
        reported=(Reported("wer", 0.1027, f"{AUDIO_BENCH}, prompts drawn at random, 2,617 items"),),
    ),
    prepared(
        "librispeech_test_other",
        "librispeech/test-other",
        "asr",
        "Recognize the speech and give me the transcription.",
        published=Published(0.049, PAPER),
        reported=(Reported("wer", 0.0967, f"{AUDIO_BENCH}, prompts drawn at random, 2,935 items"),),
    ),
    prepared(
        "gigaspeech",
        "gigaspeech/TEST",
        "asr",
        "Recognize the speech and give me the transcription.",
        # Official references have their punctuation as tags, which its scoring drops; outputs have it as marks.
        Measure(("wer_gigaspeech_punct",), "wer", higher_is_better=False),
        published=Published(0.100, f"{PAPER}; normalizer not published"),
        reported=(Reported("wer", 0.091, UNTUNED), Reported("wer", 0.1077, AUDIO_BENCH)),
    ),
    prepared(
        "librispeech_phones",
        "librispeech_phones/test-clean",
        "phone_recognition",
        "Provide the phonetic transcription for the speech.",
        published=Published(0.042, f"{PAPER}; lexicon and set of phones not published"),
        max_new_tokens=1000,  # 35 s of speech are some 450 phones of about two tokens each
    ),
    prepared(
        "covost2_en_zh",
        "covost2/en_zh-CN_test",
        "translation_ec",
        "Listen to the speech and translate it into Chinese.",
        published=Published(0.331, f"{PAPER}; tokenizer not published"),
        reported=(
            Reported("bleu", 0.344, UNTUNED),
            Reported("BLEU with the tokenizer flores101", 0.3389, AUDIO_BENCH),
        ),
        language="zh-CN",
    ),
    prepared(
        "covost2_en_de",
        "covost2/en_de_test",
        "translation_en2de",
        "Listen to the speech and translate it into German.",
        published=Published(0.186, f"{PAPER}; tokenizer not published"),
        reported=(Reported("bleu", 0.197, UNTUNED),),
        language="de",
    ),
    prepared(
        "covost2_en_ja",
        "covost2/en_ja_test",
        "translation_en2ja",
        "Listen to the speech and translate it into Japanese.",
        published=Published(0.227, f"{PAPER}; tokenizer not published"),
        reported=(Reported("bleu", 0.220, UNTUNED),),
        language="ja",
    ),
    prepared(
        "audiocaps",
        "audiocaps/test",
        "audiocaption",
        "Please describe the audio.",
        reported=(
            Reported("meteor", 0.240, PAPER),
            Reported("spider", 0.403, PAPER),
            Reported("meteor", 0.256, UNTUNED),
            Reported("METEOR of NLTK, another number than METEOR 1.5", 0.2099, AUDIO_BENCH),
        ),
        where_present=CAPTION_TOOLS,
    ),
    prepared(
        "musiccaps",
        "musiccaps/eval",
        "music_description",
        "Listen to this music clip and describe the music.",
        published=Published(0.218, f"{PAPER}; which form of ROUGE-L is not published"),
        reported=(Reported("bleu_4", 0.055, PAPER), Reported("ROUGE-L", 0.221, UNTUNED)),
    ),
    prepared(
        "iemocap",
        "iemocap/session5",
        "emotion_recognition",
        "Describe the emotion of the speaker in one word.",
        Measure(("label_accuracy", "exact_match"), "weighted_accuracy", higher_is_better=True),
        published=Published(0.69, PAPER),
        reported=(
            Reported("weighted_accuracy", 0.63, UNTUNED),
            Reported("accuracy on 1,004 items of its own, judged by another model", 0.238, AUDIO_BENCH),
        ),
    ),
    prepared(
        "libri2mix",
        "libri2mix/test_mix_clean",
        "speech_separation",
        "Please write down what you hear each person says.",
        reported=(
            Reported("WER, in which order of the speakers is not published", 0.230, PAPER),
            Reported("WER, in which order of the speakers is not published", 0.207, UNTUNED),
        ),
        max_new_tokens=400,  # twice the words of an utterance
    ),
    prepared(
        "voxceleb1",
        "voxceleb1/test",
        "speaker_verification",
        "Do you only hear the same person talking? Answer yes or no.",
        Measure(("multiple_choice_first",), "accuracy", higher_is_better=True),
        published=Published(0.94, f"{PAPER}; which trials is not published"),
        reported=(Reported("accuracy", 0.93, UNTUNED),),
    ),
    prepared(
        "inspec",
        "inspec/Test",
        "keywords",
        "Give me only three keywords of the text.",
        reported=(
            Reported("accuracy by a rule that is not published", 0.32, PAPER),
            Reported("accuracy by a rule that is not published", 0.30, UNTUNED),
        ),
    ),
    prepared(
        "wikiqa",
        "wikiqa/test",
        "speech_query",
        "Please answer the question in detail.",
        # References are whole sentences of articles, which no answer holds word for word.
        Measure(("token_f1", "rouge_l_google", "following_answer"), "token_f1", higher_is_better=True),
        reported=(
            Reported(JUDGED, 0.41, PAPER),
            Reported(FOLLOWING, 0.98, PAPER),
            Reported(JUDGED, 0.19, UNTUNED),
            Reported(FOLLOWING, 0.29, UNTUNED),
        ),
    ),
    prepared(
        "slurp",
        "slurp/test",
        "slot_filling",
        "According to the speech, what is the {}?",
        reported=(
            Reported(JUDGED, 0.41, PAPER),
            Reported(FOLLOWING, 0.99, PAPER),
            Reported(JUDGED, 0.33, UNTUNED),
            Reported(FOLLOWING, 0.77, UNTUNED),
        ),
    ),
    prepared(
        "slurp_slots",
        "slurp_slots/test",
        "slot_filling",
        QUESTION,
        Measure(("slu_f1",), "slu_f1", higher_is_better=True),
    ),
    prepared(
        "story",
        "story/test",
        "audio_story_telling",
        "Based on the audio, write a story in detail. Your story should be highly related to the audio.",
        published=Published(82.57, f"{PAPER}; what counts as a word is not published"),
        reported=(
            Reported(FOLLOWING, 1.00, PAPER),
            Reported("mean_unique_words", 7.77, UNTUNED),
            Reported(FOLLOWING, 0.00, UNTUNED),
        ),
    ),
    prepared(
        "coreasoning",
        "coreasoning/test",
        "speech_audio_coreasoning",
        "Use your strong reasoning skills to answer the speaker's question in detail based on the background sound.",
        reported=(
            Reported(f"{JUDGED}, on clips of its own that were never released", 0.50, PAPER),
            Reported(f"{FOLLOWING}, on clips of its own that were never released", 0.73, PAPER),
        ),
    ),
)
"""The fifteen tasks of the paper, asked as in `prompts/test_prompt.json` of the released code (bytedance/SALMONN).

The prompt of `slurp_slots` alone is this kit's: SLU-F1 needs all slots of a command at once."""

LETTER = Measure(("multiple_choice_letter",), "accuracy", higher_is_better=True)
OFFICIAL_MMAU = Measure(("multiple_choice_mmau",), "accuracy", higher_is_better=True)
OFFICIAL_AIR_BENCH = Measure(("multiple_choice_air_bench",), "accuracy", higher_is_better=True)
AIR_BENCH_INSTRUCTION = (
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, you may only "
    "choose A or B or C or D."
)
"""The line above each question in the official script (github.com/OFA-Sys/AIR-Bench, Inference_Foundation.py)."""
SENTENCE = Measure(("token_f1", "rouge_l_google", "contains_answer"), "token_f1", higher_is_better=True)
FREE = TASKS["speech_query"]

OTHERS = (
    prepared("clotho", "clotho/evaluation", "audiocaption", "Please describe the audio.", where_present=CAPTION_TOOLS),
    prepared(
        "clotho_aqa",
        "clotho_aqa/test",
        "audio_QA",
        QUESTION,
        ITEM_ANSWER,
        reported=(Reported("accuracy, judged by another model", 0.578, AUDIO_BENCH),),
    ),
    prepared(
        "mmau",
        "mmau/test-mini",
        "audio_QA",
        QUESTION,
        OFFICIAL_MMAU,
        published=Published(0.349, "SALMONN-13B on test-mini of v05.15.25 (github.com/Sakshi113/MMAU)"),
        reported=(
            Reported("accuracy by string match", 0.405, AUDIO_BENCH),
            Reported("accuracy, judged by another model", 0.484, AUDIO_BENCH),
        ),
    ),
    prepared(
        "mmar",
        "mmar/test",
        "audio_QA",
        QUESTION,
        OFFICIAL_MMAU,
        published=Published(0.328, "SALMONN-7B by the authors of MMAR (github.com/ddlBoJack/MMAR)"),
    ),
    prepared(
        "airbench_foundation",
        "airbench_foundation/test",
        "audio_QA",
        f"{AIR_BENCH_INSTRUCTION}\n{QUESTION}",
        OFFICIAL_AIR_BENCH,
        reported=(
            Reported(
                "accuracy_of_parsed, averaged over tasks",
                0.360,
                "SALMONN by the authors of AIR-Bench (github.com/OFA-Sys/AIR-Bench)",
            ),
        ),
    ),
    prepared("voicebench_openbookqa", "voicebench/openbookqa", "spoken_QA", QUESTION, LETTER),
    prepared("voicebench_mmsu", "voicebench/mmsu", "spoken_QA", QUESTION, LETTER),
    prepared("voicebench_sd_qa", "voicebench/sd-qa", "spoken_QA", QUESTION, FREE),
    prepared("voicebench_bbh", "voicebench/bbh", "spoken_QA", QUESTION, ITEM_ANSWER),  # yes or no, or (A) or (B)
    prepared("openaqa", "openaqa/all", "audio_QA", QUESTION, SENTENCE),
)
"""Corpora that the paper does not use."""

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in (*OWN, *SALMONN, *OTHERS)}
