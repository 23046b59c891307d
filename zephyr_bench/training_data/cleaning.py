"""UltraChat's two repairs: prompts that are all lower case, and replies of an AI about itself.

The paper says what was done and not how (arXiv 2310.16944, section 4.1); the rules are our own. Pure.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"[{}<>=`]|://")  # what is written here may be lower case on purpose
# the beginning, or the end of a sentence before it, then a whole word that is no file's or host's name
_SENTENCE = re.compile(
    r"(?P<before>^|[.!?][\"'”’)\]]*\s)(?P<gap>[\s\"'“‘(\[¿¡]*)(?P<word>[^\W\d_][\w'’-]*)(?![\w/@\\]|\.\w)"
)
_NO_SENTENCE = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|approx|incl|resp|mr|mrs|ms|dr|st)\.$")
_LONGEST = 8  # characters of those
_PRONOUN = re.compile(r"(?<![\w.'’/@-])i(?=['’](?:m|d|ll|ve)\b|[\s,;:!?)\"”]|\.(?!\w)|$)")
# of names only those that mean nothing else in lower case: march and may do
_NAMES = re.compile(
    r"(?<![\w./@-])(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|april|june|july|august"
    r"|(?:septem|octo|novem|decem)ber)(?=s?\b)(?![/@]|\.\w)"
)

_SELF = r"(?:an?|your|just an?|merely an?|only an?|simply an?)"
_AI = (
    r"(?:a\.?i\.?|artificial intelligence|(?:large |ai |natural |machine )*(?:language|learning|ai) "
    r"(?:model|assistant|program|system|bot|chatbot)|virtual assistant|digital assistant|chat ?bot|computer program)"
    r"(?: (?:language )?(?:model|assistant|system|program))?"
)
_HAVE = r"(?:have|possess|hold|experience|feel|form|express)"
_NOT_ABLE = r"(?:do not|don['’]?t|cannot|can['’]?t|am not able to|am unable to|am incapable of)"
_BETWEEN = (  # what may stand between having and what is had
    r"(?:(?:an?|any|the|my|own|or|and|to|of|such|kind|personal|human|physical|subjective|individual|real|true|genuine|actual"
    r"|conscious|political|religious|moral|thoughts?|experiences?|emotions?|feelings?|opinions?|beliefs?|ability|capacity"
    r"|capability|have|feel|hold|form|express),? ){0,8}"
)
_INNER = r"(?:emotions?|feelings?(?! for\b)|opinions?|beliefs?|consciousness|preferences|desires|senses|sentience)"
_REFUSALS = re.compile(
    # As an AI language model, ...; as an AI, I ...; not: as an AI engineer she ...
    rf"\bas {_SELF} {_AI}(?=[,;:.]| (?:i|my|it|trained|developed|created|designed)\b)"
    rf"|\bi(?: am|['’]m) {_SELF} {_AI}\b"
    # I do not have (any, personal, ...) emotions or opinions; I don't have the ability to feel emotions
    rf"|\bi (?:\w+ ){{0,2}}{_NOT_ABLE} (?:\w+ ){{0,2}}{_HAVE} {_BETWEEN}{_INNER}\b",
    re.IGNORECASE,
)


def true_cased(text: str) -> str:
    """A text without any capital letter gets those of sentences, of `I`, days and months; any other stays as it is.

    So does one with signs of code, whose capitals a rule can't know.
    """
    if not text.islower() or _CODE.search(text):
        return text
    text = _PRONOUN.sub("I", _SENTENCE.sub(_begun, text))
    return _NAMES.sub(lambda found: found[0].capitalize(), text)


def _begun(found: re.Match[str]) -> str:
    if _NO_SENTENCE.search(found.string[max(0, found.start() - _LONGEST) : found.start() + 1]):
        return found[0]
    word = found["word"]
    return found["before"] + found["gap"] + word[0].upper() + word[1:]


def refusal(reply: str) -> str | None:
    """The words in which a reply says that it is an AI's, or that it has no emotions or opinions; None without any."""
    found = _REFUSALS.search(reply)
    return found[0] if found else None
