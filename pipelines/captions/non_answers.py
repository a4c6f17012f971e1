"""Answers in which a model says nothing about the image, by reason code.

- refusal: it declines, apologises, or asks for the image.
- placeholder: what stands where words should be, such as `string`, `...` or `[insert finding]`.
- repetition: one word or phrase again and again.
- echoed_instructions: six words in a row of what the prompt says to every item.
- other_language: not the English that prompts, positions and checks are written in.
- term_names_nothing: a region that is called `unknown`, `region` and the like.

Only for what models write. A radiologist may dictate "I cannot exclude ...", so reports are never put to these rules.
That none sets off on captions that people wrote: benchmarks/results/non_answers.csv.
"""

import re
from collections import Counter
from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

# What the model is told about each, when it is asked again.
COMPLAINTS = {
    "refusal": "describe the image, whatever it shows",
    "placeholder": "write words that describe the image, not what stands in their place",
    "repetition": "say each thing once",
    "echoed_instructions": "describe the image, do not repeat the instructions",
    "other_language": "write English",
    "term_names_nothing": "name what is seen, or write No Finding",
}

_REFUSAL = re.compile(
    r"""
    \bas\ an\ ai\b | \bai\ (?:language\ )?(?:model|assistant)\b | \blanguage\ model\b
    | ^(?:unfortunately,?\ )?(?:i\ am|i'm|we\ are|we're)?\ ?(?:very\ |so\ )?sorry\b
    | ^(?:i|we)\ apologi[sz]e\b | ^my\ apologies\b
    | \b(?:i|we)(?:\ am|\ are|'m|'re)\ (?:unable|not\ able|not\ allowed|not\ qualified)\ to\b
    | \b(?:i|we)(?:\ am|'m)\ not\ a\ (?:doctor|physician|radiologist|medical)\b
    | \b(?:i|we)\ (?:cannot|can\ not|can't|could\ not|couldn't|will\ not|won't|do\ not|don't)\ (?:\w+ly\ )?
      (?:provide|assist|help|interpret|analy[sz]e|offer|comply|describe|give)\b
    | \bi\ (?:cannot|can\ not|can't)\ (?:\w+ly\ )?(?:determine|diagnose|identify|view|see)\b
    | \b(?:i|we)\ (?:cannot|can\ not|can't|could\ not|couldn't|will\ not|won't|do\ not|don't)\ (?:\w+ly\ )?
      (?:determine|diagnose|identify|view|see)\ (?:\w+\ ){0,3}
      (?:images?|pictures?|photos?|scans?|content|people|person)\b
    | \b(?:image|picture|scan)\ (?:cannot|can\ not|can't)\ be\ (?:analy[sz]ed|interpreted|described|opened|viewed)\b
    | ^unable\ to\ (?:analy[sz]e|interpret|describe|view|see|open)\b | ^i\ (?:refuse|decline)\b
    | \bplease\ (?:provide|upload|share|attach|send|consult)\b
    | \bno\ (?:image|picture|attachment)\ (?:was\ |is\ |has\ been\ )?(?:provided|attached|uploaded|given)\b
    | \b(?:seek|consult)\ (?:a|an|your)\ (?:qualified\ |licensed\ )?
      (?:doctor|physician|radiologist|healthcare|medical)\b
    """,
    re.VERBOSE,
)
_PLACEHOLDER = re.compile(
    r"""
    \blorem\ ipsum\b | \bplaceholder\b | \btodo\b | \btbd\b | _{3,}
    | \b(?:summary_caption|detailed_report|alternative_adjectives)\b
    | \[\ ?(?:insert|enter|add|your|fill|write|specify|describe|name|finding|location|position|size)\b[^\]]*\]
    | <[a-z_ ]+> | \{[a-z_ ]+\}
    | ^(?:an?\ |the\ |your\ |insert\ |some\ )*(?:summary|caption|report|sentence|text|string|answer|description|example
      |test|image|picture|medical|detailed|short|one|of|foo|bar|adjective|term|position|\|\ )+
      (?:\ (?:summary|caption|report|sentence|text|of|the|image|here|goes|foo|bar|adjective|term|position|\|))*$
    """,
    re.VERBOSE,
)
# Words that say that there is something, not what.
_GENERIC = {"abnormality", "anomaly", "area", "feature", "finding", "lesion", "object", "region"}
_UNKNOWN = {"indeterminate", "undetermined", "unidentified", "unknown", "unspecified", "unclear"}
_NOTHING = {"na", "nil", "none", "nothing", "null", "not applicable", "not available", "unsure", "not sure"}
_ALONE = {"area", "feature", "finding", "object", "region", "structure", "thing", "something"}
_EMPTY_WORDS = {
    *(
        "adjective",
        "adjectives",
        "answer",
        "bar",
        "caption",
        "example",
        "foo",
        "ipsum",
        "lorem",
        "other",
        "placeholder",
    ),
    *("position", "shape", "size", "string", "term", "test", "text", "word"),
}
_CANNOT = re.compile(r"\b(?:cannot|can't|unable|not able|not possible)\b")

