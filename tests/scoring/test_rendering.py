"""Templates of strangers: rendered as their tokenizer would, and stopped when they have no end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.prompt import PromptBuilder
from marginalia.scoring.prompt_spec import PromptSpec
from marginalia.scoring.rendering import Renderer, RenderingError
from marginalia.scoring.scorer import Scorer
from tests.scoring.tiny import CHAT, save, tokenizer

ROOT = Path(__file__).parents[2]
NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
TOO_LONG = r"takes longer than 1 seconds"
TOO_BIG = r"(needs more than 1024 MiB of memory|takes longer|its? ended|output has more than 2,000,000 characters)"


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    made = Renderer(seconds=1.0)
    yield made
    made.close()


CHATS = [
    CHAT,
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m.content | trim }} {% endfor %}",
    "{%- for m in messages %}\n    {{- '<|start|>' + m.role + '\\n' }}\n  {{ m.content }}\n{%- endfor %}\n",
    "{% set n = namespace(n=0) %}{% for m in messages %}{% set n.n = n.n + 1 %}{{ n.n }}{{ m | tojson }}{% endfor %}",
    "{% for i in range(9) %}{{ i }}{% if i == 3 %}{% break %}{% endif %}{% endfor %}{{ messages | tojson(indent=2) }}",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}{{ strftime_now('%Y') }}{{ dict(a=1) }}",
    "{% if tools %}x{% endif %}{% if not documents %}{{ eos_token }}{% endif %}{{ no }}{{ add_generation_prompt }}",
    "{% macro say(m) %}  {{ m.role }}: {{ m.content }}\n{% endmacro %}{% for m in messages %}{{ say(m) }}{% endfor %}",
]


@pytest.mark.parametrize("chat", CHATS)
def test_chat_templates_are_rendered_as_transformers_does(chat: str) -> None:
    fast = tokenizer()
    fast.chat_template = chat
    builder = PromptBuilder(plain("Say <é> \n\n {{ conversation[0].content }}"), fast)
    message = "Say <é> \n\n \ue0000\ue001"
    expected = fast.apply_chat_template(
        [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
    )
    assert builder._render(("user",)) == expected


def plain(message: str, frame: str | None = None) -> Guard:
    guard = load_guard("instruct", load_taxonomy("support-tickets"))
    return replace(guard, file=guard.file.model_copy(update={"prompt": PromptSpec(message=message, frame=frame)}))


HOSTILE = [
    (NESTED, TOO_LONG),
    ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    ("{{ 'a' * 10**10 }}", TOO_BIG),
    ("{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", TOO_BIG),
    ("{{ 9 ** (9 ** 9) }}", TOO_LONG),
    ("{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}", TOO_BIG),
    ("{{ '%999999999d' % 1 }}", TOO_BIG),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    ("{{ (" + "(" * 5000 + "1" + ")" * 5000 + ") }}", r"(recursion|nested|ended)"),
    ("{{ ''.__class__.__mro__ }}{{ namespace.__init__.__globals__['os'] }}", "(unsafe|no attribute|undefined)"),
    ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "no attribute '__class__'"),
    ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    ("{{ raise_exception(' ') }}", "TemplateError"),
]


@pytest.mark.parametrize(("template", "why"), HOSTILE, ids=[template[:30] for template, _ in HOSTILE])
def test_no_template_holds_up_or_kills_the_process(renderer: Renderer, template: str, why: str) -> None:
    started = time.monotonic()
    with pytest.raises(RenderingError, match=why):
        renderer.render(template, {}, chat=True)
    assert time.monotonic() - started < 20  # mostly the start of the process, where many run
    assert renderer.render("{{ one }}", {"one": "still here"}) == "still here"


def test_a_guard_files_prompt_has_the_same_limits(monkeypatch: pytest.MonkeyPatch, renderer: Renderer) -> None:
    monkeypatch.setattr("marginalia.scoring.prompt_rendering.RENDERER", renderer)
    for spec in (plain(NESTED + "{{ conversation[0].content }}"), plain("{{ conversation[0].content }}", NESTED)):
        with pytest.raises(InputError, match=f"guard instruct: its prompt template fails: it {TOO_LONG}"):
            PromptBuilder(spec, tokenizer()).shared_start()


def test_so_has_a_models_chat_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renderer: Renderer) -> None:
    monkeypatch.setattr("marginalia.scoring.prompt_rendering.RENDERER", renderer)
    folder = save(tmp_path / "model", 4)
    (folder / "chat_template.jinja").write_text(NESTED + CHAT)
    with pytest.raises(ModelError, match=f"the tokenizer's chat template fails: it {TOO_LONG}"):
        Scorer.load(str(folder), "instruct", taxonomy="support-tickets")


def test_a_guard_file_is_read_without_running_its_prompt(tmp_path: Path) -> None:
    """Jinja evaluates constants when it compiles a template, and when it is asked which names that uses."""
    shipped = (ROOT / "scoring" / "guards" / "instruct.yaml").read_text()
    path = tmp_path / "guard.yaml"
    path.write_text(shipped.replace("    You check", "    {{ 9 ** (9 ** 9) }} You check"))
    code = "import sys; from marginalia.schemas.taxonomy import load_taxonomy\n"
    code += "from marginalia.scoring.guard import load_guard\n"
    code += "load_guard(sys.argv[1], load_taxonomy('support-tickets'))"
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True, timeout=60)
    path.write_text(shipped.replace("    You check", f"    {{{{ {'(' * 5000}1{')' * 5000} }}}} You check"))
    with pytest.raises(InputError, match=r"line \d+: prompt.message: the template is nested too deeply"):
        load_guard(str(path), load_taxonomy("support-tickets"))


@pytest.mark.parametrize("text", ["{{ conversation[0].content * 999 }}", "{{ conversation[0].content }}\ue0001\ue001"])
def test_a_prompt_cannot_multiply_a_records_text(text: str) -> None:
    with pytest.raises(
        InputError, match="repeats the texts of a record more than 16 times, or contains the characters"
    ):
        PromptBuilder(plain(text), tokenizer()).build([{"role": "user", "content": "x" * 10**6}])


def test_threads_share_one_process(renderer: Renderer) -> None:
    def one(number: int) -> str:
        return renderer.render("{% for i in range(50) %}{{ n }}{% endfor %}", {"n": number})

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(200))) == [str(number) * 50 for number in range(200)]


def run(code: str, **environment: str) -> str:
    """What a program prints that treats warnings as errors, such as a process or a pipe that it leaves behind."""
    command = [sys.executable, "-W", "error", "-c", f"import os, sys, time, signal\n{code}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


RENDER = "from marginalia.scoring.rendering import RENDERER\nprint(RENDERER.render('{{ a }}', {'a': 1}), flush=True)\n"


def test_a_copy_of_the_process_has_its_own() -> None:
    fork = "child = os.fork()\nprint(RENDERER.render('{{ a }}', {'a': 2}), flush=True)\n"
    assert run(f"{RENDER}{fork}child and os.waitpid(child, 0)") == "1\n2\n2\n"


def test_it_is_started_again_when_it_was_killed() -> None:
    kill = "os.kill(RENDERER._process.pid, signal.SIGKILL)\ntime.sleep(0.2)\n"
    assert run(RENDER + kill + RENDER) == "1\n1\n"


def test_it_has_no_keys() -> None:
    seen = "from pathlib import Path\nprint('CANARY' in Path(f'/proc/{RENDERER._process.pid}/environ').read_text())"
    assert run(RENDER + seen, OPENAI_API_KEY="CANARY") == "1\nFalse\n"


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_with_the_process_that_started_it(busy: bool) -> None:
    """Also when that was killed while a template without end was being rendered."""
    code = "from marginalia.scoring.rendering import Renderer\nimport threading\n"
    code += "made = Renderer(1.0)\nmade.render('', {})\n"
    if busy:
        code += f"threading.Thread(target=made.render, args=({NESTED!r}, {{}}), daemon=True).start()\ntime.sleep(0.3)\n"
    code = f"import os, time\n{code}print(made._process.pid, flush=True)\nos._exit(0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    process = Path(f"/proc/{int(done.stdout)}")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.exists() and " Z " not in _stat(process):
        time.sleep(0.1)
    assert not process.exists() or " Z " in _stat(process)


def _stat(process: Path) -> str:
    try:
        return (process / "stat").read_text()
    except OSError:
        return " Z "


def test_conversations_of_one_form_are_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = PromptBuilder(load_guard("instruct", load_taxonomy("support-tickets")), tokenizer())
    calls: list[Any] = []
    render = builder._render
    monkeypatch.setattr(builder, "_render", lambda roles: calls.append(roles) or render(roles))
    for number in range(50):
        builder.build([{"role": "user", "content": f"text {number}"}])
        builder.build([{"role": "user", "content": "a"}, {"role": "assistant", "content": f"b {number}"}])
    assert calls == [("user",), ("user", "assistant")]
