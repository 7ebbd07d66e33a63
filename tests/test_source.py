"""Security rules that are checked in the syntax trees of our code, such as: no eval, no pickle, no shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "scoring", "annotation", "pipeline")
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
EVALUATORS = {"eval", "exec", "compile", "__import__"}
UNSAFE = {
    *(f"yaml.{name}" for name in ("load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all")),
    *("torch.load", "os.system", "os.popen", "tempfile.mktemp", "np.load", "numpy.load"),
}
AUTO = ("AutoTokenizer", "AutoConfig", "AutoModel", "AutoModelForCausalLM")


def violations(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that is not allowed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names if name.name.split(".")[0] in PICKLES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[tuple[int, str]]:
    called = ast.unparse(node.func)
    named = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg}
    if called in EVALUATORS or called in UNSAFE:
        yield node.lineno, called
    for name, required in (
        ("trust_remote_code", "False"),
        ("shell", "False"),
        ("allow_pickle", "False"),
        ("verify", "True"),
    ):
        if named.get(name, required) != required:
            yield node.lineno, f"{name}={named[name]}"
    # without it, transformers asks at the terminal whether to trust the code
    if called.removesuffix(".from_pretrained") in AUTO and "trust_remote_code" not in named:
        yield node.lineno, f"{called} without trust_remote_code=False"
    if called.rpartition(".")[2] == "Environment" and named.get("autoescape") != "True":
        yield node.lineno, "a Jinja environment without autoescape"
    if called.rpartition(".")[2] == "Template":
        yield node.lineno, "a Jinja template without an environment"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_unpickled_evaluated_or_trusted(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 10
    found_violations = [
        (path.relative_to(ROOT).as_posix(), *violation)
        for path in files
        for violation in violations(ast.parse(path.read_bytes()))
    ]
    assert found_violations == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "torch.load('x')",
        "AutoModel.from_pretrained('x')",
        "AutoTokenizer.from_pretrained('x', trust_remote_code=True)",
        "AutoTokenizer.from_pretrained('x', trust_remote_code=trust)",
        "subprocess.run('ls', shell=True)",
        "httpx.get(url, verify=False)",
        "jinja2.Environment(autoescape=select_autoescape(['html']))",
        "jinja2.Template(text)",
    ],
)
def test_each_violation_is_found(code: str) -> None:
    assert list(violations(ast.parse(code)))
