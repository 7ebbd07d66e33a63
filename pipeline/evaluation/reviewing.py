"""What people add: sending the least certain records to a reviewer, and the annotators' own disagreement."""

from __future__ import annotations

import numpy as np

from schemas.evaluation import ReviewPoint, SoftMetrics
from scoring.intervals import Array, Flags

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


def review_points(truth: Flags, predicted: Flags, calibrated: Array) -> list[ReviewPoint]:
    """Risk and coverage over (n, L): records by expected wrong labels Σ min(p, 1 - p), least certain reviewed first.

    Reviewers are taken to give the gold labels. Equal certainty keeps the order of records."""
    n = len(truth)
    if n == 0:
        return []
    order = np.argsort(-np.minimum(calibrated, 1 - calibrated).sum(1), kind="stable")
    wrong = (truth != predicted)[order]
    points = []
    for asked in SHARES:
        kept = wrong[int(asked * n) :]
        errors = int(kept.any(1).sum())
        points.append(
            ReviewPoint(
                share_reviewed=1 - len(kept) / n,
                n_kept=len(kept),
                hamming_loss=float(kept.mean()) if len(kept) else None,
                subset_error=errors / len(kept) if len(kept) else None,
                subset_error_overall=errors / n,
            )
        )
    return points


def soft_metrics(soft: Array, p: Array) -> SoftMetrics | None:
    """Mean squared error of `p` against single votes, split into the guard's part and the annotators' own.

    `soft` is (n, L), NaN where gold has no soft labels; None when no record has them."""
    known = np.isfinite(soft).all(axis=1) if soft.shape[1] else np.zeros(len(soft), dtype=bool)
    if not known.any():
        return None
    guard = float(np.mean((p[known] - soft[known]) ** 2))
    disagreement = float(np.mean(soft[known] * (1 - soft[known])))
    total = guard + disagreement
    return SoftMetrics(
        n=int(known.sum()),
        brier_against_votes=total,
        guard=guard,
        disagreement=disagreement,
        share_disagreement=disagreement / total if total > 0 else None,
    )
