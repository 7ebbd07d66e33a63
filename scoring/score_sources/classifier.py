"""A local model with a head for sequence or token classification (ModernBERT, DeBERTa, Llama …), as a guard."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from marginalia.schemas.errors import InputError, ModelError, did_you_mean, first_line
from marginalia.schemas.hub_client import download_problem
from marginalia.scoring.language.token_language import Floats
from marginalia.scoring.models.checkpoint import check_complete, quiet_loading
from marginalia.scoring.models.local_model import DTYPES, resolve
from marginalia.scoring.models.model_cache import model_cache
from marginalia.scoring.models.model_files import check_memory, check_model_files
from marginalia.scoring.models.model_reference import MODEL_HINT
from marginalia.scoring.record_errors import record_error
from marginalia.scoring.score_request import GuardModel, Settings
from marginalia.scoring.score_sources.classifier_inputs import ClassifierInputs, TokenIds
from marginalia.scoring.score_sources.label_numbers import estimates_of, predicted_labels
from marginalia.scoring.score_sources.source_file import ClassifierFile
from marginalia.scoring.score_sources.source_guard import SourceGuard
from marginalia.scoring.scored_record import Result

HEADS = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
}
YES = 0.5  # the probability above which a class of a sigmoid head applies


@dataclass
class Classifier:
    """A loaded model. `columns`: category id → the class's index; `verdict`: the index of the class for the verdict,
    and whether that class means *safe*; None without such a class; `context`: the longest input, in tokens."""

    network: Any
    inputs: ClassifierInputs
    guard: SourceGuard
    name: str
    revision: str
    columns: dict[str, int]
    verdict: tuple[int, bool] | None
    activation: str
    by_token: bool
    context: int
    batch_records: int
    batch_tokens: int

    batch_invariant = False

    @property
    def identity(self) -> list[str]:
        """What its numbers depend on."""
        return ["classifier 1", self.name, self.revision, str(self.network.dtype)]

    @property
    def notes(self) -> list[str]:
        """What readers of its scores should know: one sentence each."""
        head = "token" if self.by_token else "sequence"
        return [f"no bounds: the probabilities are the output of a {head} classification head ({self.activation})"]

    def score_batches(
        self, records: Sequence[tuple[str, Sequence[dict[str, str]]]], journalled: Container[str]
    ) -> Iterator[list[Result]]:
        """Yields the results of the records that are not in `journalled`, in batches of similar length.

        Numbers depend slightly on the batch. A batch of which only a part is journalled is computed whole."""
        inputs: dict[str, TokenIds] = {}
        failed: list[Result] = []
        for record_id, messages in records:
            try:
                inputs[record_id] = self._input(messages)
            except BaseException as error:
                failure = record_error(error, "its input cannot be built")
                failed.append(Result(record_id, error=failure.message, is_temporary=failure.is_temporary))
        if missing := [result for result in failed if result.record_id not in journalled]:
            yield missing
        for ids in self._batches(inputs):
            if any(record_id not in journalled for record_id in ids):
                results = self._score(ids, [inputs[record_id] for record_id in ids])
                yield [result for result in results if result.record_id not in journalled]

    def _input(self, messages: Sequence[dict[str, str]]) -> TokenIds:
        tokens = self.inputs.tokens(messages)
        if len(tokens.ids) > self.context:
            raise ModelError(f"too long: the input has {len(tokens.ids)} tokens, and the model accepts {self.context}")
        if not tokens.ids or (self.by_token and tokens.content[0] == tokens.content[1]):
            raise ModelError("the input has no tokens")
        return tokens

    def _batches(self, inputs: dict[str, TokenIds]) -> Iterator[list[str]]:
        batch: list[str] = []
        for record_id in sorted(inputs, key=lambda name: (len(inputs[name].ids), name)):
            full = (len(batch) + 1) * len(inputs[record_id].ids) > self.batch_tokens
            if batch and (full or len(batch) == self.batch_records):
                yield batch
                batch = []
            batch.append(record_id)
        if batch:
            yield batch

    def _score(self, ids: Sequence[str], inputs: Sequence[TokenIds]) -> list[Result]:
        started = time.perf_counter()
        try:
            numbers = self._numbers(inputs)
        except torch.OutOfMemoryError:
            if len(ids) == 1:
                return [Result(ids[0], error="not enough memory for its input", is_temporary=True)]
            half = len(ids) // 2
            return [*self._score(ids[:half], inputs[:half]), *self._score(ids[half:], inputs[half:])]
        tokens = sum(len(one.ids) for one in inputs)
        seconds = time.perf_counter() - started
        return [
            self._result(record_id, one, row, seconds * len(one.ids) / tokens)
            for record_id, one, row in zip(ids, inputs, numbers, strict=True)
        ]

    def _numbers(self, inputs: Sequence[TokenIds]) -> list[Floats]:
        """The probabilities of all classes for each input: (classes,), for token classification (tokens, classes)."""
        longest = max(len(one.ids) for one in inputs)
        padding = self.network.config.pad_token_id or 0
        ids = [one.ids + [padding] * (longest - len(one.ids)) for one in inputs]
        mask = [[1] * len(one.ids) + [0] * (longest - len(one.ids)) for one in inputs]
        with torch.inference_mode():
            device = self.network.device
            logits = self.network(
                input_ids=torch.tensor(ids, device=device), attention_mask=torch.tensor(mask, device=device)
            ).logits.float()
            values = logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(-1)
        found = values.double().cpu().numpy()
        if not self.by_token:
            return list(found)
        return [row[slice(*one.content)] for row, one in zip(found, inputs, strict=True)]

    def _result(self, record_id: str, one: TokenIds, classes: Floats, seconds: float) -> Result:
        if not np.isfinite(classes).all():
            return Result(record_id, error="the model returns NaN", seconds=seconds)
        numbers = {category: self._reduced(classes[..., column]) for category, column in self.columns.items()}
        exclusive = self.activation == "softmax"
        verdict = None
        if self.verdict is not None:
            column, is_safe = self.verdict
            verdict = self._reduced(1.0 - classes[..., column] if is_safe else classes[..., column])
        elif exclusive:
            verdict = self._reduced(classes[..., list(self.columns.values())].sum(-1))
        positive = {category for category, number in numbers.items() if number > YES}
        if exclusive and not self.by_token:
            positive = {category for category, column in self.columns.items() if column == classes.argmax()}
        return Result(
            record_id,
            estimates={self.guard.estimator: estimates_of(self.guard, numbers, verdict, exclusive=exclusive)},
            predicted=predicted_labels(self.guard, positive),
            forward_passes=1,
            seconds=seconds,
            imitations=one.imitations,
        )

    def _reduced(self, values: Floats) -> float:
        """One number of the (tokens,) values of a class; of an input's only value, that value."""
        file = self.guard.file
        if not self.by_token:
            return min(float(values), 1.0)
        assert isinstance(file, ClassifierFile)
        return min(float(values[-1] if file.tokens == "last" else values.max()), 1.0)


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
