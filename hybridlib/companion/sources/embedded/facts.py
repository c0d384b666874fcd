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
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from babel import Locale, UnknownLocaleError
from babel.core import get_global

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
SPLITS = {"train": 0.70, "dev": 0.15, "test": 0.15}
# Relation -> kind of its answer.
RELATIONS = {
    "currency": "currency",
    "official_language": "language",
    "main_language": "language",
    "second_language": "language",
    "zone_region": "territory",
    "first_weekday": "weekday",
    "time_zone": "zone",
    "territory_code": "code",
    "currency_year": "year",
    "language_script": "script",
    "language_territory": "territory",
    "language_code": "code",
    "currency_code": "code",
    "currency_territory": "territory",
    "script_code": "code",
    "script_language": "language",
    "script_territory": "territory",
}
WITHOUT_NAMES = ("code", "year")  # kinds of answers that read the same in every language

Names = Mapping[str, Mapping[str, str]]  # name id -> language -> name
Answers = dict[str, str | None]  # relation -> code of the answer, None where there is no fact

# What the first part of a time zone's id says about where it lies; the oceans among them say nothing.
ZONE_REGIONS = {"Africa": "002", "America": "019", "Asia": "142", "Europe": "150", "Pacific": "009"}
NOT_LANGUAGES = {"mul", "und", "zxx"}  # several, unknown, no language
# In many languages CLDR names these two only by an adjective ("Simplified"); braille belongs to no language.
NOT_SCRIPTS = {"Hans", "Hant", "Brai"}
# English calls the zone of Samoa ("Apia") what other languages call that of American Samoa ("Samoa").
NOT_ZONES = {"Apia", "Samoa"}
# Nobody's mother tongue, so no territory is theirs, whatever CLDR's likely subtags say; nor do we ask for their script.
CONSTRUCTED = {"afh", "eo", "ia", "ie", "io", "jbo", "tlh", "tok", "vo", "zbl"}
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


def fold(name: str) -> str:
    """A name without the differences that no reader would rely on (case, compatibility forms)."""
    return unicodedata.normalize("NFKC", name).casefold()


def load_facts(names: Names) -> list[Fact]:
    """Give all facts whose subject and answer have names, sorted by relation and subject."""
    answers_of = {"territory": _of_territory, "language": _of_language, "currency": _of_currency, "script": _of_script}
    return sorted(
        Fact(relation, f"{kind}:{code}", f"{RELATIONS[relation]}:{answer}")
        for kind, answers in answers_of.items()
        for code in _codes(kind)
        if f"{kind}:{code}" in names and not code.isdigit()  # a region is an answer, never a subject
        for relation, answer in answers(code).items()
        if answer and (RELATIONS[relation] in WITHOUT_NAMES or f"{RELATIONS[relation]}:{answer}" in names)
    )


def split_subjects(facts: Iterable[Fact], seed: int) -> dict[str, str]:
    """Subject id -> "train", "dev" or "test"; drawn within each kind of subject, by the seed alone."""
    split, by_kind = {}, defaultdict(list)
    for subject in {fact.subject for fact in facts}:
        by_kind[subject.split(":")[0]].append(subject)
    for drawn in by_kind.values():
        drawn.sort(key=lambda subject: (hashed(seed, "split", subject), subject))
        train, dev = (round(len(drawn) * SPLITS[part]) for part in ("train", "dev"))
        for i, subject in enumerate(drawn):
            split[subject] = "train" if i < train else "dev" if i < train + dev else "test"
    return split


# ---- names


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
        uses = Counter((lang, fold(name)) for spelled in candidates.values() for lang, name in spelled.items())
        for name_id, spelled in candidates.items():
            if all(uses[lang, fold(name)] == 1 for lang, name in spelled.items()):
                names[name_id] = spelled
    return names


