"""Keeps access tokens and passwords out of everything that is written or printed.

A value counts as secret in four cases: its name is a secret's, such as `hub_token` or `api_key`; it is the
password of an address (`https://user:password@host`); it looks like an access token (`hf_…`); an environment
variable such as `HF_TOKEN` holds it. Values with such a name are remembered, and removed from later messages
that lack the name.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

HIDDEN = "***"
SHORTEST = 6  # characters of a value to search for in other text; shorter values would match ordinary words

# Every repetition is bounded, so that the search time of a long text grows only with its length.
_NAME = (
    r"(?:[a-z0-9]{1,40}[_-]){0,8}"
    r"(?:token|password|passwd|secret|credentials?|api[_-]?key|access[_-]?key|private[_-]?key)"
)
_SECRET_NAME = re.compile(rf"(?:.*[.])?{_NAME}", re.IGNORECASE)
# Special tokens of a tokenizer are text, not secrets.
_TEXT_TOKENS = re.compile(
    r"(?:.*[._-])?(?:bos|eos|pad|unk|cls|sep|mask|image|boi|eoi|eot)_token", re.IGNORECASE
)
_PATTERNS = (
    # user and password of an address
    (re.compile(r"(\w[\w+.-]{0,40}:/{1,2})[^/\s@'\"]{1,1000}@"), rf"\1{HIDDEN}@"),
    (re.compile(rf"([?&](?:{_NAME}|sig|signature)=)[^&\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}"), HIDDEN),
    (re.compile(r"\b(Bearer\s+)[\w.~+/-]{8,}=*", re.IGNORECASE), rf"\1{HIDDEN}"),
)
# A pair inside text: `name=value`, `name: "value"`, and in a mapping also `name: value`.
# Prose such as "no mask token: …" is no pair.
_PAIR = re.compile(
    rf"(?P<start>[{{,'\"&?.\-]\s*|^)(?P<name>{_NAME})(?P<quote>[\"']?)(?P<sign>\s*[:=]\s*)"
    r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s\"',;&}\]]+)",
    re.IGNORECASE,
)
# `--name value` and `--name=value` of a command line, quoted or not
_OPTION = re.compile(rf"('?--(?:[\w-]{{1,60}}\.){{0,8}}({_NAME})(?:\s+|=))(?:'[^']*'|[^\s']+)", re.IGNORECASE)
_remembered: set[str] = set()


def is_secret_name(name: object) -> bool:
    """Whether the value of this name is a secret. The last part of a dotted name decides."""
    return _is_secret_name(str(name))


@lru_cache(maxsize=4096)  # every redacted text checks the environment's names
def _is_secret_name(name: str) -> bool:
    text = name.lstrip("-")
    return bool(_SECRET_NAME.fullmatch(text)) and not _TEXT_TOKENS.fullmatch(text)


def redact(plain: Any) -> Any:
    """`plain` with every secret replaced by `***`. Mappings and lists are copied."""
    if isinstance(plain, Mapping):
        return {key: _hidden(value) if is_secret_name(key) else redact(value) for key, value in plain.items()}
    if isinstance(plain, str):
        return redact_text(plain)
    if isinstance(plain, (list, tuple)):
        return [redact(value) for value in plain]
    return plain


def redact_text(text: str) -> str:
    """A text without secrets."""
    for secret in sorted(_remembered | _in_environment(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    text = _OPTION.sub(lambda m: m[0] if _TEXT_TOKENS.fullmatch(m[2]) else m[1] + HIDDEN, text)
    text = _PAIR.sub(_without_value, text)
    return text


def redact_command(arguments: Sequence[str]) -> str:
    """A command line as one line of text, without secrets: after `--x.token` and after `--x.token=`."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = argument.partition("=")
        if name.startswith("-") and is_secret_name(name):
            remember(value if equals else following)
    return redact_text(shlex.join(arguments))


def remember(secret: object) -> None:
    """Removes this value from all later text."""
    if isinstance(secret, str) and len(secret) >= SHORTEST:
        _remembered.add(secret)


def _hidden(value: Any) -> Any:
    """The replacement of a secret. `true` and `null` stay, because they say where a token comes from."""
    if isinstance(value, Mapping):
        return {key: _hidden(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(entry) for entry in value]
    if value is None or isinstance(value, bool):
        return value
    remember(value)
    return HIDDEN


def _without_value(match: re.Match[str]) -> str:
    """A pair without its value.

    After a colon a bare word is a value only inside a mapping; elsewhere it is prose.
    """
    value = match["value"].strip("\"'")
    bare = value == match["value"]
    sentence = (
        ":" in match["sign"] and bare and not match["quote"] and match["start"].strip() not in ("{", ",")
    )
    text_token = _TEXT_TOKENS.fullmatch(match["name"]) is not None
    if sentence or text_token or value.lower() in ("", "true", "false", "null", "none", HIDDEN):
        return match[0]
    return match[0].removesuffix(match["value"]) + match["value"].replace(value, HIDDEN)


def _in_environment() -> set[str]:
    """Values of environment variables with secret names: HF_TOKEN, WANDB_API_KEY and the like."""
    return {
        value.strip()
        for name, value in os.environ.items()
        if is_secret_name(name) and len(value.strip()) >= SHORTEST
    }
