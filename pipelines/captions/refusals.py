"""Answers in which a model says nothing about the image: it declines, or its term names nothing.

Only for what models write. A radiologist may dictate "I cannot exclude ...", so reports are never put to these rules.
"""

import re

_REFUSAL = re.compile(
    r"""
    \bas\ an\ ai\b | \bai\ (?:language\ )?(?:model|assistant)\b | \blanguage\ model\b
    | ^(?:unfortunately,?\ )?(?:i\ am|i'm|we\ are|we're)?\ ?(?:very\ |so\ )?sorry\b
    | ^(?:i|we)\ apologi[sz]e\b
    | \b(?:i|we)(?:\ am|\ are|'m|'re)\ (?:unable|not\ able|not\ allowed)\ to\b
    | \b(?:i|we)\ (?:cannot|can\ not|can't|could\ not|couldn't|will\ not|won't)\ (?:\w+ly\ )?
      (?:provide|assist|help|interpret|analy[sz]e|determine|diagnose|identify|offer|comply|describe|view|see|give)\b
    """,
    re.VERBOSE,
)
# Words that say that there is something, not what.
_GENERIC = {"abnormality", "anomaly", "area", "feature", "finding", "lesion", "object", "region"}
_UNKNOWN = {"indeterminate", "undetermined", "unidentified", "unknown", "unspecified", "unclear"}
_NOTHING = {"na", "nil", "none", "nothing", "null", "not applicable", "not available", "unsure", "not sure"}
_ALONE = {"area", "feature", "object", "region", "structure", "thing", "something"}


def is_refusal(text: str) -> bool:
    """Whether a model declines to describe the image."""
    return _REFUSAL.search(" ".join(text.replace("\u2019", "'").split()).casefold()) is not None


def names_nothing(term: str) -> bool:
    """Whether a term as a whole names no finding, such as `Unknown`, `region` or `unspecified lesion`."""
    words = term.casefold().replace("/", "").split()
    if " ".join(words) in _NOTHING | _ALONE:
        return True
    return bool(words) and words[0] in _UNKNOWN and set(words[1:]) <= _GENERIC
