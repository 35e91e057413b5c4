"""Outputs that went wrong are told from those that are only wrong."""

from __future__ import annotations

import time

import pytest

from salmonn_lab.batch import GENERATION, Prediction
from salmonn_lab.metrics.health import RULES, Count, Kind, examine, find_language, find_words, health, symptoms
from salmonn_lab.metrics.normalize import whisper_en

PROMPT = "USER: <Speech><SpeechHere></Speech> Write down what is said.\nASSISTANT:"
GERMAN = "Das ist nicht der Hund, den ich mit dem Auto sah."


def prediction(text: str, *references: str, prompt: str = PROMPT, **meta: object) -> Prediction:
    return Prediction("a", "b", prompt, text, references or ("hello there",), meta)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello there", set()),
        ("something else entirely", set()),
        ("", {"empty"}),
        (" \n\t", {"empty"}),
        (" ... \u266a", {"empty"}),
        ("7", set()),
        ("if you are " * 4, {"looped"}),
        ("well " + "if you are " * 8 + "if you", {"looped"}),
        ("well " + "if you are " * 8 + "if you ar", {"looped"}),
        ("no, no, no, no", {"looped"}),
        ("no, no, no", set()),
        ("no no no no thanks", set()),
        ("bye bye bye bye bye x", set()),
        ("he said " + "if you are " * 8 + "well and then went home again", {"looped"}),
        ("he said " + "if you are " * 7 + "well and then went home again", set()),
        ("ha" * 12, {"looped"}),
        ("haha", set()),
        ("1" + "0" * 12, set()),
        ("好好好好", {"looped", "wrong language"}),
        ("I'm sorry, I can't hear it.", {"refused"}),
        ("I’m sorry", {"refused"}),
        ("As an AI, I have no ears", {"refused"}),
        ("I am unable to transcribe this.", {"refused"}),
        ("she said sorry", set()),
        ("sorrynot", set()),
        ("Write down what is said. hello", {"echoed"}),
        ("so: WRITE DOWN what is said!", {"echoed"}),
        ("write down what is said hello there", {"echoed"}),
        ("she began to write down what is said about her", set()),
        ("write down what was said", set()),
        ("hello USER: what", {"echoed"}),
        ("<Speech> hello", {"echoed"}),
        ("user", set()),
        ("Sorry sorry sorry sorry", {"looped", "refused"}),
        ("AH0 N D HH IY1 D IH0 Z ER1 V Z sil", {"phones"}),
        ("HH AH0 L OW1", {"phones"}),
        ("and then dh ah0 hh ow1 l k ao1 r t was there", {"phones"}),
        ("D O N T S A I D A N I sil", {"phones"}),
        ("write it to www dot n b c dot com", set()),
        ("alexander carey l l d doctor of laws", set()),
        ("uh i er think ah well", set()),
        ("er", set()),
        ("a man is speaking while music plays", {"captioned"}),
        ("The audio features a dog barking.", {"captioned"}),
        ("people are talking in the background", {"captioned"}),
        ("the plan is simple", set()),
        ("a man is never alone", set()),
        ("带上桌子，我们饿吧。", {"wrong language"}),
        ("Привет всем", {"wrong language"}),
        (GERMAN, {"wrong language"}),
    ],
)
def test_a_transcript_breaks_exactly_these_rules(text: str, expected: set[str]) -> None:
    reference = "hello there you are the one that they have seen" if "wrong language" in expected else "hello there"
    assert symptoms(prediction(text, reference), "transcript") == expected


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("", ""),
        ("ha ha ha ha", "Ha, ha, ha, ha!"),
        ("I'm sorry. Wrong number.", "I am sorry, that's wrong."),
        ("I can't tell you", "I can tell you"),
        ("a man is speaking to the crown", "a man is speaking to the crowd"),
        ("b c d f g h", "B C D F G H"),
        ("你好", "你好"),
        ("play 周杰伦", "play 周杰伦"),
    ],
)
def test_what_a_reference_does_too_is_no_fault(text: str, reference: str) -> None:
    assert symptoms(prediction(text, "other", reference), "transcript") == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog", set()),
        ("Is it a dog or a cat?", {"echoed"}),
        ("Answer in one word. dog", {"echoed"}),
        ("a dog", set()),
        ("is it a dog or a cat that i hear", set()),
        ("No, the audio does not provide enough information to tell.", {"refused"}),
        ("It is difficult to determine the animal.", {"refused"}),
        ("No, I cannot identify the animal.", {"refused"}),
        ("The animal can not be seen, and I cannot hear any barking", set()),
        ("A dog that barks so loud that a car passing behind it is hard to identify", set()),
        ("No, it is not a cat.", set()),
        ("狗", {"wrong language"}),
        ("B", set()),
        ("OK", set()),
        ("3", set()),
    ],
)
def test_an_answer_breaks_exactly_these_rules(text: str, expected: set[str]) -> None:
    prompt = "<SpeechHere> Is it a dog or a cat? Answer in one word."
    assert symptoms(prediction(text, "dog", prompt=prompt), "answer") == expected


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("The dog that you have seen with him", GERMAN, True),
        ("Das ist nicht der Hund", GERMAN, False),
        ("Ein Hund.", "The dog that you have seen", False),  # too short to tell
        ("A perro grande", "Ein Hund ist nicht auf der Welt", False),  # no frequent words
        ("el perro y los gatos", "Ein Hund ist nicht auf der Welt", True),
        ("这是一只很大的狗", "これは大きな犬です", True),
        ("犬小屋", "これは大きな犬です", False),  # may be Japanese
        ("これは犬です", "这是一只很大的狗", True),
        ("这是狗", "这是一只很大的狗", False),
        ("我买了 iPhone", "我买了一个 iPhone", False),
        ("I bought an iPhone", "我昨天买了一个 iPhone", True),
        ("ｈｅｌｌｏ there", "hello there", False),  # full-width letters are Latin
        ("17", "这是狗", False),
        ("anything", "17", None),
    ],
)
def test_another_language_is_told_as_far_as_scripts_and_frequent_words_tell(
    text: str, reference: str, expected: bool | None
) -> None:
    assert examine(prediction(text, reference), "translation")["wrong language"] is expected


