"""Loads a local model with a head for sequence or token classification."""

from __future__ import annotations

from typing import Any

import torch

from marginalia.schemas.errors import InputError, ModelError, did_you_mean, first_line
from marginalia.schemas.hub_client import download_problem
from marginalia.scoring.models.checkpoint import check_complete, quiet_loading
from marginalia.scoring.models.local_model import DTYPES, resolve
from marginalia.scoring.models.model_cache import model_cache
from marginalia.scoring.models.model_files import check_memory, check_model_files
from marginalia.scoring.models.model_reference import MODEL_HINT
from marginalia.scoring.score_request import GuardModel, Settings
from marginalia.scoring.score_sources.classifier import Classifier
from marginalia.scoring.score_sources.classifier_inputs import ClassifierInputs
from marginalia.scoring.score_sources.source_file import ClassifierFile
from marginalia.scoring.score_sources.source_guard import SourceGuard

HEADS = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
}


def load_classifier(options: GuardModel, guard: SourceGuard, settings: Settings) -> Classifier:
    """Loads the model that `options.model` names. Reads only safetensors, and never runs remote code.

    Raises InputError for an option that does not fit, and for a class that the model does not have; ModelError when the
    model cannot be loaded, or is not a classifier."""
    file = guard.file
    assert isinstance(file, ClassifierFile)
    reference = options.model
    if reference.startswith(("http://", "https://")):
        raise InputError(
            f"guard {guard.name}: a guard of kind classifier is a model on this machine, not a server",
            hint="set model (--model) to its folder or Hub id",
        )
    for key in ("tokenizer", "endpoint_model", "api_key_env", "extra_body"):
        if getattr(options, key):
            raise InputError(f"{key} is only for a model behind a URL", hint=f"leave {key} out")
    network, tokenizer, revision = _load(reference, options)
    config = network.config
    by_token = type(network).__name__.endswith("ForTokenClassification")
    columns = {category: _class(config, name, guard.name) for category, name in file.labels.items()}
    verdict = None
    if (named := file.unsafe if file.safe is None else file.safe) is not None:
        verdict = _class(config, named, guard.name), file.safe is not None
    return Classifier(
        network=network,
        inputs=ClassifierInputs(guard.name, file.input, tokenizer),
        guard=guard,
        name=reference,
        revision=revision,
        columns={category.id: columns[category.id] for category in guard.asked},
        verdict=verdict,
        activation=file.activation or _activation(config, reference),
        by_token=by_token,
        context=_context(network, tokenizer),
        # models that find the last token by the padding's id cannot be given several inputs without one
        batch_records=1 if config.pad_token_id is None else settings.batch_records,
        batch_tokens=settings.batch_tokens,
    )


def _load(reference: str, options: GuardModel) -> tuple[Any, Any, str]:
    """The network, its tokenizer and the revision to record."""
    import transformers

    folder, load_options, revision = resolve(reference, options.revision, model_cache())
    if "gguf_file" in load_options:
        raise InputError(f"{reference}: a GGUF file cannot be used as a classifier", hint=MODEL_HINT)
    check_model_files(reference, folder, load_options)
    try:
        with quiet_loading():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **load_options)
            auto = getattr(transformers, _auto_class(config, reference))
            check_memory(reference, folder, load_options, auto)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **load_options)
            network, info = auto.from_pretrained(
                folder,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported in `info` and refused below, with their names
                dtype=DTYPES[options.dtype],
                **load_options,
            )
    except ModelError:
        raise
    except Exception as error:  # for a damaged folder each file reader raises exceptions of its own
        raise ModelError(f"cannot load the model '{reference}': {download_problem(error)}", hint=MODEL_HINT) from error
    check_complete(reference, info)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    try:
        network = network.to(device).eval()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InputError(f"cannot use the device '{options.device}': {first_line(error)}") from error
    return network, tokenizer, revision


def _auto_class(config: Any, reference: str) -> str:
    architectures = [str(name) for name in config.architectures or []]
    for ending, auto in HEADS.items():
        if any(name.endswith(ending) for name in architectures):
            return auto
    raise ModelError(
        f"the model '{reference}' is not a classifier: its architecture is {', '.join(architectures) or 'not named'}",
        hint="a guard of kind classifier needs …ForSequenceClassification or …ForTokenClassification",
    )


def _class(config: Any, name: str | int, guard: str) -> int:
    """The index of a class. Raises InputError when the model has no such class."""
    names = {str(text): int(index) for index, text in config.id2label.items()}
    shown = ", ".join(f"{index} {text}" for text, index in names.items())
    if isinstance(name, int):
        if not 0 <= name < config.num_labels:
            raise InputError(f"guard {guard}: the model has no class {name}", hint=f"it has: {shown}")
        return name
    if name not in names:
        near = did_you_mean(name, names)
        raise InputError(f"guard {guard}: the model has no class '{name}'{near}", hint=f"it has: {shown}")
    return names[name]


def _activation(config: Any, reference: str) -> str:
    """As transformers' pipelines choose it."""
    problem = config.problem_type
    if problem == "regression":
        raise ModelError(
            f"the model '{reference}' is for regression: its output is not a probability",
            hint="set activation: sigmoid in the guard file if its output is a logit",
        )
    return "sigmoid" if problem == "multi_label_classification" or config.num_labels == 1 else "softmax"


def _context(network: Any, tokenizer: Any) -> int:
    """The longest input, in tokens: the smaller limit of the model's positions and of the tokenizer."""
    limits = [tokenizer.model_max_length]
    if (positions := getattr(network.config, "max_position_embeddings", None)) is not None:
        embeddings = getattr(network.base_model, "embeddings", None)
        # RoBERTa's positions begin after that of the padding
        offset = getattr(embeddings, "padding_idx", None)
        limits.append(positions - (offset + 1 if isinstance(offset, int) else 0))
    return int(min(limits))
