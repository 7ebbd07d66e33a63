"""Scores a generative guard model: one probability per label, with certified bounds. Also makes the gold
labels to evaluate it with.

    from marginalia import Scorer

    scorer = Scorer.load("bundled-guard", "support-tickets")
    scorer.score("Where is my parcel?")["late_delivery"].probability

Names are loaded on first use: `import marginalia` alone imports neither torch nor polars."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marginalia.pipeline.in_memory.evaluate_frames import evaluate
    from marginalia.pipeline.in_memory.evaluation_result import EvaluationResult
    from marginalia.schemas.errors import (
        ArtifactError,
        InputError,
        LockedError,
        MarginaliaError,
        ModelError,
        ServiceError,
    )
    from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy
    from marginalia.scoring.guard import Guard, load_guard
    from marginalia.scoring.moderation_decision import ModerationDecision
    from marginalia.scoring.moderator import Moderator
    from marginalia.scoring.record_scores import RecordScores
    from marginalia.scoring.score_request import Settings
    from marginalia.scoring.scored_record import Probability, Result
    from marginalia.scoring.scorer import Scorer

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "EvaluationResult",
    "Guard",
    "InputError",
    "LockedError",
    "MarginaliaError",
    "ModelError",
    "ModerationDecision",
    "Moderator",
    "Probability",
    "RecordScores",
    "Result",
    "Scorer",
    "ServiceError",
    "Settings",
    "Taxonomy",
    "__version__",
    "evaluate",
    "load_guard",
    "load_taxonomy",
]

_MODULES = {
    "EvaluationResult": "pipeline.in_memory.evaluation_result",
    "Guard": "scoring.guard",
    "ModerationDecision": "scoring.moderation_decision",
    "Moderator": "scoring.moderator",
    "Probability": "scoring.scored_record",
    "RecordScores": "scoring.record_scores",
    "Result": "scoring.scored_record",
    "Scorer": "scoring.scorer",
    "Settings": "scoring.score_request",
    "Taxonomy": "schemas.taxonomy",
    "evaluate": "pipeline.in_memory.evaluate_frames",
    "load_guard": "scoring.guard",
    "load_taxonomy": "schemas.taxonomy",
}

# In a checkout the packages are next to this folder, not in it. The symbolic links in this folder are for type checkers
# and editors, which do not know setuptools' package-dir; Python does not use them.
_HERE = Path(__file__).parent
if (_HERE / "schemas").is_symlink() or not (_HERE / "schemas").is_dir():
    __path__.insert(0, str(_HERE.parent))


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'marginalia' has no attribute {name!r}")
    return getattr(import_module(f"marginalia.{_MODULES.get(name, 'schemas.errors')}"), name)


def __dir__() -> list[str]:
    return __all__
