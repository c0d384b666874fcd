"""Questions and passages of the embedded corpus: facts put into the templates of a language.

A template file (templates/<lang>.toml) has, for each relation, three wordings of the question and two of the statement.
Names stand between its two `quotes`; `join` stands between sentences.
A passage states its fact and one or two distractors, facts that nobody asks for; which ones, their wordings and the
order of the sentences are drawn by hash, the same in all languages.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any

from hybridlib.companion.sources.embedded.facts import RELATIONS, Fact, Names, hashed

WORDINGS = 3
STATEMENTS = 2
RESERVED = 6  # one fact in six is never asked: it is a distractor in the passages of others

Plan = tuple[tuple[Fact, int], ...]  # the sentences of a passage, in order: a fact and the wording of its statement


@dataclass(frozen=True)
class Templates:
    """Wordings of one language, by relation; `join` stands between two sentences."""

    language: str
    join: str
    questions: Mapping[str, Sequence[str]]
    statements: Mapping[str, Sequence[str]]

    def question(self, names: Names, fact: Fact, wording: int) -> str:
        """Ask for a fact's answer."""
        return self.questions[fact.relation][wording].format(subject=names[fact.subject][self.language])

    def passage(self, names: Names, plan: Plan) -> str:
        """Write the sentences of a plan."""
        return self.join.join(self._statement(names, fact, wording) for fact, wording in plan)

    def _statement(self, names: Names, fact: Fact, wording: int) -> str:
        subject, answer = names[fact.subject], names.get(fact.answer)
        spelled = answer[self.language] if answer else fact.answer.split(":")[1]
        return self.statements[fact.relation][wording].format(subject=subject[self.language], answer=spelled)


@cache
def load_templates(language: str) -> Templates:
    """Read the templates of a language."""
    file = files(__package__) / "templates" / f"{language}.toml"
    return parse_templates(tomllib.loads(file.read_text(encoding="utf-8")), file.name)


def parse_templates(content: Mapping[str, Any], file: str) -> Templates:
    """Check what a template file holds.

    Raises:
        ValueError: a relation or wording is missing, or a wording lacks a name or its quotation marks.
    """
    opening, closing = content["quotes"]
    expected = {"questions": (WORDINGS, {"subject"}), "statements": (STATEMENTS, {"subject", "answer"})}
    for relation in RELATIONS:
        for part, (count, fields) in expected.items():
            wordings = content["relations"].get(relation, {}).get(part, [])
            place = f"{file}: {relation}.{part}"
            if len(set(wordings)) != count:
                raise ValueError(f"{place} needs {count} different wordings, not {len(set(wordings))}")
            for wording in wordings:
                _check(wording, fields, f"{opening}{{subject}}{closing}", place)
    by_part = {part: {relation: content["relations"][relation][part] for relation in RELATIONS} for part in expected}
    return Templates(content["language"], content["join"], **by_part)


def is_reserved(fact: Fact, seed: int) -> bool:
    """Whether a fact is never asked, so that passages may state it as a distractor."""
    return hashed(seed, "reserved", fact.fact_id) % RESERVED == 0


def plan_passages(facts: Iterable[Fact], split: Mapping[str, str], seed: int) -> dict[str, Plan]:
    """Fact id -> plan of the passage of each fact that is asked.

    A passage has a distractor about its own subject where one is reserved, else about another subject of the kind; half
    of the passages with the first also have the second. All subjects of a passage are of one split.
    """
    asked, by_subject, by_kind = [], defaultdict(list), defaultdict(list)
    for fact in facts:
        if is_reserved(fact, seed):
            by_subject[fact.subject].append(fact)
            by_kind[_kind(fact, split)].append(fact)
        else:
            asked.append(fact)
    plans = {}
    for fact in asked:
        others = [other for other in by_kind[_kind(fact, split)] if other.subject != fact.subject]
        distractors = _distractors(fact, by_subject[fact.subject], others, seed)
        plans[fact.fact_id] = _ordered(fact, distractors, seed)
    return plans


def _kind(fact: Fact, split: Mapping[str, str]) -> tuple[str, str]:
    return split[fact.subject], fact.subject.split(":")[0]


def _distractors(fact: Fact, same_subject: Sequence[Fact], others: Sequence[Fact], seed: int) -> list[Fact]:
    def pick(pool: Sequence[Fact]) -> list[Fact]:
        return [pool[hashed(seed, "distractor", fact.fact_id) % len(pool)]] if pool else []

    more = not same_subject or hashed(seed, "sentences", fact.fact_id) % 2
    return pick(same_subject) + (pick(others) if more else [])


def _ordered(fact: Fact, distractors: Sequence[Fact], seed: int) -> Plan:
    def draw(what: str, other: Fact) -> int:
        return hashed(seed, what, fact.fact_id, other.fact_id)

    sentences = sorted([fact, *distractors], key=lambda other: draw("order", other))
    return tuple((other, draw("wording", other) % STATEMENTS) for other in sentences)


def _check(wording: str, fields: set[str], quoted: str, place: str) -> None:
    braces = [name for _, name, _, _ in Formatter().parse(wording) if name is not None]
    if sorted(braces) != sorted(fields):
        raise ValueError(f"{place}: {wording!r} must have {' and '.join(sorted(fields))} in braces, once each")
    if quoted not in wording:
        raise ValueError(f"{place}: {wording!r} must have {quoted}, with these quotation marks")