_REPEATS = 4  # how often in a row a phrase may not stand
_LONGEST_PHRASE = 30  # words
_SYLLABLES = re.compile(r"([^\W\d_]{1,12}?)\1{4,}")
_ECHO_WORDS = 6
# Probability of English; of real captions it is at least 0.01, of sentences in other languages mostly below 1e-5.
_ENGLISH_BELOW = 1e-3


def non_answer(text: str, instructions: str) -> str | None:
    """The reason code of a text that says nothing about an image, or None.

    Args:
        text: Summary or report that a model wrote.
        instructions: What the prompt says to every item.
    """
    words = _words(text)
    if is_refusal(text):
        return "refusal"
    if not words or " ".join(words) in _NOTHING | _UNKNOWN or _PLACEHOLDER.search(_plain(text).rstrip(".!")):
        return "placeholder"
    if _repeats(words) or _SYLLABLES.search(text.casefold()):
        return "repetition"
    if _runs(words) & _instruction_runs(instructions):
        return "echoed_instructions"
    return "other_language" if _is_foreign(text) else None


def empty_term(term: str) -> str | None:
    """The reason code of a term that names no finding, or None."""
    words = _words(term)
    if is_refusal(term) or _CANNOT.search(_plain(term)):
        return "refusal"
    if words and set(words) <= _EMPTY_WORDS | {"medical", "lesion", "the", "a", "here"} and set(words) & _EMPTY_WORDS:
        return "placeholder"
    if (len(words) > 1 and len(set(words)) == 1) or _SYLLABLES.search(term.casefold()):
        return "repetition"
    return "term_names_nothing" if names_nothing(term) else None


def is_empty_word(word: str) -> bool:
    """Whether a word in the place of an adjective describes nothing, such as `string` or `unknown`."""
    unknown = _UNKNOWN - {"indeterminate", "unclear"}  # a nodule may be
    return word in _EMPTY_WORDS | unknown | _NOTHING or _SYLLABLES.search(word) is not None


def is_refusal(text: str) -> bool:
    """Whether a model declines to describe the image."""
    return _REFUSAL.search(_plain(text)) is not None


def names_nothing(term: str) -> bool:
    """Whether a term as a whole names no finding, such as `Unknown`, `region` or `unspecified lesion`."""
    words = term.casefold().replace("/", "").split()
    if " ".join(words) in _NOTHING | _ALONE:
        return True
    return bool(words) and words[0] in _UNKNOWN and set(words[1:]) <= _GENERIC


def _plain(text: str) -> str:
    return " ".join(text.replace("\u2019", "'").split()).casefold()


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold().replace("n/a", "na"))


def _repeats(words: list[str]) -> bool:
    """Whether a phrase stands four times in a row, or one word is more than half of a text of six words or more.

    Numbers and single letters do not count: 2.2 x 2.2 x 2.2 cm is a size.
    """
    words = [word for word in words if len(word) > 1 and not word.isdigit()]
    if len(words) >= 6 and Counter(words).most_common(1)[0][1] > len(words) / 2:
        return True
    for length in range(1, min(_LONGEST_PHRASE, len(words) // _REPEATS) + 1):
        run = 0
        for word, later in zip(words, words[length:], strict=False):
            run = run + 1 if word == later else 0
            if run >= (_REPEATS - 1) * length:
                return True
    return False


def _runs(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + _ECHO_WORDS]) for start in range(len(words) - _ECHO_WORDS + 1)}


@lru_cache(maxsize=8)
def _instruction_runs(instructions: str) -> set[tuple[str, ...]]:
    return _runs(_words(instructions))


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _is_foreign(text: str) -> bool:
    """Whether a text is hardly English. Medicine's Latin is none of the other languages."""
    ranked = _identifier().rank(text)
    return ranked[0][0] != "la" and dict(ranked)["en"] < _ENGLISH_BELOW