def test_a_language_is_named_or_only_its_script() -> None:
    assert find_language("und das ist nicht der Hund") == "German"
    assert find_language("Hund") == "LATIN"
    assert find_language("犬") == "CJK"
    assert find_language("犬です") == "Japanese"
    assert find_language("한국어") == "HANGUL"
    assert find_language("12 : 30") is find_language("ok") is None


@pytest.mark.parametrize(
    ("kind", "expected"), [("answer", True), ("caption", True), ("translation", True), ("transcript", None)]
)
def test_what_is_said_is_no_answer(kind: Kind, expected: bool | None) -> None:
    said = "set the alarm to seven in the morning"
    output = prediction("Set the alarm to seven in morning.", "seven", transcript=said)
    assert examine(output, kind)["transcribed"] is expected
    near = prediction("the alarm rings at seven in the morning", "seven", transcript=said)
    assert not examine(near, kind)["transcribed"]


def test_a_short_transcript_may_be_the_answer() -> None:
    assert symptoms(prediction("seven in", "7", transcript="seven in"), "answer") == set()
    assert symptoms(prediction("who is it there", "Who is it there?", transcript="who is it there"), "answer") == set()


def test_rules_of_other_tasks_do_not_apply() -> None:
    output = prediction("HH AH0 L OW1 DH EH1 R")
    assert examine(output, "phones")["phones"] is examine(output, "phones")["wrong language"] is None
    assert examine(prediction("a man is speaking while music plays"), "caption")["captioned"] is None


def test_what_a_prediction_does_not_record_is_unknown_and_not_fine() -> None:
    assert examine(prediction("a"), "answer")["truncated"] is None
    assert examine(prediction("a", **{GENERATION: {"finished": False}}), "answer")["truncated"] is True
    assert examine(prediction("a", **{GENERATION: {"finished": True}}), "answer")["truncated"] is False
    assert examine(prediction("a"), "answer")["unparsed"] is None
    assert examine(prediction("a"), "answer", parsed=False)["unparsed"] is True
    assert examine(prediction("a"), "answer", parsed=True)["unparsed"] is False
    assert examine(prediction("a"), "answer")["transcribed"] is None


