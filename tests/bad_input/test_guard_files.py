"""Invalid guard files and mappings: the whole messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from marginalia.pipeline.importing.column_mapping import SHIPPED as MAPPINGS
from marginalia.scoring.guard import SHIPPED as GUARDS
from tests.bad_input.table import GOOD, SHIPPED, Files, Row, check, jsonl, names

INSTRUCT = (GUARDS / "instruct.yaml").read_text()
LLAMA = (GUARDS / "llama-guard-3.yaml").read_text()
RECORDS = (MAPPINGS / "records.yaml").read_text()


def guard(before: str = "", after: str = "", *, shipped: str = INSTRUCT) -> Files:
    return {"r.jsonl": jsonl(GOOD), "g.yaml": shipped.replace(before, after)}


def mapping(before: str = "", after: str = "") -> Files:
    return {"r.jsonl": jsonl(GOOD), "m.yaml": RECORDS.replace(before, after)}


SCORE, IMPORT = "scoring r.jsonl --guard g.yaml", "import r.jsonl --run runs/r --mapping m.yaml"
GUARD_FILES: list[Row] = [
    (
        "missing",
        {"r.jsonl": jsonl(GOOD)},
        SCORE,
        2,
        f"g.yaml: no such guard file (give its path, or a shipped name: {SHIPPED})",
    ),
    (
        "unknown",
        {"r.jsonl": jsonl(GOOD)},
        "scoring r.jsonl --guard lama-guard-3",
        2,
        "no guard 'lama-guard-3'; did you mean 'llama-guard-3'? "
        f"(shipped: {SHIPPED}; or give the path of a .yaml file)",
    ),
    (
        "a path that is no guard",
        {"r.jsonl": jsonl(GOOD)},
        "scoring r.jsonl --guard ../../etc/passwd",
        2,
        f"no guard '../../etc/passwd' (shipped: {SHIPPED}; or give the path of a .yaml file)",
    ),
    (
        "empty",
        {"r.jsonl": jsonl(GOOD), "g.yaml": ""},
        SCORE,
        2,
        "g.yaml: line 1: expected keys with values, saw nothing (scoring/guards/README.md explains the keys)",
    ),
    (
        "wrong keys",
        {"r.jsonl": jsonl(GOOD), "g.yaml": "a: 1\n"},
        SCORE,
        2,
        "g.yaml: line 1: key 'guard' is missing; it has a (scoring/guards/README.md explains the keys)",
    ),
    (
        "misspelt key",
        guard("source:", "sourc:"),
        SCORE,
        2,
        "g.yaml: line 3: unknown key 'sourc'; did you mean 'source'? (scoring/guards/README.md explains the keys)",
    ),
    (
        "misspelt key of the prompt",
        guard("  message:", "  mesage:"),
        SCORE,
        2,
        "g.yaml: line 11: unknown key 'mesage'; did you mean 'message'? (scoring/guards/README.md explains the keys)",
    ),
    (
        "unknown key of the prompt",
        guard("prompt:\n", "prompt:\n  fraem: x\n"),
        SCORE,
        2,
        "g.yaml: line 11: unknown key 'fraem'; did you mean 'frame'? (scoring/guards/README.md explains the keys)",
    ),
    (
        "a name that the template does not know",
        guard("conversation", "convrsation"),
        SCORE,
        2,
        "g.yaml: line 22: prompt.message: the template uses the unknown variable 'convrsation'; did you mean 'conv"
        "ersation'? (scoring/guards/README.md explains the keys)",
    ),
    (
        "a template that does not parse",
        guard("{% for", "{% fro"),
        SCORE,
        2,
        "g.yaml: line 14: prompt.message: the template does not parse: Encountered unknown tag 'fr"
        "o'. (scoring/guards/README.md explains the keys)",
    ),
    (
        "duplicate codes",
        guard("hate: S10", "hate: S2", shipped=LLAMA),
        f"{SCORE} --taxonomy llama-guard-3",
        2,
        "g.yaml: line 25: 'hate' has the same code as 'non_violent_crimes': S2 (give each label a code of its own)",
    ),
    (
        "unknown label",
        guard("  hate: S10", "  haet: S10", shipped=LLAMA),
        f"{SCORE} --taxonomy llama-guard-3",
        2,
        "g.yaml: line 25: label 'haet' is not in the taxonomy llama-guard-3; did you mean 'hate'?"
        " (guard llama-guard-3 is for the taxonomy llama-guard-3)",
    ),
    (
        "a name for no label",
        guard("  hate: Hate", "  haet: Hate", shipped=LLAMA),
        f"{SCORE} --taxonomy llama-guard-3",
        2,
        "g.yaml: line 40: 'haet' in 'names' is not one of the guard's labels; did you mean 'ha"
        "te'? (scoring/guards/README.md explains the keys)",
    ),
    (
        "another taxonomy",
        guard(shipped=LLAMA),
        SCORE,
        2,
        "g.yaml: line 16: label 'violent_crimes' is not in the taxonomy support-tickets (guard ll"
        "ama-guard-3 is for the taxonomy llama-guard-3; categories says which of its labels mean those of your policy)",
    ),
    (
        "unknown taxonomy",
        guard(),
        f"{SCORE} --taxonomy suport-tickets",
        2,
        "no taxonomy 'suport-tickets'; did you mean 'support-tickets'? (shipped: llama-guard-2, llama-guard-3, "
        "support-tickets; or give the path of a .yaml file)",
    ),
    (
        "NUL",
        guard("title:", "# \0\ntitle:"),
        SCORE,
        2,
        "g.yaml: line 2: not YAML: the character U+0000 (remove it from the file)",
    ),
    (
        "U+202E",
        guard("title:", "title: \u202e"),
        SCORE,
        2,
        "g.yaml: line 2: the reordering character U+202E at position 0 (remove it from the file)",
    ),
    (
        "invalid UTF-8",
        {"r.jsonl": jsonl(GOOD), "g.yaml": b"guard: \xff\n"},
        SCORE,
        2,
        "g.yaml: line 1: byte 7 is not UTF-8 (save it as UTF-8)",
    ),
    (
        "cycle",
        {"r.jsonl": jsonl(GOOD), "g.yaml": "a: &a [*a]\n"},
        SCORE,
        2,
        "g.yaml: line 1: recursive alias (write the values out)",
    ),
]
SHIPPED_MAPPINGS = (
    "aegis-2, beavertails-llama-guard-2, beavertails, harmbench, hatexplain-hub, hatexplain, jigsaw, "
    "openai-moderation, paper-llama-guard-2, paper-llama-guard-3, records, simple-safety-tests, toxic-chat, "
    "wildguardmix, xstest-safe, xstest"
)
KEYS = "(marginalia import --show-mapping records shows the keys)"
MAPPING_FILES: list[Row] = [
    (
        "missing",
        {"r.jsonl": jsonl(GOOD)},
        IMPORT,
        2,
        f"m.yaml: no such mapping file (give its path, or a shipped name: {SHIPPED_MAPPINGS})",
    ),
    (
        "unknown",
        {"r.jsonl": jsonl(GOOD)},
        "import r.jsonl --run runs/r --mapping paper-lama-guard-3",
        2,
        "no mapping 'paper-lama-guard-3'; did you mean 'paper-llama-guard-3'? "
        f"(shipped: {SHIPPED_MAPPINGS}; or give the path of a .yaml file)",
    ),
    (
        "empty",
        {"r.jsonl": jsonl(GOOD), "m.yaml": ""},
        IMPORT,
        2,
        "m.yaml: line 1: expected keys with values, saw nothing " + KEYS,
    ),
    (
        "wrong keys",
        {"r.jsonl": jsonl(GOOD), "m.yaml": "a: 1\n"},
        IMPORT,
        2,
        "m.yaml: line 1: unknown key 'a'; expected one of annotators, attributes, duplicates, files, hub, id, "
        "join, labels, messages, messages_form, skip, source, strip, text, title, unusable " + KEYS,
    ),
    (
        "misspelt key",
        mapping("text: text", "txt: text"),
        IMPORT,
        2,
        "m.yaml: line 5: unknown key 'txt'; did you mean 'text'? " + KEYS,
    ),
    (
        "misspelt key that is needed",
        mapping("  column:", "  colum:"),
        IMPORT,
        2,
        "m.yaml: line 7: unknown key 'colum'; did you mean 'column'? " + KEYS,
    ),
    (
        "text and messages",
        mapping("text: text", "text: text\nmessages: m"),
        IMPORT,
        2,
        "m.yaml: line 3: give either text or messages " + KEYS,
    ),
    (
        "unknown label",
        mapping("  column: labels", "  column: labels\n  values:\n    late: late_delivry"),
        IMPORT,
        2,
        "m.yaml: line 9: labels.values.late: unknown label 'late_delivry'; did you mean 'late_del"
        "ivery'? (the values on the right must be ids of the taxonomy support-tickets)",
    ),
    (
        "unknown form",
        mapping("form: list", "form: lists"),
        IMPORT,
        2,
        "m.yaml: line 8: labels.form: Input should be 'list', 'text' or 'flags', saw 'lists'; did you mean 'list'? "
        + KEYS,
    ),
    (
        "a file instead of a run",
        mapping(),
        "import r.jsonl --run r.jsonl --mapping m.yaml",
        2,
        "r.jsonl: is a file, expected the folder of a run (such as --run runs/NAME)",
    ),
    (
        "unknown mapping to show",
        {},
        "import --show-mapping recods",
        2,
        f"no mapping 'recods'; did you mean 'records'? (shipped: {SHIPPED_MAPPINGS}; or give the path of a .yaml file)",
    ),
    (
        "judged label that the taxonomy does not have",
        mapping("  judged: {column: judged, optional: true}", "  judged: [refund, invoic]"),
        IMPORT,
        2,
        "m.yaml: line 10: labels.judged.1: unknown label 'invoic'; did you mean 'invoice'? (these must be ids of the "
        "taxonomy support-tickets)",
    ),
    (
        "a column that is not there",
        mapping("text: text", "text: txet"),
        IMPORT,
        2,
        "{folder}/r.jsonl: line 1: no column 'txet'; did you mean 'text'?; it has id, labels, text (--mapping takes a "
        "YAML file; its key text names the column)",
    ),
    (
        "another form",
        mapping("form: list", "form: flags"),
        IMPORT,
        2,
        "{folder}/r.jsonl: line 1: 'labels' is \"['late_delivery']\", expected the form flags of the mapping ("
        "labels.form of the mapping: list, text with a separator, or flags)",
    ),
    (
        "a value that is not listed",
        mapping("  column: labels", "  column: labels\n  values: {late-delivery: late_delivery}"),
        IMPORT,
        2,
        "{folder}/r.jsonl: line 1: 'labels': unknown label value 'late_delivery'; did you mean 'l"
        "ate-delivery'? (add it to labels.values or labels.ignore of the mapping)",
    ),
    (
        "NUL",
        mapping("title:", "# \0\ntitle:"),
        IMPORT,
        2,
        "m.yaml: line 3: not YAML: the character U+0000 (remove it from the file)",
    ),
    (
        "invalid UTF-8",
        {"r.jsonl": jsonl(GOOD), "m.yaml": b"text: \xff\n"},
        IMPORT,
        2,
        "m.yaml: line 1: byte 6 is not UTF-8 (save it as UTF-8)",
    ),
]


@pytest.mark.parametrize("row", GUARD_FILES, ids=names(GUARD_FILES))
def test_guard_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    check(tmp_path, row)


@pytest.mark.parametrize("row", MAPPING_FILES, ids=names(MAPPING_FILES))
def test_mappings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    check(tmp_path, row)
