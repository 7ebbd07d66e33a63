"""A model folder cannot make transformers load code or files from elsewhere, hang, or allocate far more memory than its
checkpoint has."""

from __future__ import annotations

import json
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marginalia.schemas.errors import InputError, ModelError
from marginalia.scoring.models.bundled_model import _GGUF, _gguf_folder
from marginalia.scoring.models.gguf_sizes import _Header, check_gguf
from marginalia.scoring.models.local_model import load_local
from marginalia.scoring.models.served_tokenizer import load_tokenizer
from tests.scoring import tiny

# the names that transformers imports from the package `kernels`; get_kernel notes what it would have loaded
KERNELS = """
from pathlib import Path

class _Any:
    def __init__(self, *arguments, **named): pass
    def __getattr__(self, name): return _Any()
    def __call__(self, *arguments, **named): return lambda decorated: decorated

CUDAProperties = Device = LayerRepository = LocalLayerRepository = ROCMProperties = FuncRepository = _Any
KernelizeFallback, Mode = _Any(), _Any()
register_kernel_mapping = replace_kernel_forward_from_hub = use_kernel_mapping = kernelize = _Any()
use_kernel_forward_from_hub = use_kernelized_func = use_kernel_func_from_hub = _Any()

def get_kernel(name, *arguments, **named):
    with (Path(__file__).parent / "loaded.txt").open("a") as file:
        file.write(name + "\\n")
    raise ValueError("loaded " + name)
"""
LOAD = """
import sys
from marginalia.schemas.errors import ModelError
from marginalia.scoring.models import local_model, model_files
from transformers.utils.import_utils import is_kernels_available

def load():
    try:
        local_model.load_local(sys.argv[1])
    except ModelError as error:
        print(error)

assert is_kernels_available()
checked, local_model.check_model_files = local_model.check_model_files, lambda *arguments: None
load()
model_files.block_hub_kernels()
load()
local_model.check_model_files = checked
load()
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "model")


def change(folder: Path, name: str, **keys: Any) -> None:
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **keys}))


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a package `kernels` that loads nothing."""
    package = tmp_path / "packages" / "kernels"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(KERNELS)
    information = package.with_name("kernels-0.18.2.dist-info")
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.2\n")
    return package


def test_no_kernel_from_the_hub_is_loaded(kernels: Path, model: Path) -> None:
    """In one process: without our two defences, with one, and with the other."""
    change(model, "config.json", _attn_implementation="someone/kernel")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(kernels.parent), *sys.path])}
    command = [sys.executable, "-c", LOAD, str(model)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    attacked, blocked, checked = done.stdout.strip().split("\n")
    assert "loaded someone/kernel" in attacked  # else transformers has changed and the rest shows nothing
    assert "the kernel 'someone/kernel' is native code from the Hub, which is not loaded" in blocked
    assert "config.json: _attn_implementation is 'someone/kernel', which can be code from the Hub" in checked
    assert (kernels / "loaded.txt").read_text() == "someone/kernel\n"  # by the first of the three


KERNEL = "can be code from the Hub; allowed are eager, sdpa"
ELSEWHERE = "can load code or files from elsewhere"
OUTSIDE = "names a file outside the model folder"


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("config.json", {"_attn_implementation": "someone/kernel"}, KERNEL),
        ("config.json", {"attn_implementation": "someone/kernel@main:attention"}, KERNEL),
        ("config.json", {"_attn_implementation_internal": "someone/kernel"}, KERNEL),
        ("config.json", {"attn_implementation": {"": "sdpa", "text_config": "someone/kernel"}}, KERNEL),
        ("config.json", {"text_config": {"_attn_implementation": "someone/kernel"}}, KERNEL),
        ("config.json", {"layers": [{"deep": {"_attn_implementation": "paged|someone/kernel"}}]}, KERNEL),
        ("config.json", {"_experts_implementation": "sonicmoe"}, "allowed are eager, batched_mm, grouped_mm"),
        ("config.json", {"use_kernels": True}, ELSEWHERE),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}, ELSEWHERE),
        ("config.json", {"transformers_weights": "../other/model.safetensors"}, OUTSIDE),
        ("config.json", {"vision_config": {"architecture": "hf-hub:someone/model"}}, OUTSIDE),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../other/tokenizer.4.0.0.json"]}, OUTSIDE),
        ("tokenizer_config.json", {"init_inputs": ["/etc/passwd"]}, ELSEWHERE),
        ("model.safetensors.index.json", {"weight_map": {"a": "../other/model.safetensors"}}, OUTSIDE),
        ("model.safetensors.index.json", {"weight_map": {"a": "model.bin"}}, "names a file that is not safetensors"),
        ("adapter_config.json", {"base_model_name_or_path": "someone/model"}, "has an adapter (adapter_config.json)"),
    ],
)
def test_settings_that_load_something_from_elsewhere_are_refused(
    model: Path, name: str, keys: dict[str, Any], says: str
) -> None:
    change(model, name, **keys)
    for load in (load_local, load_tokenizer):
        with pytest.raises(ModelError) as caught:
            load(str(model))
        assert says in str(caught.value)
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("config.json", {"attn_implementation": "flash_attention_2"}),
        ("config.json", {"_attn_implementation": "eager", "_experts_implementation": None}),
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "someone/code--modeling.Network"}}),
        ("tokenizer_config.json", {"init_inputs": [], "tokenizer_file": "/root/.cache/huggingface/tokenizer.json"}),
        ("generation_config.json", {"custom_generate": "someone/code"}),
    ],
)
def test_settings_without_an_effect_are_allowed(model: Path, name: str, keys: dict[str, Any]) -> None:
    change(model, name, **keys)
    assert load_local(str(model)).token_ids == tiny.END + 2


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"num_hidden_layers": 10_000_000}, "config.json: 10,000,000 layers and 1 experts; at most 1,000 layers"),
        ({"text_config": {"n_layer": 5_000}}, "config.json: 5,000 layers"),
        ({"num_local_experts": 10_000}, "2 layers and 10,000 experts"),
        ({"layer_types": ["full_attention"] * 200_000}, "layer_types has 200,000 items"),
        ({"vocab_size": 200_000_000}, "bytes for the sizes in its config.json, and its checkpoint has only"),
        ({"hidden_size": 4_000_000}, "bytes for the sizes in its config.json"),
        ({"intermediate_size": 50_000_000}, "bytes for the sizes in its config.json"),
        ({"head_dim": 4_000_000}, "bytes for the sizes in its config.json"),
    ],
)
def test_sizes_that_the_checkpoint_does_not_have_are_refused(model: Path, keys: dict[str, Any], says: str) -> None:
    change(model, "config.json", **keys)
    with pytest.raises(ModelError) as caught:
        load_local(str(model))
    assert says in str(caught.value)