def test_every_rule_is_counted_with_the_outputs_it_could_judge() -> None:
    outputs = [prediction(text) for text in ("", "", "a a a a", "fine")]
    counts = health(examine(output, "transcript") for output in outputs)
    assert tuple(counts) == tuple(RULES)
    assert counts["empty"] == Count(2, 4)
    assert counts["looped"] == Count(1, 4)
    assert counts["echoed"] == counts["captioned"] == Count(0, 4)
    assert counts["truncated"] == counts["unparsed"] == Count(0, 0)
    assert set(health([]).values()) == {Count(0, 0)}


def test_lone_surrogates_are_text_like_any_other() -> None:
    assert symptoms(prediction("\ud800 hello", "hello \udfff"), "transcript") == set()
    assert symptoms(prediction("\ud800"), "transcript") == {"empty"}


def test_a_very_long_output_is_judged_quickly() -> None:
    words = " ".join(f"w{index}" for index in range(5000))
    start = time.process_time()
    assert symptoms(prediction(words), "transcript") == set()
    assert symptoms(prediction("x" * 50_000 + "y"), "transcript") == set()
    assert time.process_time() - start < 3


ARPABET = (
    "AH0 N D HH IY1 D IH0 Z ER1 V Z",
    "HH AH0 L OW1 W ER1 L D",
    "DH AH0 K AE1 T S AE1 T AA1 N DH AH0 M AE1 T",
    "M IH1 S T ER0 K W IH1 L T ER0",
    "IH0 Z DH IY0 AH0 P AA2 S AH0 L",
    "T UW1 TH IY2 AH0 T UW2 S AY1",
)


@pytest.mark.parametrize("phones", ARPABET)
def test_phones_are_found_however_they_are_joined_or_normalized(phones: str) -> None:
    joined = phones.replace(" ", "")
    two_words = phones[: phones.index(" ", 8)].replace(" ", "") + phones[phones.index(" ", 8) :].replace(" ", "")
    separated = [phones.replace(" ", mark) for mark in "_-.,/"]
    forms = [phones, phones.lower(), joined, two_words, *separated, whisper_en(phones), whisper_en(joined)]
    for text in (*forms, whisper_en(two_words), phones.replace("0", " zero").replace("1", " one").replace("2", " two")):
        assert symptoms(prediction(text), "transcript") == {"phones"}, text


@pytest.mark.parametrize(
    "text", ["həˈloʊ wɜːld", "ðə kæt ɪz ɒn ðə mæt", "/həˈləʊ/", "[ʃi sɛd ɪt wʌz fɑɪn]", "ð ə k æ t s æ t"]
)
def test_the_international_phonetic_alphabet_is_phones(text: str) -> None:
    assert symptoms(prediction(text), "transcript") == {"phones"}


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("ah zero point five percent", "x"),
        ("er one two three", "x"),
        ("ah one b t c", "x"),
        ("day one and day two were fine", "x"),
        ("the way one way two way", "x"),
        ("oh ow that hurts", "x"),
        ("er ah er ah", "x"),
        ("he pays 2 dollars", "x"),
        ("zero one two one zero", "x"),
        ("b2b and p2p", "x"),
        ("the word hello is written həˈloʊ in the book", "x"),
        ("say the way to go by the sea", "x"),
        ("mən səni görürəm", "mən səni sevirəm"),
        ("day one day two day one", "Day one, day two, day one."),
    ],
)
def test_words_that_look_like_phones_are_no_phones(text: str, reference: str) -> None:
    assert symptoms(prediction(text, reference), "transcript") == set()


@pytest.mark.parametrize(
    "text",
    [
        "I don't know.",
        "I don’t know.",
        "I do not know what was said.",
        "Well, I really don't understand.",
        "Please provide more context.",
        "Could you please provide more context?",
        "I'm not sure what the speaker is saying.",
        "I didn't catch that.",
        "I have no idea",
        "There is not enough information.",
        "More context is needed.",
        "I need more information to answer.",
        "No audio was provided.",
        "It seems that you have not provided any audio.",
        "How can I assist you today?",
        "I'm just a language model.",
        "I'm so sorry, but no.",
        "I'm afraid I can't help with that",
        "My sincere apologies",
        "The audio is unclear.",
        "抱歉，我听不清。",
        "申し訳ありません。",
        "Es tut mir leid, das geht nicht.",
    ],
)
def test_a_refusal_in_place_of_a_transcript_is_found(text: str) -> None:
    assert "refused" in symptoms(prediction(text, "turn the light on in the kitchen"), "transcript")