@cache
def _codes(kind: str) -> list[str]:
    english, aliases = Locale("en"), get_global("language_aliases")
    codes = {
        "territory": _territories() + list(ZONE_REGIONS.values()),
        "language": {c for c in english.languages if "_" not in c} - NOT_LANGUAGES - set(aliases),
        "currency": _users(),
        "script": {c for c in english.scripts if not c.startswith("Z")} - NOT_SCRIPTS,  # Z: symbols and the like
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


# ---- what CLDR says


def _territories() -> list[str]:
    return [code for code in get_global("territory_zones") if code.isalpha() and code != "ZZ"]  # no 001 (world)


@cache
def _tenders() -> Mapping[str, list[tuple[str, str]]]:
    """Territory -> (currency, first year) of each legal tender without an end."""
    return {
        territory: [(code, str(start[0]) if start else "") for code, start, end, tender in spans if tender and not end]
        for territory, spans in get_global("territory_currencies").items()
    }


@cache
def _users() -> Mapping[str, list[str]]:
    """Currency -> territories where it is legal tender."""
    users = defaultdict(list)
    for territory, tenders in _tenders().items():
        for code, _ in tenders:
            users[code].append(territory)
    return users


@cache
def _languages(territory: str) -> Mapping[str, dict]:
    """Language -> population_percent and official_status, most speakers first."""
    languages = get_global("territory_languages").get(territory, {})
    return dict(sorted(languages.items(), key=lambda item: -item[1]["population_percent"]))


@cache
def _homes() -> Mapping[str, set[str]]:
    """Language -> territories where it is official or has the most speakers (Tigrinya: Eritrea)."""
    homes = defaultdict(set)
    for territory in _territories():
        for place, (code, about) in enumerate(_languages(territory).items()):
            if place == 0 or about["official_status"] in ("official", "de_facto_official"):
                homes[code].add(territory)
    return homes


def _likely(code: str, part: int) -> str | None:
    """Likely language (0), script (1) or territory (2) of a tag; none where it is the world."""
    parts = get_global("likely_subtags").get(code, "").split("_")
    return parts[part] if len(parts) == 3 and not parts[part].isdigit() else None


def _by_speakers(territory: str, place: int) -> str | None:
    """The language at a place (from 0) by share of the population, where that is beyond doubt."""
    languages = _languages(territory)
    shares = [*(about["population_percent"] for about in languages.values()), 0, 0]
    clear = all(shares[i] >= CLEAR * shares[i + 1] for i in range(place + 1))
    return list(languages)[place] if clear and shares[place] >= LEAST_SHARE[place] else None


def _time_zone(territory: str) -> str | None:
    zone_of, old_ids = get_global("meta_zones"), {new: old for old, new in get_global("zone_aliases").items()}
    zones = {zone_of.get(id, zone_of.get(old_ids.get(id))) for id in get_global("territory_zones")[territory]}
    return zones.pop() if len(zones) == 1 else None


def _first_weekday(territory: str) -> str | None:
    language = get_global("likely_subtags").get(f"und_{territory}", "en").split("_")[0]
    try:
        return str(Locale(language, territory).first_week_day)
    except UnknownLocaleError:
        return None


def _asked_of_currency(currency: str) -> bool:
    """Whether the one territory that uses a currency alone is asked of the currency, not the other way round: half."""
    users = _users()[currency]
    alone = len(users) == 1 and len(_tenders()[users[0]]) == 1
    return alone and hashed("currency", users[0], currency) % 2 == 0


# ---- the facts about a subject


@cache
def _of_territory(territory: str) -> Answers:
    """Languages by speakers are not asked where one is the official one, whose passage would be a near-duplicate."""
    tenders = _tenders().get(territory, [])
    currency, year = tenders[0] if len(tenders) == 1 else (None, "")
    # Regional ones count: English is not South Africa's only official language.
    officials = [code for code, about in _languages(territory).items() if about["official_status"]]
    official = officials[0] if len(officials) == 1 else None
    main, second = (_by_speakers(territory, place) for place in (0, 1))
    areas = {zone.split("/")[0] for zone in get_global("territory_zones")[territory]}
    return {
        "territory_code": territory,
        "currency": currency if currency and not _asked_of_currency(currency) else None,
        "currency_year": year if year and int(year) >= EARLIEST_YEAR else None,
        "official_language": official,
        "main_language": main if main != official else None,
        "second_language": second if second != official else None,
        "zone_region": ZONE_REGIONS.get(areas.pop()) if len(areas) == 1 else None,
        "first_weekday": _first_weekday(territory),
        "time_zone": _time_zone(territory),
    }


def _of_language(language: str) -> Answers:
    """A territory is asked for where no other has as good a claim, and no fact about the territory says the same."""
    if language in CONSTRUCTED:
        return {"language_code": language}
    script, territory = _likely(language, 1), _likely(language, 2)
    answers_for_script = language in {_of_script(code)["script_language"] for code in _codes("script")}
    stated = territory in _territories() and language in _of_territory(territory).values()
    return {
        "language_code": language,
        "language_script": None if answers_for_script else script,
        "language_territory": territory if not stated and _homes()[language] <= {territory} else None,
    }


def _of_currency(currency: str) -> Answers:
    territory = _users()[currency][0] if _asked_of_currency(currency) else None
    return {"currency_code": currency, "currency_territory": territory}


@cache
def _of_script(script: str) -> Answers:
    """A language only where the script is usual for it: Hangul is not Korean's in CLDR, which would muddle its fact."""
    language = _likely(f"und_{script}", 0)
    return {
        "script_code": script,
        "script_language": language if language and _likely(language, 1) == script else None,
        "script_territory": _likely(f"und_{script}", 2),
    }