def test_a_mask_for_very_many_positions_is_not_made(tmp_path: Path) -> None:
    """GPT-2 keeps a table of positions × positions, which is not in its checkpoint."""
    from transformers import GPT2Config, GPT2LMHeadModel

    network = GPT2LMHeadModel(GPT2Config(vocab_size=tiny.END + 2, n_embd=32, n_layer=1, n_head=2, n_positions=64))
    network.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    change(tmp_path, "config.json", n_positions=100_000)
    with pytest.raises(ModelError, match=r"needs [\d,]+ bytes for the sizes|weights of another shape"):
        load_local(str(tmp_path))


def test_deeply_nested_settings_are_refused(model: Path) -> None:
    (model / "config.json").write_text("[" * 1_000_000)
    with pytest.raises(ModelError, match="cannot load the model"):
        load_local(str(model))


def test_settings_of_gigabytes_are_not_read(model: Path) -> None:
    with (model / "tokenizer_config.json").open("wb") as file:
        file.truncate(20_000_000_000)
    with pytest.raises(ModelError, match=r"has 20,000,000,000 bytes; the limit is 67,108,864"):
        load_local(str(model))


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "generation_config.json", "chat_template.jinja", "model.safetensors"]
)
def test_a_named_pipe_in_a_model_folder_is_refused(model: Path, name: str) -> None:
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    for load in (load_local, load_tokenizer):
        with pytest.raises(InputError, match=f"{name}: is a named pipe, expected a regular file"):
            load(str(model))


def test_a_link_to_a_device_in_a_model_folder_is_refused(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.json").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"tokenizer\.json: is a device"):
        load_local(str(model))


def test_the_files_of_a_model_folder_may_be_links(model: Path, tmp_path: Path) -> None:
    """The Hub's cache has links to the files of all revisions."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for path in model.iterdir():
        (snapshot / path.name).symlink_to(path)
    assert load_local(str(snapshot)).token_ids == tiny.END + 2


def gguf(path: Path, settings: dict[str, int], *, weights: int = 1, tokens: int = 3) -> Path:
    """A GGUF header: settings, a list of tokens, and weights of 8 × 4 numbers."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    data = b"GGUF" + struct.pack("<IQQ", 3, weights, len(settings) + 1)
    data += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, tokens) + text("token") * 3
    for key, value in settings.items():
        data += text(key) + struct.pack("<IQ", 10, value)
    path.write_bytes(data + (text("weight") + struct.pack("<IQQIQ", 2, 8, 4, 0, 0)) * 1)
    return path


@pytest.mark.parametrize(
    ("settings", "more", "says"),
    [
        ({"llama.block_count": 10_000_000}, {}, "10,000,000 layers; at most 1,000 are read"),
        (
            {"llama.embedding_length": 4_000_000},
            {},
            "embedding_length is 4,000,000, and no dimension of its weights is",
        ),
        ({"llama.block_count": 2}, {"weights": 1 << 40}, "1,099,511,627,776 weights and 2 settings; at most 100,000"),
    ],
)
def test_sizes_in_a_gguf_file_are_counted_first(
    tmp_path: Path, settings: dict[str, int], more: dict[str, int], says: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load_local(str(gguf(tmp_path / "model.gguf", settings, **more)))
    assert says in str(caught.value)


def test_a_gguf_file_with_fitting_sizes_is_left_to_transformers(tmp_path: Path) -> None:
    check_gguf("model", gguf(tmp_path / "model.gguf", {"llama.block_count": 32, "llama.embedding_length": 8}))
    check_gguf("model", gguf(tmp_path / "endless.gguf", {}, tokens=1 << 60))  # a damaged list


def test_the_bundled_gguf_file_is_accepted() -> None:
    folder = _gguf_folder()
    check_gguf("bundled", folder / _GGUF)
    with (folder / _GGUF).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        numbers, largest = _Header(data).read()
    assert (numbers["llama.block_count"], numbers["llama.embedding_length"], largest) == (30, 576, 49152)
