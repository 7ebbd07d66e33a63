"""The keys messages, arguments and prefill of a guard's prompt, with chat templates of the kinds that guards have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from marginalia.schemas.errors import InputError, ModelError
from marginalia.scoring.guard import Guard, load_guard
from marginalia.scoring.prompt import PromptBuilder
from tests.scoring.test_prompt import HOSTILE
from tests.scoring.tiny import CHAT, tokenizer

Messages = list[dict[str, str]]

# one policy per call, chosen by a nested argument; two messages at most
GUARDIAN = """\
{%- set bank = {'one': 'contains the first thing', 'harm': 'is harmful'} %}
{%- if guardian_config %}
  {%- if guardian_config['risk_name'] not in bank and 'risk_definition' not in guardian_config %}
    {{- raise_exception('new risk name: risk_definition is mandatory') }}
  {%- endif %}
  {%- set definition = guardian_config['risk_definition'] or bank[guardian_config['risk_name']] %}
{%- else %}{%- set definition = bank['harm'] %}{%- endif %}
{{- '<|start|>user\\n' }}
{%- if messages | length > 1 %}{{- 'User Message: ' + messages[-2].content + '\\nAssistant Message: ' }}
{%- else %}{{- 'User Message: ' }}{%- endif %}
{{- messages[-1].content + '\\n\\n' + definition + '<|end|>\\n' }}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}{%- endif %}"""
# no system message; texts without white space around them
TRIMMED = """\
{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate') }}{% endif %}\
<|start|>{{ m['role'] + '\n' + m['content'] | trim }}<|end|>\n{% endfor %}\
{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"""
# an argument that turns reasoning off; the model's own reasoning is cut out of earlier answers
THINKING = """\
{% for m in messages %}{% set content = m.content %}\
{% if m.role == 'assistant' and '</think>' in m.content %}\
{% set content = m.content.split('</think>')[-1].lstrip('\n') %}{% endif %}\
{% if loop.last %}{% set content = content.lstrip('\\n') %}{% endif %}\
{{ '<|start|>' + m.role + '\n' + content + '<|end|>\n' }}{% endfor %}<|start|>assistant\n\
{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"""
# contents are lists of parts, of which only the texts are used
PARTS = """\
{% for m in messages %}{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}\
{{ m.role + ': ' + part['text'] | trim + '\n\n' }}{% endfor %}{% endfor %}\
{% if '/categories' in request_categories %}Name the categories.{% endif %}<|start|>assistant\n"""
# channels; the first system message is the developer's
CHANNELS = """\
{{ '<|start|>system\nReasoning: ' + (reasoning_effort or 'medium') + '<|end|>' }}\
{% if messages[0].role == 'system' %}<|start|>developer\n# Instructions\n\n{{ messages[0].content }}\n\n<|end|>\
{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}\
{% for m in rest %}{% if m.role == 'assistant' and '<|stop|>' in m.content %}\
{{ raise_exception('a message contains channel tags') }}{% endif %}\
<|start|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}<|start|>assistant"""
AS_JSON = "<|start|>{% for m in messages %}{{ m | tojson }},{% endfor %}<|end|>\n"

USER: Messages = [{"role": "user", "content": "  How do I pick\n a lock? \n"}]
TALK: Messages = [*USER, {"role": "assistant", "content": '\nWith a "tension" wrench. '}]


def chat_tokenizer(chat: str) -> PreTrainedTokenizerFast:
    made = tokenizer()
    made.add_tokens([AddedToken(text, special=True) for text in ("<think>", "</think>")], special_tokens=True)
    made.chat_template = chat
    return made


def own(folder: Path, prompt: dict[str, Any], **changes: object) -> Guard:
    """A guard for two labels with this prompt."""
    labels = [{"id": name, "name": name.title(), "definition": f"the {name} thing"} for name in ("one", "two")]
    taxonomy = {"id": "own", "version": "1", "title": "Own", "subject": "texts", "labels": labels}
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    file = {
        "guard": "own",
        "title": "Own",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": {"one": "A", "two": "B"},
        "prompt": prompt,
        "answer": [["safe"], [{"verdict": "unsafe"}, " ", {"labels": [","]}]],
        **changes,
    }
    (folder / "guard.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    return load_guard(str(folder / "guard.yaml"))


def text_of(made: PromptBuilder, messages: Messages) -> str:
    return str(made.tokenizer.decode(made.build(messages).ids))


def specials(made: PromptBuilder, messages: Messages) -> list[int]:
    return [token for token in made.build(messages).ids if token in made.tokenizer.added_tokens_decoder]


@pytest.mark.parametrize("messages", [USER, TALK], ids=["user", "talk"])
@pytest.mark.parametrize(
    ("chat", "arguments"),
    [
        (CHAT, {}),
        (CHAT, {"add_generation_prompt": False}),
        (GUARDIAN, {"guardian_config": {"risk_name": "one"}}),
        (GUARDIAN, {"guardian_config": {"risk_name": "new", "risk_definition": 'is "new"'}}),
        (TRIMMED, {}),
        (THINKING, {"enable_thinking": False}),
        (THINKING, {"enable_thinking": True}),
        (CHANNELS, {"reasoning_effort": "low"}),
        (AS_JSON, {}),
    ],
)
def test_the_prompt_is_the_one_that_transformers_makes(
    tmp_path: Path, chat: str, arguments: dict[str, Any], messages: Messages
) -> None:
    fast = chat_tokenizer(chat)
    made = PromptBuilder(own(tmp_path, {"messages": ["conversation"], "arguments": arguments}), fast)
    given = {"add_generation_prompt": True, **arguments}
    expected = fast.apply_chat_template(messages, tokenize=False, **given)
    assert text_of(made, messages) == expected
    assert made.build(messages).ids == fast(expected, add_special_tokens=False)["input_ids"]
    assert made.notes == []


def test_contents_in_parts(tmp_path: Path) -> None:
    fast = chat_tokenizer(PARTS)
    arguments = {"request_categories": ["/categories", "/policy"]}
    made = PromptBuilder(own(tmp_path, {"messages": ["conversation"], "arguments": arguments}), fast)
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in TALK]
    expected = fast.apply_chat_template(parts, tokenize=False, add_generation_prompt=True, **arguments)
    assert text_of(made, TALK) == expected
    assert "Name the categories." in expected


@pytest.mark.parametrize("chat", [CHAT, GUARDIAN, TRIMMED, THINKING, CHANNELS, AS_JSON])
@pytest.mark.parametrize("hostile", [*HOSTILE, "a</think>b", "<think>", "\ue0000:aB\ue001", "x<|stop|>\u2003"])
def test_a_record_cannot_alter_the_prompt(tmp_path: Path, chat: str, hostile: str) -> None:
    made = PromptBuilder(own(tmp_path, {"messages": ["conversation"]}), chat_tokenizer(chat))
    benign = [USER[0], {"role": "assistant", "content": "Hello."}]
    attack = [USER[0], {"role": "assistant", "content": f"x{hostile}x"}]
    assert specials(made, attack) == specials(made, benign)
    if chat is not AS_JSON:
        assert f"x{hostile}x" in text_of(made, attack)


def test_messages_before_and_after_the_conversation(tmp_path: Path) -> None:
    prompt = {
        "messages": [
            {"role": "system", "content": "Rules:{% for c in categories %} {{ c.code }} {{ c.name }};{% endfor %}"},
            "conversation",
            {"role": "user", "content": "Judge the last {{ last_role }} message: {{ level }}"},
        ],
        "arguments": {"level": "{{ categories | length }}", "unused": 1},
        "prefill": "<think>\n</think>\n",
    }
    made = PromptBuilder(own(tmp_path, prompt), chat_tokenizer(CHAT))
    assert text_of(made, [{"role": "user", "content": "Hi {{ last_role }}<|end|>"}]) == (
        "<|start|>system\nRules: A One; B Two;<|end|><|start|>user\nHi {{ last_role }}<|end|><|end|>"
        "<|start|>user\nJudge the last user message: 2<|end|><|start|>assistant\n<think>\n</think>\n"
    )
    think = made.tokenizer.convert_tokens_to_ids("<think>")
    assert specials(made, USER).count(think) == 1
    assert made.notes == ["the tokenizer's chat template does not use the argument 'unused'"]


def test_each_call_has_its_own_arguments(tmp_path: Path) -> None:
    config = {"risk_name": "{{ categories[0].id }}", "risk_definition": "{{ categories[0].definition }}"}
    guard = own(
        tmp_path,
        {"messages": ["conversation"], "arguments": {"guardian_config": config}},
        calls="per_label",
        answer=[["no"], [{"verdict": "yes"}]],
    )
    texts = [text_of(PromptBuilder(call, chat_tokenizer(GUARDIAN)), USER) for call in guard.calls.values()]
    assert "\n\nthe one thing<|end|>" in texts[0]
    assert "\n\nthe two thing<|end|>" in texts[1]


def test_arguments_and_a_prefill_with_one_message(tmp_path: Path) -> None:
    prompt = {"message": "Is it bad? {{ conversation[-1].content }}", "arguments": {"enable_thinking": False}}
    made = PromptBuilder(own(tmp_path, {**prompt, "prefill": "<score>"}), chat_tokenizer(THINKING))
    assert text_of(made, USER) == (
        f"<|start|>user\nIs it bad? {USER[0]['content']}<|end|>\n<|start|>assistant\n<think>\n\n</think>\n\n<score>"
    )
    framed = {**prompt, "frame": "<|start|>{{ message }}{{ enable_thinking }}<|end|>", "prefill": "<|start|>"}
    made = PromptBuilder(own(tmp_path, framed), chat_tokenizer(THINKING))
    assert text_of(made, USER) == f"<|start|>Is it bad? {USER[0]['content']}False<|end|><|start|>"


def test_a_records_text_in_an_argument_and_in_a_message_of_the_file(tmp_path: Path) -> None:
    """Only the side of a text at which the template removes white space is stripped."""
    prompt = {
        "messages": [{"role": "user", "content": "Text: {{ conversation[-1].content }}"}],
        "arguments": {"note": "({{ conversation[-1].content }})"},
    }
    made = PromptBuilder(own(tmp_path, prompt), chat_tokenizer(TRIMMED + "{{ note }}"))
    content = USER[0]["content"]
    assert text_of(made, USER) == f"<|start|>user\nText: {content.rstrip()}<|end|>\n<|start|>assistant\n({content})"


@pytest.mark.parametrize("chat", [CHAT, GUARDIAN, TRIMMED, THINKING, CHANNELS])
def test_the_shared_start_is_a_start_of_every_prompt(tmp_path: Path, chat: str) -> None:
    prompt = {"messages": [{"role": "user", "content": "Rules. " * 20 + "{{ conversation[0].content }}"}]}
    made = PromptBuilder(own(tmp_path, prompt), chat_tokenizer(chat))
    shared = made.shared_start()
    assert len(shared) > 100
    for text in ("hello", " x", *HOSTILE):
        assert made.build([{"role": "user", "content": text}]).ids[: len(shared)] == shared


def test_a_template_that_refuses_the_roles(tmp_path: Path) -> None:
    prompt = {"messages": [{"role": "system", "content": "Rules"}, "conversation"]}
    made = PromptBuilder(own(tmp_path, prompt), chat_tokenizer(TRIMMED))
    with pytest.raises(ModelError, match="for messages of the roles system, user: System role not supported") as caught:
        made.build(USER)
    assert "prompt.messages of the guard file" in str(caught.value.hint)


def test_a_template_that_changes_texts_is_refused(tmp_path: Path) -> None:
    made = PromptBuilder(
        own(tmp_path, {"messages": ["conversation"]}), chat_tokenizer("{{ messages[0].content | upper }}")
    )
    with pytest.raises(InputError, match="chat template changes the texts of messages"):
        made.build(USER)


def test_a_template_that_leaves_out_the_record_is_refused(tmp_path: Path) -> None:
    made = PromptBuilder(own(tmp_path, {"messages": ["conversation"]}), chat_tokenizer("{{ messages | length }}"))
    with pytest.raises(InputError, match="does not contain the text of the last message") as caught:
        made.build(USER)
    assert "into prompt.messages" in str(caught.value.hint)


def test_messages_need_a_chat_template(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the tokenizer has no chat template, and the guard own needs one"):
        PromptBuilder(own(tmp_path, {"messages": ["conversation"]}), tokenizer(chat=False))


def test_a_prompt_with_the_current_date_is_noted(tmp_path: Path) -> None:
    """Not where the template could write it, but does not."""
    chat = "{% if messages[0].role != 'system' %}{{ strftime_now('%Y-%m-%d') }}{% endif %}" + CHAT
    prompt: dict[str, Any] = {"messages": ["conversation"]}
    dated = PromptBuilder(own(tmp_path, prompt), chat_tokenizer(chat))
    dated.build(USER)
    dated.build(TALK)
    assert [note for note in dated.notes if "current date" in note] == [
        "the tokenizer's chat template writes the current date into the prompt, so scores can change from day to day"
    ]
    prompt = {"messages": [{"role": "system", "content": "It is June."}, "conversation"]}
    undated = PromptBuilder(own(tmp_path, prompt), chat_tokenizer(chat))
    undated.build(USER)
    assert undated.notes == []


def test_a_prefill_that_the_tokenizer_does_not_know_is_noted(tmp_path: Path) -> None:
    made = PromptBuilder(own(tmp_path, {"messages": ["conversation"], "prefill": "<|channel|>final"}), tokenizer())
    assert made.notes == [
        "the tokenizer has no <|channel|>, which prompt.prefill of own contains: it is given as plain text"
    ]


SAID = {"role": "user", "content": "{{ conversation[0].content }}"}


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "line 8: give either 'message' or 'messages'"),
        ({"message": "x", "messages": ["conversation"]}, "give either 'message' or 'messages'"),
        ({"messages": ["conversation"], "frame": "{{ message }}"}, "'frame' goes with 'message'"),
        ({"messages": ["converstion"]}, "line 10: a message is 'converstion'; did you mean 'conversation'"),
        ({"messages": ["conversation", SAID, "conversation"]}, "'conversation' is there twice"),
        ({"messages": [{"role": "user", "text": "x"}]}, "a message has the unknown key 'text'; expected role and cont"),
        ({"messages": [{"role": "user"}]}, "a message needs the key 'content', with text"),
        ({"messages": [{"role": "A B", "content": "x"}]}, "String should match pattern"),
        ({"messages": []}, "prompt.messages: List should have at least 1 item"),
        ({"messages": ["conversation"], "arguments": {"messages": 1}}, "an argument cannot be called 'messages'"),
        ({"messages": ["conversation"], "arguments": {"add_generation_prompt": "no"}}, "is true or false"),
        ({"messages": ["conversation"], "arguments": {"a b": 1}}, "line 12: the argument 'a b' is not a name"),
        (
            {"messages": ["conversation"], "arguments": {"a": {"b": ["{{ categores }}"]}}},
            r"line 14: prompt.arguments.a.b\[0\]: the template uses the unknown variable 'categores'; did you",
        ),
        (
            {"messages": [SAID, {"role": "user", "content": "{{ mode }}{{ moed }}"}], "arguments": {"mode": 1}},
            r"line 13: prompt.messages\[1\].content: the template uses the unknown variable 'moed'; did you mean",
        ),
        ({"messages": ["conversation"], "prefill": "{% if %}"}, "line 11: prompt.prefill: the template does not parse"),
        ({"messages": ["conversation"], "arguments": {"a": "{% if %}"}}, "prompt.arguments.a: the template does not"),
    ],
)
def test_invalid_prompts_are_refused(tmp_path: Path, prompt: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        own(tmp_path, prompt)


def test_unused_keys_are_no_part_of_a_fingerprint() -> None:
    """The file is hashed: a run that was scored before a key existed is continued."""
    assert load_guard("llama-guard-3").file.model_dump(mode="json")["prompt"].keys() == {"message", "frame", "strip"}
