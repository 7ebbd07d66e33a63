"""Invalid taxonomies and configs: the whole messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from marginalia.scoring.models.model_reference import MODEL_HINT
from tests.bad_input.table import SHIPPED, Files, Row, check, names

HEAD = 'id: mine\nversion: "1"\ntitle: Mine\nsubject: texts\n'
A, B = "  - {id: a, name: A, definition: x}\n", "  - {id: b, name: B, definition: x}\n"


def taxonomy(labels: str, more: str = "", head: str = HEAD) -> Files:
    return {"t.yaml": f"{head}labels:\n{labels}{more}"}


def config(text: str) -> Files:
    return {"runs/r/config.yaml": f"taxonomy: support-tickets\n{text}"}


NEW, CHECK = "new z --taxonomy t.yaml", "config --run runs/r"
TAXONOMIES: list[Row] = [
    (
        "missing",
        {},
        NEW,
        2,
        "t.yaml: no such taxonomy file (give its path, or a shipped name: llama-guard-2, llama-guard-3, "
        "support-tickets)",
    ),
    (
        "unknown",
        {},
        "new z --taxonomy lama-guard-3",
        2,
        "no taxonomy 'lama-guard-3'; did you mean 'llama-guard-3'? (shipped: llama-guard-2, llama-guard-3, "
        "support-tickets; or give the path of a .yaml file)",
    ),
    (
        "empty",
        {"t.yaml": ""},
        NEW,
        2,
        "t.yaml: line 1: expected keys with values, saw nothing (the shipped support-tickets.yaml shows every key)",
    ),
    (
        "a list",
        {"t.yaml": "- a\n"},
        NEW,
        2,
        "t.yaml: line 1: expected keys with values, saw a list (the shipped support-tickets.yaml shows every key)",
    ),
    (
        "wrong keys",
        {"t.yaml": "categories: [a]\n"},
        NEW,
        2,
        "t.yaml: line 1: key 'id' is missing; it has categories (the shipped support-tickets.yaml shows every key)",
    ),
    (
        "misspelt key",
        taxonomy("  - {id: a, nmae: A, definition: x}\n"),
        NEW,
        2,
        "t.yaml: line 6: unknown key 'nmae'; did you mean 'name'? (the shipped support-tickets.yaml shows every key)",
    ),
    (
        "key twice",
        taxonomy(A, "title: Other\n"),
        NEW,
        2,
        "t.yaml: line 7: duplicate key 'title', first in line 3",
    ),
    (
        "no labels",
        {"t.yaml": HEAD + "labels: []\n"},
        NEW,
        2,
        "t.yaml: line 5: labels: List should have at least 1 item after validation, not 0 (the sh"
        "ipped support-tickets.yaml shows every key)",
    ),
    (
        "a number",
        taxonomy(A, head=HEAD.replace('"1"', "1")),
        NEW,
        2,
        "t.yaml: line 2: version: Input should be a valid string, saw 1: put it in quotes (the sh"
        "ipped support-tickets.yaml shows every key)",
    ),
    (
        "a name that is empty",
        taxonomy("  - {id: a, name: , definition: x}\n"),
        NEW,
        2,
        "t.yaml: line 6: labels.0.name: Input should be a valid string, saw nothing (the shipped "
        "support-tickets.yaml shows every key)",
    ),
    (
        "duplicate ids",
        taxonomy(A + B + A),
        NEW,
        2,
        "t.yaml: line 8: duplicate label id 'a' (label ids must be unique)",
    ),
    (
        "duplicate names",
        taxonomy(A + "  - id: b\n    definition: x\n    name: a\n"),
        NEW,
        2,
        "t.yaml: line 9: two answers are named 'a' (annotators see names, so the names of the labels and of none "
        "must differ)",
    ),
    (
        "a label named none",
        taxonomy(A + B.replace("id: b", "id: none")),
        NEW,
        2,
        "t.yaml: line 7: label id 'none' is reserved; rename it (reserved: unsafe, safe, none)",
    ),
    (
        "unknown parent",
        taxonomy(A + "  - {id: b, name: B, definition: x, parent: c}\n"),
        NEW,
        2,
        "t.yaml: line 7: label 'b' has the unknown parent 'c' (a parent is the id of another label)",
    ),
    (
        "cycle",
        taxonomy(A.replace("x}", "x, parent: b}") + B.replace("x}", "x, parent: a}")),
        NEW,
        2,
        "t.yaml: line 6: parents form a cycle: a → b → a (remove one of these parents)",
    ),
    (
        "unknown pair",
        taxonomy(A + B, "forbidden_pairs:\n  - [a, b]\n  - [a, refund]\n"),
        NEW,
        2,
        "t.yaml: line 10: forbidden_pairs: unknown label 'refund' (a pair consists of two different label ids)",
    ),
    (
        "10 MB",
        taxonomy(A.replace("x}", "x" * 10_000_000 + "}")),
        NEW,
        2,
        "t.yaml: text of 10,000,092 characters; the limit is 1,000,000 (expected a file of a few pages)",
    ),
    (
        "NUL",
        taxonomy(A + '  - {id: b, name: "B\0", definition: x}\n'),
        NEW,
        2,
        "t.yaml: line 7: not YAML: the character U+0000 (remove it from the file)",
    ),
    (
        "NUL, escaped",
        taxonomy(A + '  - {id: b, name: "B\\0", definition: x}\n'),
        NEW,
        2,
        "t.yaml: line 7: a NUL character at position 1 (remove it from the file)",
    ),
    (
        "a lone surrogate",
        taxonomy(A + '  - {id: b, name: "B\\ud800", definition: x}\n'),
        NEW,
        2,
        "t.yaml: line 7: a lone surrogate U+D800 at position 1 (remove it from the file)",
    ),
    (
        "U+202E",
        taxonomy(A + '  - {id: b, name: "B\u202e", definition: x}\n'),
        NEW,
        2,
        "t.yaml: line 7: the reordering character U+202E at position 1 (remove it from the file)",
    ),
    (
        "invalid UTF-8",
        {"t.yaml": HEAD.encode() + b"labels: [\xff]\n"},
        NEW,
        2,
        "t.yaml: line 5: byte 58 is not UTF-8 (save it as UTF-8)",
    ),
    (
        "in a run",
        {"runs/r/t.yaml": "", "runs/r/config.yaml": "taxonomy: t.yaml\n"},
        "plan --run runs/r",
        2,
        "runs/r/t.yaml: line 1: expected keys with values, saw nothing (the shipped support-ticke"
        "ts.yaml shows every key)",
    ),
]
CONFIGS: list[Row] = [
    (
        "missing",
        {"runs/r/config.yaml": None},
        CHECK,
        2,
        "runs/r: not a run folder: config.yaml not found (create one with: marginalia new NAME --taxonomy NAME)",
    ),
    ("no run", {}, "plan --run runs/other", 2, "runs/other: no such run (marginalia new other --taxonomy NAME)"),
    (
        "misspelt run",
        {"runs/shop/config.yaml": "taxonomy: support-tickets\n"},
        "plan --run runs/shpo",
        2,
        "runs/shpo: no such run; did you mean 'runs/shop'? (marginalia new shpo --taxonomy NAME)",
    ),
    (
        "run without its folder",
        {"runs/shop/config.yaml": "taxonomy: support-tickets\n"},
        "plan --run shop",
        2,
        "shop: no such run; did you mean 'runs/shop'? (marginalia new shop --taxonomy NAME)",
    ),
    (
        "empty",
        {"runs/r/config.yaml": ""},
        CHECK,
        2,
        "runs/r/config.yaml: the file is empty (the shortest config is one line, taxonomy: taxonomy.yaml; "
        "marginalia config --explain lists all keys)",
    ),
    (
        "unknown guard",
        config("score:\n  guards:\n  - {name: g, guard: support-ticket, model: bundled-guard}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 4: guard: no guard 'support-ticket'; did you mean 'support-tickets'? "
        f"(shipped: {SHIPPED}; or give the path of a .yaml file)",
    ),
    (
        "unknown model",
        config("score:\n  guards:\n  - name: g\n    guard: support-tickets\n    model: bundled-gard\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 6: model: no model 'bundled-gard': no such folder; did you mean 'bundled-guard'? "
        f"({MODEL_HINT})",
    ),
    (
        "a Hub id without a revision",
        config("score:\n  guards:\n  - name: g\n    guard: instruct\n    model: meta-llama/Llama-Guard-3-8B\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 6: model: no folder 'meta-llama/Llama-Guard-3-8B', and a Hub model needs a pinned "
        "revision (set revision (--revision) to a commit id from the model's Hub page)",
    ),
    (
        "wrong keys",
        {"runs/r/config.yaml": "a: 1\n"},
        CHECK,
        2,
        "runs/r/config.yaml: line 1: key 'taxonomy' is missing; it has a (marginalia config --explain taxonomy)",
    ),
    (
        "misspelt key",
        config("plan:\n  recrods: 5\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 3: unknown key 'recrods'; did you mean 'records'? (marginalia c"
        "onfig --explain records)",
    ),
    (
        "misspelt section",
        config("anotation: {}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: unknown key 'anotation'; did you mean 'annotation'? (margina"
        "lia config --explain annotation)",
    ),
    (
        "misspelt key that is needed",
        config("score:\n  guards:\n  - name: g\n    guard: instruct\n    modle: m\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 6: unknown key 'modle'; did you mean 'model'? (marginalia config --explain model)",
    ),
    (
        "a key like none",
        config("plan: {zzz: 1}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: unknown key 'zzz'; expected one of attributes, difficulties, languages, "
        "min_per_label, min_per_pair, near_misses, records, shares",
    ),
    (
        "a word for a number",
        config("plan:\n  records: many\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 3: plan.records: Input should be a valid integer, unable to par"
        "se string as an integer, saw 'many' (marginalia config --explain records)",
    ),
    (
        "too small",
        config("plan: {records: 0}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: plan.records: Input should be greater than or equal to 1, sa"
        "w 0 (marginalia config --explain records)",
    ),
    (
        "a section without keys",
        config("plan:\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: plan: expected keys with values, saw nothing (marginalia config --explain plan)",
    ),
    (
        "one of a few words",
        config("reconcile: {method: majorty}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: reconcile.method: Input should be 'majority', 'dawid_skene' "
        "or 'mace', saw 'majorty'; did you mean 'majority'? (marginalia config --explain method)",
    ),
    (
        "NaN",
        config("score: {tolerance: .nan}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: score.tolerance: Input should be less than or equal to 1, sa"
        "w nan (marginalia config --explain tolerance)",
    ),
    (
        "unknown estimator",
        config("score: {estimators: [marginl]}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: score.estimators: unknown estimator 'marginl'; did you mean "
        "'marginal'? (marginalia config --explain estimators)",
    ),
    (
        "unknown taxonomy",
        {"runs/r/config.yaml": "seed: 1\ntaxonomy: suport-tickets\n"},
        CHECK,
        2,
        "runs/r/config.yaml: line 2: taxonomy: no taxonomy 'suport-tickets'; did you mean 'support-tickets'? "
        "(shipped: llama-guard-2, llama-guard-3, support-tickets; or give the path of a .yaml file)",
    ),
    (
        "a key in an address",
        config("generate: {endpoint: {base_url: 'http://me:sk-canary@h/v1', model: m}}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: generate.endpoint.base_url: expected an address and nothing "
        "more, such as http://127.0.0.1:8000/v1; a key belongs in an environment variable, which "
        "api_key_env names (marginalia config --explain base_url)",
    ),
    (
        "a key in Argilla's address",
        config("annotation: {url: 'http://h/?key=sk-canary'}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: annotation.url: expected an address and nothing more, such a"
        "s http://127.0.0.1:8000/v1; a key belongs in an environment variable, which api_key_env "
        "names (marginalia config --explain url)",
    ),
    (
        "a key in a guard's address",
        config("score:\n  guards:\n  - {name: g, guard: instruct, model: 'http://me:sk-canary@h/v1'}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 4: score.guards.0.model: expected an address and nothing more, "
        "such as http://127.0.0.1:8000/v1; a key belongs in an environment variable, which api_ke"
        "y_env names (marginalia config --explain model)",
    ),
    (
        "a key for a variable",
        config("annotation: {api_key_env: sk-canary}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: annotation.api_key_env: expected the NAME of an environment "
        "variable, such as OPENAI_API_KEY, not a key (marginalia config --explain api_key_env)",
    ),
    (
        "10 MB",
        {"runs/r/config.yaml": f"taxonomy: {'x' * 10_000_000}\n"},
        CHECK,
        2,
        "runs/r/config.yaml: text of 10,000,011 characters; the limit is 1,000,000 (expected a file of a few pages)",
    ),
    (
        "NUL",
        config("# \0\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: not YAML: the character U+0000 (remove it from the file)",
    ),
    (
        "U+202E",
        config("release: {license: 'mit\u202e'}\n"),
        CHECK,
        2,
        "runs/r/config.yaml: line 2: the reordering character U+202E at position 3 (remove it from the file)",
    ),
    (
        "invalid UTF-8",
        {"runs/r/config.yaml": b"taxonomy: support-tickets\n# \xff\n"},
        CHECK,
        2,
        "runs/r/config.yaml: line 2: byte 28 is not UTF-8 (save it as UTF-8)",
    ),
]


@pytest.mark.parametrize("row", TAXONOMIES, ids=names(TAXONOMIES))
def test_taxonomies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    check(tmp_path, row)


@pytest.mark.parametrize("row", CONFIGS, ids=names(CONFIGS))
def test_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    check(tmp_path, row)
