"""Facts about territories, languages, currencies and scripts, read from the CLDR data in Babel.

A fact is (relation, subject, answer), such as ("currency", "territory:JP", "currency:JPY"). It is true in CLDR's
terms: a population share is CLDR's estimate, a language's territory and script are its likely subtags. Facts that these
leave in doubt (two languages with nearly as many speakers, say) are left out. Ids are "<kind>:<CLDR code>"; years and
ISO codes are answers that read the same in every language.

A fact whose reverse is a fact as well (the currency of a territory, the territory of a currency) is kept in one
direction only, so a passage never answers the question of another relation.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from babel import Locale, UnknownLocaleError
from babel.core import get_global

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
SPLITS = {"train": 0.70, "dev": 0.15, "test": 0.15}

Names = Mapping[str, Mapping[str, str]]  # name id -> language -> name
Pair = tuple[str, str]  # codes of subject and answer

# What the first part of a time zone's id says about where it lies; the oceans among them say nothing.
ZONE_REGIONS = {"Africa": "002", "America": "019", "Asia": "142", "Europe": "150", "Pacific": "009"}
NOT_LANGUAGES = {"mul", "und", "zxx"}  # several, unknown, no language
# In many languages CLDR names these two only by an adjective ("Simplified"); braille belongs to no language.
NOT_SCRIPTS = {"Hans", "Hant", "Brai"}
# English calls the zone of Samoa ("Apia") what other languages call that of American Samoa ("Samoa").
NOT_ZONES = {"Apia", "Samoa"}
# Nobody's mother tongue, so no territory is theirs, whatever CLDR's likely subtags say; nor do we ask for their script.
CONSTRUCTED = {"afh", "eo", "ia", "ie", "io", "jbo", "tlh", "tok", "vo", "zbl"}
OFFICIAL = ("official", "de_facto_official")
# CLDR's shares are rough: a place by speakers counts only from a least share in per cent, and where the share, like
# those before it, is `CLEAR` times the next.
LEAST_SHARE = (50, 5)
CLEAR = 1.2
EARLIEST_YEAR = 1800  # earlier dates in CLDR are doubtful: 1694 for the pound is the Bank of England's


@dataclass(frozen=True, order=True)
class Fact:
    """One fact; `subject` and `answer` are ids."""

    relation: str
    subject: str
    answer: str

    @cached_property
    def fact_id(self) -> str:
        """Relation and subject: what a question asks, and all that relevance depends on."""
        return f"{self.relation}:{self.subject.split(':')[1]}"


def hashed(*parts: object) -> int:
    """A number drawn from the parts, the same on every machine."""
    text = "|".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@cache
def load_names() -> Names:
    """Give the names that all `LANGUAGES` have and that mean one thing only: name id -> language -> name.

    Left out are names that are no more than the code, and names that two things of a kind share in some language.
    """
    locales = {lang: Locale(lang) for lang in LANGUAGES}
    names: dict[str, Mapping[str, str]] = {}
    for kind in ("territory", "language", "currency", "script", "weekday", "zone"):
        candidates = {}
        for code in _codes(kind):
            spelled = {lang: _name(locale, kind, code) for lang, locale in locales.items()}
            if all(name and fold(name) != fold(code) for name in spelled.values()):
                candidates[f"{kind}:{code}"] = spelled
        names |= _unambiguous(candidates)
    return names


def load_facts(names: Names) -> list[Fact]:
    """Give all facts whose subject and answer have names, sorted by relation and subject."""
    facts = [
        Fact(relation, f"{kind}:{subject}", f"{answer_kind}:{answer}")
        for relation, (kind, answer_kind, pairs) in RELATIONS.items()
        for subject, answer in pairs()
    ]
    return sorted(
        fact
        for fact in facts
        if fact.subject in names and (fact.answer in names or fact.answer.startswith(("code:", "year:")))
    )


def split_subjects(facts: Iterable[Fact], seed: int) -> dict[str, str]:
    """Subject id -> "train", "dev" or "test"; drawn within each kind of subject, by the seed alone."""
    split = {}
    subjects = {fact.subject for fact in facts}
    for kind in sorted({subject.split(":")[0] for subject in subjects}):
        drawn = sorted((s for s in subjects if s.startswith(f"{kind}:")), key=lambda s: (hashed(seed, "split", s), s))
        train, dev = (round(len(drawn) * share) for share in (SPLITS["train"], SPLITS["dev"]))
        for i, subject in enumerate(drawn):
            split[subject] = "train" if i < train else "dev" if i < train + dev else "test"
    return split


def fold(name: str) -> str:
    """A name without the differences that no reader would rely on (case, compatibility forms)."""
    return unicodedata.normalize("NFKC", name).casefold()


def _codes(kind: str) -> list[str]:
    english = Locale("en")
    codes = {
        "territory": [*_territories(), *ZONE_REGIONS.values()],
        "language": [c for c in english.languages if "_" not in c and c not in NOT_LANGUAGES | _aliases()],
        "currency": _current_users(),
        "script": [c for c in english.scripts if not c.startswith("Z") and c not in NOT_SCRIPTS],  # Z: symbols etc.
        "weekday": map(str, range(7)),
        "zone": set(get_global("meta_zones").values()) - NOT_ZONES,
    }
    return sorted(codes[kind])


def _name(locale: Locale, kind: str, code: str) -> str | None:
    if kind == "weekday":
        return locale.days["format"]["wide"].get(int(code))
    if kind == "zone":
        return locale.meta_zones.get(code, {}).get("long", {}).get(_zone_form(code))
    tables = {"territory": "territories", "language": "languages", "currency": "currencies", "script": "scripts"}
    return getattr(locale, tables[kind]).get(code)


@cache
def _zone_form(zone: str) -> str:
    """The general name ("Japan Time") where all languages have it, else that of standard time."""
    longs = (Locale(lang).meta_zones.get(zone, {}).get("long", {}) for lang in LANGUAGES)
    return "generic" if all("generic" in long for long in longs) else "standard"


def _unambiguous(names: dict[str, Mapping[str, str]]) -> Names:
    counts = Counter((lang, fold(name)) for spelled in names.values() for lang, name in spelled.items())
    return {
        id: spelled
        for id, spelled in names.items()
        if all(counts[lang, fold(name)] == 1 for lang, name in spelled.items())
    }


def _aliases() -> set[str]:
    return set(get_global("language_aliases"))


def _territories() -> list[str]:
    return [code for code in get_global("territory_zones") if code.isalpha() and code != "ZZ"]  # no 001 (world)


@cache
def _current_currencies() -> Mapping[str, list[tuple[str, str]]]:
    """Territory -> (currency, first year) of each legal tender without an end."""
    return {
        territory: [(code, str(start[0]) if start else "") for code, start, end, tender in spans if tender and not end]
        for territory, spans in get_global("territory_currencies").items()
    }


@cache
def _current_users() -> Mapping[str, list[str]]:
    """Currency -> territories where it is legal tender."""
    users: dict[str, list[str]] = {}
    for territory, current in _current_currencies().items():
        for code, _ in current:
            users.setdefault(code, []).append(territory)
    return users


def _only_currencies() -> Iterator[tuple[str, str, str]]:
    """(territory, currency, first year) of territories with a single legal tender."""
    for territory in _territories():
        current = _current_currencies().get(territory, [])
        if len(current) == 1:
            yield territory, *current[0]


def _asked_of_currency(territory: str, currency: str) -> bool:
    """Whether a pair used only with each other becomes a fact about the currency; half of them do."""
    return _current_users()[currency] == [territory] and hashed("currency", territory, currency) % 2 == 0


def _currency() -> Iterator[Pair]:
    return ((t, c) for t, c, _ in _only_currencies() if not _asked_of_currency(t, c))


def _currency_territory() -> Iterator[Pair]:
    return ((c, t) for t, c, _ in _only_currencies() if _asked_of_currency(t, c))


def _currency_year() -> Iterator[Pair]:
    return ((t, year) for t, _, year in _only_currencies() if year and int(year) >= EARLIEST_YEAR)


@cache
def _speakers(territory: str) -> Mapping[str, float]:
    """Language -> share of the population in per cent, largest first."""
    languages = get_global("territory_languages").get(territory, {})
    shares = ((code, about["population_percent"]) for code, about in languages.items())
    return dict(sorted(shares, key=lambda item: -item[1]))


def _officials(territory: str, *, regional: bool) -> list[str]:
    wanted = (*OFFICIAL, "official_regional") if regional else OFFICIAL
    languages = get_global("territory_languages").get(territory, {})
    return [code for code, about in languages.items() if about["official_status"] in wanted]


def _official(territory: str) -> str | None:
    """The official language, where there is just one; regional ones count (South Africa's is not just English)."""
    official = _officials(territory, regional=True)
    return official[0] if len(official) == 1 else None


def _by_speakers(territory: str, place: int) -> str | None:
    """The language at a place (from 0) by share of the population, where that is beyond doubt."""
    shares = [*_speakers(territory).values(), 0, 0]
    clear = all(shares[i] >= CLEAR * shares[i + 1] for i in range(place + 1))
    return list(_speakers(territory))[place] if clear and shares[place] >= LEAST_SHARE[place] else None


def _official_language() -> Iterator[Pair]:
    return ((t, code) for t in _territories() if (code := _official(t)))


def _language_by_speakers(place: int) -> Iterator[Pair]:
    """Languages at a place by speakers; not where it is the official one, whose passage would be a near-duplicate."""
    return ((t, code) for t in _territories() if (code := _by_speakers(t, place)) and code != _official(t))


def _zone_region() -> Iterator[Pair]:
    for territory, zones in get_global("territory_zones").items():
        areas = {zone.split("/")[0] for zone in zones}
        if len(areas) == 1 and (region := ZONE_REGIONS.get(areas.pop())):
            yield territory, region


def _time_zone() -> Iterator[Pair]:
    old_ids = {new: old for old, new in get_global("zone_aliases").items()}
    zone_of = get_global("meta_zones")
    for territory in _territories():
        zones = {zone_of.get(z, zone_of.get(old_ids.get(z))) for z in get_global("territory_zones")[territory]}
        if len(zones) == 1 and None not in zones:
            yield territory, zones.pop()


def _first_weekday() -> Iterator[Pair]:
    for territory in _territories():
        likely = get_global("likely_subtags").get(f"und_{territory}", "en").split("_")[0]
        try:
            yield territory, str(Locale(likely, territory).first_week_day)
        except UnknownLocaleError:
            continue


def _likely(code: str, part: int) -> str | None:
    """Likely language (0), script (1) or territory (2) of a tag; none where it is the world."""
    parts = get_global("likely_subtags").get(code, "").split("_")
    return parts[part] if len(parts) == 3 and not parts[part].isdigit() else None


def _natural_languages() -> list[str]:
    return [code for code in _codes("language") if code not in CONSTRUCTED]


def _script_language() -> Iterator[Pair]:
    """Only scripts usual for their language: Hangul is not Korean's in CLDR, which would muddle the language's fact."""
    for script in _codes("script"):
        language = _likely(f"und_{script}", 0)
        if language and _likely(language, 1) == script:
            yield script, language


def _language_script() -> Iterator[Pair]:
    answers = {language for _, language in _script_language()}
    return ((c, s) for c in _natural_languages() if (s := _likely(c, 1)) and c not in answers)


@cache
def _homes() -> Mapping[str, set[str]]:
    """Language -> territories where it is official or has the most speakers (Tigrinya: Eritrea)."""
    homes: dict[str, set[str]] = {}
    for territory in _territories():
        for code in {*_officials(territory, regional=False), *list(_speakers(territory))[:1]}:
            homes.setdefault(code, set()).add(territory)
    return homes


def _language_territory() -> Iterator[Pair]:
    """Not where another territory has as good a claim, or where a fact about the territory says the same."""
    stated = {*_official_language(), *_language_by_speakers(0), *_language_by_speakers(1)}
    for code in _natural_languages():
        territory = _likely(code, 2)
        if territory and (territory, code) not in stated and _homes().get(code, set()) <= {territory}:
            yield code, territory


def _script_territory() -> Iterator[Pair]:
    return ((s, t) for s in _codes("script") if (t := _likely(f"und_{s}", 2)))


def _own_code(kind: str) -> Iterator[Pair]:
    return ((code, code) for code in _codes(kind) if not code.isdigit())


# Relation -> kind of subject, kind of answer, (subject, answer) codes.
RELATIONS = {
    "currency": ("territory", "currency", _currency),
    "official_language": ("territory", "language", _official_language),
    "main_language": ("territory", "language", lambda: _language_by_speakers(0)),
    "second_language": ("territory", "language", lambda: _language_by_speakers(1)),
    "zone_region": ("territory", "territory", _zone_region),
    "first_weekday": ("territory", "weekday", _first_weekday),
    "time_zone": ("territory", "zone", _time_zone),
    "territory_code": ("territory", "code", lambda: _own_code("territory")),
    "currency_year": ("territory", "year", _currency_year),
    "language_script": ("language", "script", _language_script),
    "language_territory": ("language", "territory", _language_territory),
    "language_code": ("language", "code", lambda: _own_code("language")),
    "currency_code": ("currency", "code", lambda: _own_code("currency")),
    "currency_territory": ("currency", "territory", _currency_territory),
    "script_code": ("script", "code", lambda: _own_code("script")),
    "script_language": ("script", "language", _script_language),
    "script_territory": ("script", "territory", _script_territory),
}