@pytest.mark.parametrize(
    "text",
    [
        "The audio clip is not available.",
        "I do not have the capability to process audio.",
        "No speech detected.",
        "There is no speech in this audio.",
        "There was no audio provided.",
        "You haven't provided any audio.",
        "I need the audio file to transcribe it.",
        "The provided audio is inaudible.",
        "It seems that the audio file is missing.",
        "Could you share the audio?",
        "Unable to transcribe.",
        "Cannot transcribe: unintelligible.",
        "[inaudible]",
        "I could not make out the speech.",
        "Je ne peux pas transcrire cet audio.",
        "Не могу разобрать аудио.",
        "音声が聞き取れません。",
    ],
)
def test_a_clip_that_is_said_to_hold_no_speech_is_a_refusal_where_words_are_due(text: str) -> None:
    assert "refused" in symptoms(prediction(text, "the ships were lying in the harbour"), "transcript")


@pytest.mark.parametrize(
    "text",
    [
        "It is unclear.",
        "Cannot be determined.",
        "It is not mentioned in the audio.",
        "The question cannot be answered from the audio.",
        "I do not have that information.",
        "Insufficient data.",
    ],
)
def test_an_answer_that_none_can_be_given_is_a_refusal(text: str) -> None:
    assert symptoms(prediction(text, "a piano"), "answer") == {"refused"}


@pytest.mark.parametrize(
    ("text", "reference"),
    [("Sorry.", "Surrey"), ("unfortunately", "and fortunately"), ("Unfortunately.", "Unfortunate Lee")],
)
def test_words_misheard_are_no_refusal(text: str, reference: str) -> None:
    assert symptoms(prediction(text, reference), "transcript") == set()


@pytest.mark.parametrize(
    "text",
    [
        "The audio is not clear, a man speaks in the distance",
        "The recording is poor, with noise over a sad piano",
        "The audio quality is poor. A guitar plays.",
        "No speech is present, only rain.",
        "There is no speech in the audio.",
    ],
)
def test_a_caption_may_say_how_the_clip_sounds(text: str) -> None:
    assert symptoms(prediction(text, "a low quality tape of an instrument"), "caption") == set()
    assert symptoms(prediction("The audio is unclear.", "a dog barks"), "caption") == {"refused"}


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("Unfortunately the whether was bat yesterday", "Unfortunately, the weather was bad yesterday."),
        ("unfortunately he wretched a car", "but unfortunately, he'd reached the cart by noon"),
        ("I don't know why a goat", "well I do not know white coats"),
        ("please provide a bed", "he said please provide abed with food"),
        ("sorry i am late", "I'm sorry to be so late again my dear"),
        ("I can't tell apart", "No, I cannot tell, a part is missing."),
        ("je ne sais pas du tout", "moi je ne sais pas, tout de même on verra bien"),
        ("als kind war ich dort", "x"),
        ("i know that", "x"),
        ("they don't know", "x"),
        ("no one was there", "x"),
        ("how can i get there", "x"),
        ("the audio guide was clear", "x"),
        ("i'm afraid of dogs", "x"),
        ("it seems that the sea was calm", "x"),
        ("could you open the door", "x"),
        ("please open the door", "x"),
    ],
)
def test_what_somebody_says_is_no_refusal(text: str, reference: str) -> None:
    assert symptoms(prediction(text, reference), "transcript") == set()


def test_a_story_may_begin_with_not_knowing_and_an_answer_not() -> None:
    assert symptoms(prediction("I don't know why, but the dog barked."), "text") == set()
    assert symptoms(prediction("I don't know.", "dog"), "answer") == {"refused"}
    assert symptoms(prediction("I don't know.", "I don't know"), "answer") == set()


@pytest.mark.parametrize(
    "text",
    [
        "A man speaking in English.",
        "There is music playing in the background.",
        "This audio contains a speech about war.",
        "Two people are having a conversation.",
        "A crowd is cheering.",
        "Music plays in the background.",
        "An audio recording of a lecture.",
    ],
)
def test_more_descriptions_in_place_of_a_transcript_are_found(text: str) -> None:
    assert symptoms(prediction(text, "the ships were lying in the harbour"), "transcript") == {"captioned"}


