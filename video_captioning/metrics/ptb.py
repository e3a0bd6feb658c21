"""The rules behind `tokenization`: which stretches of text are one token, and how each is written.

At every place the rule that reaches furthest wins, what it looks ahead at included; of equals, the first. So the order
matters, from `_all_rules` down. Rules do not see the text but its outline, in which a character beyond ASCII stands for
all of its class, so that patterns stay short: é letter, \u0301 mark, ٠ digit, ² superscript, ¡ symbol, \0 unknown.
"""

# ruff: noqa: RUF001, RUF002 (it is about characters that look alike)
from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

# Unicode, as the tool knows it: marks that may stand in a word, symbols, and letters it is too old to know
_MARKS = """02c2-02c5 02d2-02df 02e5-02eb 02ed 02ef-036f 0375 0378-0379 0384-0385 03f6 0483-0487 055a-055f 0591-05bd
05bf 05c1-05c2 05c4-05c5 05c7 0615-061a 064b-065e 0670 06d6-06e4 06e7-06ed 06fd-06fe 070f 0711 0730-074c 07a6-07b0
07eb-07f3 0900-0903 093c 093e-094e 0951-0955 0962-0963 0981-0983 09bc 09be-09c4 09c7-09c8 09cb-09cd 09d7 09e2-09e3
0a01-0a03 0a3c 0a3e-0a4f 0a81-0a83 0abc 0abe-0acf 0b82 0bbe-0bc2 0bc6-0bc8 0bca-0bcd 0c01-0c03 0c3e-0c56 0d3e-0d44
0d46-0d48 0e31 0e34-0e3a 0e47-0e4e 0eb1 0eb4-0ebc 0ec8-0ecd"""
_SYMBOLS = """00a1 00a5-00a9 00ac 00ae-00b1 00b4 00b6-00b8 00bf 00d7 00f7 037e 0387 0589 05be 05c0 05c3 05c6 05f3-05f4
0600-0603 0606-060c 0614 061b 061e-061f 066a 066d 06d4 0700-070d 07f6-07f8 0964-0965 0e3f 0e4f 1fbd 2016-2017 2020-2023
2030-2038 203b 203e-2042 207a-207e 208a-208e 20a4 2100-2101 2103-2106 2108-2109 2114 2116-2118 211e-2123 2125 2127 2129
212e 213a-213b 2140-2144 214a-214d 214f 2155-215e 2190-2bff 3001-3002 3012 30fb ff01-ff0f ff1a-ff20 ff3b-ff40 ff5b-ff65
ffe0-ffe1 ffe5-ffe6"""
_NEWER = """037f 0528-052f 0560 0588 05ef 0860-086a 0870-0887 0889-088e 08a1 08ad-08c9 0978 0980 09fc 0af9 0c34 0c5a
0c5d 0c80 0cdd 0d04 0d54-0d56 0d5f 0de6-0def 0e86 0e89 0e8c 0e8e-0e93 0e98 0ea0 0ea8-0ea9 0eac 13f5 13f8-13fd 16f1-16f8
170d 171f 1878 191d-191e 19b0-19c0 19c8-19c9 1b4c 1c80-1c8a 1c90-1cba 1cbd-1cbf 1cf2-1cf3 1cfa 2c2f 2c5f 312e-312f
31bb-31bf 4db6-4dbf 9fcd-9fff a698-a69d a78f a794-a79f a7ab-a7dc a7f1-a7f7 a8fd-a8fe a9e0-a9e4 a9e6-a9fe aa7e-aa7f
ab30-ab5a ab5c-ab69 ab70-abbf"""
_OUTLINE = {
    "\n": "\r",
    "\x0b": "\x0b\u2028\u2029",
    "\x0c": "\x0c",
    "\xa0": "\xa0",
    "\u2003": "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u3000",
    "²": "²³¹\u2070\u2074\u2075\u2076\u2077\u2078\u2079",
    "₂": "₀₁₂₃₄₅₆₇₈₉",
    "„": "‚„‟",
    "¡": "\x80¤₠€£¢¼½¾⅓⅔",
    "‘": "\x91‘‛",  # \x80-\x9f: the tool reads them as Windows' code page
    "’": "\x92’",
    "“": "\x93\x94“”«»‹›",
    "–": "\x96\x97–—―",
    "…": "…",
    "\x85": "\x85",  # an ellipsis, but ends a line where a rule looks ahead
    "‐": "\u058a\u2010\u2011",
    "\xad": "\xad",
    "٫": "٫٬",
    "⁄": "⁄",
    "é": "\u1885\u1886",  # letters then, marks now
}
_WRITTEN = {"£": "#", "¢": "cents", "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_WRITTEN |= dict.fromkeys("\x80¤₠€", "$")
_WRITTEN |= {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_QUOTATION = str.maketrans(
    {
        **dict.fromkeys("\x91‘‛‹", "`"),
        **dict.fromkeys("\x92’›", "'"),
        **dict.fromkeys("\x93“«", "``"),
        **dict.fromkeys("\x94”»", "''"),
    }
)


class _Outline(dict[int, str]):
    """For `str.translate`: a character's code to the one that stands for its class."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _classify(code)
        return found


def _classify(code: int) -> str:
    if code > 0xFFFF or code in _ranges(_NEWER):
        return "\0"
    if code in _ranges(_MARKS):
        return "\u0301"
    if code in _ranges(_SYMBOLS):
        return "¡"
    category = unicodedata.category(chr(code))
    return "é" if category[0] == "L" else "٠" if category == "Nd" else "\0"


@cache
def _ranges(text: str) -> frozenset[int]:
    pairs = (
        (int(first, 16), int(last or first, 16)) for first, _, last in (part.partition("-") for part in text.split())
    )
    return frozenset(code for first, last in pairs for code in range(first, last + 1))


_outline = _Outline({code: chr(code) for code in (9, 10, *range(32, 127))})
_outline.update({ord(one): sign for sign, all_ in _OUTLINE.items() for one in all_})


def outline(text: str) -> str:
    """The text as the rules see it, one character for each of its own."""
    return text.translate(_outline)


# The ways to write a token, before it is put in lower case


def _plain(token: str) -> str:
    return token


def _word(token: str) -> str:
    return re.sub("&amp;", "&", token.replace("\xad", ""), flags=re.IGNORECASE).replace(" ", "\xa0")


def _clitic(token: str) -> str:
    return re.sub("[‘\x91‛]", "`", re.sub("&apos;|[’\x92]", "'", token))


def _quotes(token: str) -> str:
    return token.translate(_QUOTATION)


def _brackets(token: str) -> str:
    return token.replace("(", "-lrb-").replace(")", "-rrb-").replace(" ", "\xa0")


def _entity(token: str) -> str:
    return {"&lt;": "<", "&gt;": ">"}.get(token.lower(), "&")


def _sign(token: str) -> str:
    return _WRITTEN.get(token, token)


def _nothing(token: str) -> str:
    return ""


class Rule(NamedTuple):
    """Group 1 of `pattern` is the token, what follows it is looked ahead at. `starts`: what it can begin with."""

    starts: str
    write: Callable[[str], str]
    pattern: re.Pattern[str]


def _any(words: str) -> str:
    """One of the words; a letter that is small here may stand in either case."""
    spelt = (re.sub("[a-z.\\\\]+", lambda small: f"(?i:{small[0]})", word) for word in words.split())
    return f"(?:{'|'.join(sorted(spelt, key=len, reverse=True))})"


_ACCENTED = "&[aeiouAEIOU](?i:acute|grave|uml);"
_LETTER = f"(?:[a-zA-Zé\u0301\xad]|{_ACCENTED})"
_ALNUM = rf"(?:[a-zA-Zé\u0301\xad\d]|{_ACCENTED})"
_PART = r"[a-zA-Zé\d]"  # of a word with hyphens
_APOSTROPHE = "(?:['’]|(?i:&apos;))"
_CURLY = "(?:’|(?i:&apos;))"
_QUOTE = "(?:['’`‘]|(?i:&apos;))"
_BLANK = r"[ \t\xa0\u2003]"
_GAP = r"[ \t\xa0\u2003\n\x0b\x0c\x85]"
_WORD = rf"{_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)*"
_INITIALS = r"[a-zA-Z](?:\.[a-zA-Z])+\."
_PATH = r'/[^\t\n\x0c "()<>|]+[^\t\n\x0c "()<>{|},\-.!?]'
_MAIL = r'[^\t\n\x0c "()<>{|}\xa0]'
_HOST = r'[^\t\n\x0c "().<>{|}\xa0]'

_NAME = "[a-zA-Z][a-zA-Z0-9:._-]*"
_TAG = rf"(?:<{_NAME}(?: +{_NAME}(?: *= *(?:\"[^\"]*\"|'[^']*'))?)* */? *>|</{_NAME} *>|<[!?][a-zA-Z-][^>\n]*>)"

# Abbreviations that keep their full stop: where a sentence may end, the same but in capitals only, where none may end,
# before a number only
_ENDING = """ed\\.d ph\\.d al co ct ga jr ky md mo rd rt sq sr va vt ala apr aug bhd cos dak dec esq est etc ext feb
fla fri inc ind jan jul jun kan ltd mar mon neb nev nov oct plc sep seq sys tel thu tue wed wis wyo ariz assn bldg
blvd bros colo conn corp intl kans mich minn mont okla penn sept tenn tues univ wisc calif thurs"""
_LEADING = """cf dr ft lt mr ms mt ph st vs wm adj adm adv ave cie col cpl det drs ens gen gov hon jos maj mme mrs pfc
pvt rep rev sen sfc sgt spc ste alex asst atty brig capt cmdr dept elec govs insp invt mlle msgr natl pres prof reps
sens supt lieut messrs profs attys comdr assoc treas supts"""
_CAPITAL = "Az La Pa Ark Del Ill Ore Tex Mass Miss Wash"
_NUMBERED = "ca no op pp art fig nos figs prop"
_SUFFIXES = """bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt
ps py sql tar txt wav x xml zip"""
_OPENERS = """A About According After An As At But Earlier He Her Here However If In It Last Many More Now Once One
Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"""


@cache
def rules(start: str) -> tuple[Rule, ...]:
    """The rules that can begin with this character of an outline."""
    return tuple(rule for rule in _all_rules() if re.match(rule.starts, start))


@cache
def _all_rules() -> tuple[Rule, ...]:
    drafts = [*_words(), *_addresses(), *_with_apostrophes(), *_with_hyphens(), *_with_stops(), *_numbers(), *_signs()]
    return tuple(Rule(f"[{starts}]", write, re.compile(f"({token}){ahead}")) for starts, write, token, ahead in drafts)


_Draft = tuple[str, Callable[[str], str], str, str]  # starts, write, token, what is looked ahead at
_ALL = r"\s\S"
_LETTERS = "a-zA-Zé\u0301\xad&"
_ALNUMS = _LETTERS + r"\d"


def _words() -> list[_Draft]:
    parts = ("can not", "gim me", "gon na", "got ta", "lem me", "wan na")
    merged = [("cCgGlLwW", _word, f"(?i:{one})", f"(?i:{two})") for one, two in map(str.split, parts)]
    return [*merged, (_LETTERS, _word, _WORD, "")]


def _addresses() -> list[_Draft]:
    host = r'[^\t\n\x0c "()<>{|},.!?]+'
    return [
        ("<", _word, _TAG, ""),
        ("hH", _plain, r'(?i:https?)://[^\t\n\x0c "()<>{|}]+[^\t\n\x0c "()<>{|},\-.!?]', ""),
        ("wW", _plain, rf"(?i:www)\.(?:{host}\.)+[a-zA-Z]{{2,4}}", ""),
        ("wW", _plain, rf"(?i:www)\.(?:{host}\.)+?[a-zA-Z]{{2,4}}{_PATH}", ""),
        (_ALL, _plain, rf'(?:[^\t\n\x0c "!$\'()\x2c-\x60{{|}}]+\.)+(?i:com|net|org|edu)(?:{_PATH})?', ""),
        ("<&a-zA-Z0-9", _plain, rf"(?:<|(?i:&lt;))?[a-zA-Z0-9]{_MAIL}*@(?:{_HOST}+\.)*{_HOST}+>?", ""),
        ("@", _plain, "@[a-zA-Z_][a-zA-Z_0-9]*", ""),
        ("#", _plain, f"#{_LETTER}+", ""),
    ]


def _with_apostrophes() -> list[_Draft]:
    negated = f"[nN]{_QUOTE}[tT]"
    clitics = "(?i:s|m|d|re|ve|ll)"
    clitic = f"(?:{_CURLY}{clitics}|'{clitics}(?![a-zA-Z]))"
    starts = "'’&"
    return [
        ("a-zA-Z\xad", _word, r"[a-zA-Z\xad]*[a-mo-zA-MO-Z]\xad*", negated),
        (_LETTERS, _word, _WORD, f"{_APOSTROPHE}{clitics}"),
        ("nN", _clitic, negated, ""),
        (starts, _clitic, clitic, ""),
        ("'", _plain, "'[tT]", "(?i:is|was)"),
        (starts, _plain, f"{_APOSTROPHE}(?i:em|till?|cause|n{_APOSTROPHE})|{_CURLY}[nN]", ""),
        (starts, _plain, "'[nN]", r"[ \t\xa0\n]"),
        (starts, _plain, f"{_APOSTROPHE}[2-9]0[sS]", ""),
        (starts, _plain, f"{_APOSTROPHE}[0-9][0-9]", _GAP),
        ("a-zA-Z", _word, f"[dlnoA-HJ-XZ]{_QUOTE}[a-zA-Zé]{{2,}}", ""),
        ("oO", _word, f"(?i:o{_QUOTE}o|ne{_QUOTE}er|o{_QUOTE}er)", ""),
        (_LETTERS, _word, f"[a-zA-Zé]+[aeiouyAEIOUY]{_QUOTE}[aeiouA-Z][a-zA-Zé]*", ""),
        ("dDlLjJ", _plain, f"[dljDLJ]{_APOSTROPHE}", ""),
        ("yY", _plain, f"[yY]{_APOSTROPHE}", "[a-zA-Zé]"),
        ("cCoOsS", _plain, f"(?i:ol{_APOSTROPHE}|cap{_APOSTROPHE}n|somethin{_APOSTROPHE})", ""),
        ("cCeElLnNsS", _plain, "(?i:li'l|nat'l|e'er|ev'ry|c'mon|c'est|s'mores)", ""),
        ("dD", _plain, "(?i:dunkin')", "(?![a-zA-Z])"),
    ]


def _with_hyphens() -> list[_Draft]:
    ending = rf"(?:{_any(_ENDING)}|{_any(_CAPITAL)}|[pP]?[pP]t[ey]s?)\."
    piece = f"(?:[dDoOlL]{_QUOTE}(?={_PART}{{2}}))?{_PART}+"  # jack-o'lantern
    hyphened = f"{piece}(?:[-‐_]{piece})*"
    dotted = rf"[a-zA-Z0-9][a-zA-Z0-9.,\xad]*(?:-(?:{_INITIALS}|[a-zA-Z0-9\xad]+))+"
    firm = r"[A-Z]+(?:(?:\+|&(?i:amp;)?)[A-Z]+)+"  # AT&T
    slashed = r"[a-zA-Z0-9]+(?:-[a-zA-Z]+){0,2}"
    return [
        ("a-zA-Z", _word, ending, r"[\s\S]{0,2}"),
        *((_ALNUMS, _word, word, "") for word in (dotted, hyphened, firm)),
        *((_ALNUMS, _word, rf"{word}\.", "[,;:]") for word in (_WORD, dotted, hyphened, firm)),
        ("a-zA-Z0-9", _word, rf"{slashed}(?:\\?/{slashed}){{1,2}}", ""),
        ("aApP", _plain, "(?i:anti|pro)-", ""),
    ]


def _with_stops() -> list[_Draft]:
    opener = rf"(?:{_any(_OPENERS)}|M[rRsS]\.|{_TAG})"
    return [
        ("a-zA-Z", _word, rf"(?:{_any(_LEADING)}|[mM][ft]g)\.", ""),
        ("a-zA-Z", _word, rf"{_any(_NUMBERED)}\.", rf"{_GAP}?\d"),
        ("a-zA-Z", _word, r"[a-zA-Z]\.", ""),
        ("a-zA-Z", _word, "[a-zA-Z]", rf"\.{_GAP}+{opener}{_GAP}"),  # "vitamin C. The": the sentence's stop
        ("a-zA-Z", _word, _INITIALS, ""),
        (_ALNUMS, _plain, rf"{_ALNUM}+(?:\.{_ALNUM}+)*\.{_any(_SUFFIXES)}", rf"(?:[!,.?]|{_GAP})"),
    ]


def _numbers() -> list[_Draft]:
    area = r"(?:\([0-9]{2,3}\)[ \xa0]?|\+{0,2}(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])"
    return [
        (r"-+.:,٫\d\xad", _word, r"[-+]?(?:\d*(?:[.:,٫\xad]\d+)+|\d+)", ""),
        (r"\d", _word, r"(?:\d{1,4}[- \xa0])?\d{1,4}(?:\\?/|⁄)\d{1,4}", ""),
        (r"\d", _word, r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", ""),
        ("(+0-9", _brackets, area + r"[0-9]{3,4}[- \xa0]?[0-9]{3,5}", ""),
    ]


def _signs() -> list[_Draft]:
    eye = r"[\^x=~<>'\-]"
    return [
        ("cCfF", _plain, r"[cC]\+\+|[cCfF]#", ""),
        ("A-Z", _plain, r"[A-Z]+\$", ""),
        ("<>:;=", _brackets, r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", "(?![a-zA-Z0-9])"),
        (r"\^x=~<>'(\-", _brackets, rf"{eye}_{eye}|\({eye}[_.]?{eye}\)|\([\^x=~<>']-[\^x=~<>'`]\)", ""),
        ("-", _plain, "(?i:-[lr][rcs]b-)", ""),
        ("&", _nothing, "&(?i:md|mdash|ndash|nbsp);|&quot;|&apos;", ""),
        ("&", _plain, "&(?i:ht|tl|ur|lr|qc|ql|qr|odq|cdq|quot|apos);|&#[0-9]+;", ""),
        ("&", _entity, "&(?i:amp|lt|gt);", ""),
        (_ALL, _plain, r"(?:\\\*)+|\*+|@+|#+|_+|²+|₂+|„{1,2}|[!?]{2,}|<<|>>|-{5,}", ""),
        ("`‘’“", _quotes, "[`‘’“]{1,2}", ""),
        (_ALL, _nothing, r"''|``|-{2,4}|\.{3,5}|\.(?:[ \xa0]\.){2,4}", ""),
        (_ALL, _nothing, f"{_BLANK}+", ""),
        (_ALL, _nothing, r"[-.,:;!?'\"–…\x85\s\0٫‐\xad]", ""),
        (_ALL, _sign, r"[\s\S]", ""),
    ]
