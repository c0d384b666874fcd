"""Questions and passages of the embedded corpus: facts put into the templates of a language.

A template file (templates/<lang>.toml) has, for each relation, three wordings of the question and two of the statement.
Names stand between its two `quotes`; `join` stands between sentences.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any

from hybridlib.companion.sources.embedded.facts import RELATIONS, Fact, Names, hashed

WORDINGS = 3
STATEMENTS = 2
RESERVED = 6  # one fact in six is never asked: it is a distractor in the passages of others


@cache
def load_templates(language: str) -> Mapping[str, Any]:
    """Read and check the templates of a language."""
    file = files(__package__) / "templates" / f"{language}.toml"
    return checked_templates(tomllib.loads(file.read_text(encoding="utf-8")), file.name)


def checked_templates(content: dict[str, Any], file: str) -> dict[str, Any]:
    """Give back what a template file holds.

    Raises:
        ValueError: a relation or wording is missing, or a wording lacks a name or its quotation marks.
    """
    quoted = "{subject}".join(content["quotes"])
    expected = {"questions": (WORDINGS, ["subject"]), "statements": (STATEMENTS, ["answer", "subject"])}
    for relation in RELATIONS:
        for part, (count, fields) in expected.items():
            wordings = content["relations"].get(relation, {}).get(part, [])
            place = f"{file}: {relation}.{part}"
            if len(set(wordings)) != count:
                raise ValueError(f"{place} needs {count} different wordings, not {len(set(wordings))}")
            for wording in wordings:
                if sorted(name for _, name, _, _ in Formatter().parse(wording) if name is not None) != fields:
                    raise ValueError(f"{place}: {wording!r} must have {' and '.join(fields)} in braces, once each")
                if quoted not in wording:
                    raise ValueError(f"{place}: {wording!r} must have {quoted}, with these quotation marks")
    return content


class Writer:
    """Writes questions and passages.

    A passage states its fact and one or two distractors, facts that nobody asks for: one about its own subject where
    one is reserved, else about another subject of the kind; half of the passages with the first also have the second.
    All subjects of a passage are of one split. Distractors, order and wordings of the sentences are drawn by hash, the
    same in all languages.

    Attributes:
        reserved: the facts that are never asked.
    """

    def __init__(self, names: Names, facts: Iterable[Fact], split: Mapping[str, str], seed: int) -> None:
        self.names, self.split, self.seed = names, split, seed
        self.reserved = {fact for fact in facts if hashed(seed, "reserved", fact.fact_id) % RESERVED == 0}
        self.pools = defaultdict(list)  # a subject, or a split and a kind of subject -> reserved facts
        for fact in sorted(self.reserved):
            self.pools[fact.subject].append(fact)
            self.pools[self._kind(fact)].append(fact)

    def question(self, fact: Fact, lang: str, wording: int) -> str:
        """Ask for a fact's answer."""
        template = load_templates(lang)["relations"][fact.relation]["questions"][wording]
        return template.format(subject=self.names[fact.subject][lang])

    def passages(self, facts: Sequence[Fact], lang: str) -> list[str]:
        """Write the passage of each fact."""
        join = load_templates(lang)["join"]
        return [join.join(self._statement(*sentence, lang) for sentence in self._sentences(fact)) for fact in facts]

    def _statement(self, fact: Fact, wording: int, lang: str) -> str:
        answer = self.names[fact.answer][lang] if fact.answer in self.names else fact.answer.split(":")[1]
        template = load_templates(lang)["relations"][fact.relation]["statements"][wording]
        return template.format(subject=self.names[fact.subject][lang], answer=answer)

    def _sentences(self, fact: Fact) -> list[tuple[Fact, int]]:
        """The sentences of a fact's passage, in order: a fact and the wording of its statement."""
        same_subject = self.pools[fact.subject]
        others = [other for other in self.pools[self._kind(fact)] if other.subject != fact.subject]
        if same_subject and hashed(self.seed, "sentences", fact.fact_id) % 2 == 0:
            others = []
        draw = hashed(self.seed, "distractor", fact.fact_id)
        facts = [fact, *(pool[draw % len(pool)] for pool in (same_subject, others) if pool)]
        facts.sort(key=lambda other: hashed(self.seed, "order", fact.fact_id, other.fact_id))
        return [(other, hashed(self.seed, "wording", fact.fact_id, other.fact_id) % STATEMENTS) for other in facts]

    def _kind(self, fact: Fact) -> tuple[str, str]:
        return self.split[fact.subject], fact.subject.split(":")[0]