@pytest.mark.parametrize(
    "text",
    [
        "The speaker talks about the weather.",
        "The speaker is talking about politics.",
        "The male speaker says hello",
        "The man is discussing a book",
        "A woman talks about her day",
        "Someone is speaking about food",
        "He is talking about his job",
        "People talk about the war",
        "In this audio, a man reads a story",
        "The audio describes a scene",
        "the recording mentions a train",
        "The speech discusses economics",
        "The narrator describes the house",
        "The passage is about a king",
        "This is a conversation between two people",
        "There is a man speaking",
    ],
)
def test_a_description_in_place_of_a_transcript_is_found(text: str) -> None:
    assert symptoms(prediction(text, "turn it off"), "transcript") == {"captioned"}


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("the speaker talks about exes", "so the speaker talks about x s and why s when they meet"),
        ("the speaker of the house rose", "x"),
        ("the speech was long", "x"),
        ("the text of the bill", "x"),
        ("the voice of reason", "x"),
        ("the author of the letter", "x"),
        ("the passage leads to the garden", "x"),
        ("a man walked into the room", "x"),
        ("she was about to leave", "x"),
        ("it is about time", "x"),
        ("there is a tavern in the town", "x"),
        ("two of them were about to talk", "x"),
    ],
)
def test_a_sentence_that_may_be_said_is_no_description(text: str, reference: str) -> None:
    assert symptoms(prediction(text, reference), "transcript") == set()


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("ha ha ha ha", "ha ha ha", False),
        ("no no no no", "No, no, no!", False),
        ("ha ha ha ha", "hahaha", False),
        ("hahahahahahahahahaha", "hahahahaha oh", False),
        ("very very very very", "it was very, very good", False),
        ("bye bye bye bye", "bye-bye", False),
        ("0 0 0 0", "0000", False),
        ("so ha ha ha ha ha ha ha ha then", "ha ha ha ha then", False),
        ("好好好好", "好好", False),
        ("he he " * 4, "he he he he he", False),
        ("ha " * 50, "ha ha", True),
        ("ha ha ha ha", "ha", True),
        ("ha" * 500, "ha" * 6, True),
        ("a a a a", "an aardvark", True),
        ("the the the the", "the other one", True),
        ("if you are " * 6, "if you are if you are", True),
        ("ครับครับครับครับ", "สวัสดี", True),
    ],
)
def test_what_a_reference_repeats_may_be_repeated_up_to_twice_as_often(
    text: str, reference: str, expected: bool
) -> None:
    assert examine(prediction(text, reference), "transcript")["looped"] is expected


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("我买了 iPhone 15 Pro Max", "我昨天买了一个苹果手机", False),
        ("我在 New York 的 Times Square", "我在纽约的时代广场", False),
        ("周杰伦 Jay Chou 的 Love Story", "周杰伦的爱情故事", False),
        ("BBC 报道", "英国广播公司报道", False),
        ("Google 搜索", "谷歌搜索", False),
        ("東京でJohn Smithさんに会った", "東京でジョン・スミスさんに会った", False),
        ("Я люблю Microsoft Windows", "я люблю майкрософт виндоус", False),
        ("안녕 Microsoft Windows", "안녕 마이크로소프트 윈도우", False),
        ("สวัสดี Microsoft Windows", "สวัสดีไมโครซอฟท์", False),
        ("play 周杰伦", "play Jay Chou", False),
        ("The answer is 你好", "他说你好世界朋友们", True),
        ("Hello my friend, how are you", "你好我的朋友你好吗", True),
        ("你好世界", "hello world", True),
        ("こんにちは world", "hello my world", True),
        ("สวัสดีครับ", "hello my friend", True),
        ("hello my friend", "สวัสดีครับ", True),
        ("مرحبا بك", "hello my friend", True),
    ],
)
def test_names_in_another_script_are_no_other_language(text: str, reference: str, expected: bool) -> None:
    assert examine(prediction(text, reference), "transcript")["wrong language"] is expected


def test_words_keep_their_vowel_signs_and_apostrophes() -> None:
    assert find_words("हिन्दी में, नमस्ते।") == ["हिन्दी", "में", "नमस्ते"]
    assert find_words("שָׁלוֹם don’t n\u02bcest e\u0301te\u0301") == ["שָׁלוֹם", "don't", "n'est", "e\u0301te\u0301"]
    assert find_words("你好，カー ครับ") == ["你", "好", "カ", "ー", "ค", "รั", "บ"]
